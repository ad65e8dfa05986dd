"""The parameters of an Open Inference request: its JSON's over its query over its headers, as one rule with /v1."""

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from pixeltier.service.api.parameters import Options, headers_of, headers_once, merge, once, query_of
from pixeltier.service.api.tensors import InferRequest
from pixeltier.service.problems import FieldError, Problem, ProblemError
from pixeltier.service.task_specs.registry import AnyTaskSpec

Model = TypeVar("Model", bound=BaseModel)

_ALTERNATIVES = {"tier", "threshold"}


class ProtocolParameters(BaseModel):
    """What the protocol's extensions define among a request's `parameters`; the others are those of /v1's query."""

    model_config = ConfigDict(extra="ignore")

    binary_data_output: StrictBool = False
    timeout: int = Field(0, ge=0, le=2**62, description="Deadline in microseconds; 0: the service's own.")
    priority: int = Field(0, ge=0, le=7, description="Urgency of RFC 9218; 0: the default.")


def read_options(
    spec: AnyTaskSpec, asked: InferRequest, request: Request
) -> tuple[Options, ProtocolParameters]:
    """What a request asks for.

    Raises:
        ProblemError: validation, naming each parameter that is unknown, not valid or given twice in one place.
    """
    protocol = _validated(ProtocolParameters, asked.parameters, "parameters")
    ours = {
        name: value for name, value in asked.parameters.items() if name not in ProtocolParameters.model_fields
    }
    query = once(request)
    _validated(query_of(spec), query, "query")
    if ours.keys() & _ALTERNATIVES:  # they answer the same question: the stronger place alone
        query = {name: value for name, value in query.items() if name not in _ALTERNATIVES}
    _validated(query_of(spec), ours, "parameters")
    values = query | ours
    if any(output.name == "importance" for output in asked.outputs or ()):
        values["include"] = "importance"
    headers = _validated(headers_of(spec), _headers(spec, request, protocol), "header")
    return merge(spec, _validated(query_of(spec), values, "parameters"), headers), protocol


def _headers(spec: AnyTaskSpec, request: Request, protocol: ProtocolParameters) -> dict[str, str]:
    values = headers_once(request, headers_of(spec))
    if protocol.timeout:
        values.setdefault("x_request_timeout_ms", str(min(2**31, max(1, protocol.timeout // 1000))))
    if protocol.priority:
        values["priority"] = f"u={protocol.priority}"
    return values


def _validated(model: type[Model], values: dict[str, Any], place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        known = list(model.model_fields)
        raise _refusal([(_field(place, one), _message(one, known)) for one in error.errors()]) from error


def _field(place: str, error: ErrorDetails) -> str:
    names = [str(part)[:64] for part in error["loc"]]
    return ".".join((place, *(name.replace("_", "-") if place == "header" else name for name in names)))


def _message(error: ErrorDetails, known: list[str]) -> str:
    if error["type"] != "extra_forbidden":
        return error["msg"]
    near = difflib.get_close_matches(str(error["loc"][-1])[:64], known, n=1)
    return "there is no such parameter" + (f"; did you mean {near[0]}?" if near else "")


def _refusal(errors: list[tuple[str, str]]) -> ProblemError:
    fields = [FieldError(field=field, message=message) for field, message in errors]
    detail = "; ".join(f"{one.field}: {one.message}" for one in fields)
    return ProblemError(Problem.VALIDATION, detail[:1000], errors=fields)
