"""Parameters of a task: by query, by header of the same name, or by form field beside the file.

The query wins, then the header. Within one place nothing may be said twice, nor may two values contradict each other.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, create_model
from starlette.requests import Request

from pixeltier.service.problems import FieldError, Problem, ProblemError
from pixeltier.service.task_specs.registry import AnyTaskSpec
from pixeltier.service.tasks import CUSTOM_TIER, Task
from pixeltier.service.tiers.store import Snapshot, UnknownTierError

Model = TypeVar("Model", bound=BaseModel)

TierText = Annotated[
    str,
    Field(
        max_length=64,
        description="Quality tier; GET /v1/tiers lists them. The table's default if absent.",
        examples=["balanced"],
    ),
]
ThresholdValue = Annotated[
    float,
    Field(
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Share of an average image to skip, instead of a tier: 0 computes every pixel.",
    ),
]
MaxMacsRatio = Annotated[
    float,
    Field(
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Most MACs to execute, as a share of the dense network's on this image. Never exceeded: the "
        "threshold is raised as far as the image's own importance map demands. Without tier or threshold: the "
        "best quality within it.",
        examples=[0.4],
    ),
]
MaxLatencyMs = Annotated[
    float,
    Field(
        gt=0.0,
        le=600_000.0,
        allow_inf_nan=False,
        description="Target for the milliseconds from the request's first byte to its answer, queue included: the "
        "threshold is raised as far as the service's latency model demands. See X-Latency-Predicted-Ms.",
        examples=[250],
    ),
]
Degradable = Annotated[
    bool, Field(description="Whether a faster tier may answer under load; X-Tier-Effective then names it.")
]
Include = Annotated[
    Literal["importance"], Field(description="`importance` adds the importance map to the answer.")
]


class Query(BaseModel):
    """What every task is asked, as a query, a form or the protocol's `parameters` say it."""

    model_config = ConfigDict(extra="forbid")

    tier: TierText | None = None
    threshold: ThresholdValue | None = None
    max_macs_ratio: MaxMacsRatio | None = None
    max_latency_ms: MaxLatencyMs | None = None
    degradable: Degradable | None = None
    include: Include | None = None


class Headers(BaseModel):
    """The same as headers, and what only a header says."""

    x_tier: TierText | None = None
    x_threshold: ThresholdValue | None = None
    x_max_macs_ratio: MaxMacsRatio | None = None
    x_max_latency_ms: MaxLatencyMs | None = None
    x_degradable: Degradable | None = None
    x_include: Include | None = None
    x_request_timeout_ms: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**31,
            description="Deadline, from the request's first byte; capped by the service's own.",
        ),
    ] = None
    x_request_id: Annotated[
        str | None, Field(description="Taken over if it matches ^[A-Za-z0-9_-]{1,64}$, else replaced.")
    ] = None
    prefer: Annotated[
        str | None,
        Field(
            description="RFC 7240; `respond-async` takes 202 for an answer, `wait=5` after so many seconds.",
            examples=["respond-async, wait=1"],
        ),
    ] = None
    priority: Annotated[
        str | None, Field(description="RFC 9218; `u=4` to `u=7` let others go first.", examples=["u=5"])
    ] = None


@functools.cache
def query_of(spec: AnyTaskSpec) -> type[Query]:
    """The query of a task's route: what every task is asked and what only this one is."""
    return create_model(f"{type(spec).__name__}Query", __base__=Query, **_optional(spec.parameters))


@functools.cache
def headers_of(spec: AnyTaskSpec) -> type[Headers]:
    """The headers of a task's route, likewise."""
    return create_model(f"{type(spec).__name__}Headers", __base__=Headers, **_optional(spec.parameters, "x_"))


def _optional(parameters: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """A task's own parameters as fields without a default: only what is said is merged."""
    return {
        prefix + name: (
            Annotated[field.rebuild_annotation(), Field(description=field.description)] | None,
            None,
        )
        for name, field in parameters.model_fields.items()
    }


@dataclass(frozen=True, slots=True)
class Given:
    """What query and headers say; a form's fields come later, with the body."""

    spec: AnyTaskSpec
    query: Query
    headers: Headers

    def options(self, form: Mapping[str, str] | None = None) -> "Options":
        """Everything merged.

        Raises:
            RequestValidationError, ProblemError: as `read`, for the form's fields.
        """
        fields = _validated(query_of(self.spec), form, "form") if form else None
        return merge(self.spec, self.query, self.headers, fields)


def read(request: Request, spec: AnyTaskSpec) -> Given:
    """The request's parameters. FastAPI would read them by the same models, in a third of a millisecond.

    Raises:
        RequestValidationError: with the places as FastAPI names them.
        ProblemError: validation, where one is given twice.
    """
    given = headers_once(request, headers_of(spec))
    return Given(
        spec,
        _validated(query_of(spec), once(request), "query"),
        _validated(headers_of(spec), given, "header"),
    )


_LISTS = frozenset({"prefer", "priority"})
"""Headers whose lines make one list (RFC 9110, 5.3)."""

_FIRST_COUNTS = frozenset({"x-request-id"})
"""No parameter, and a proxy may add one; the middleware takes the first, too."""


def once(request: Request) -> dict[str, str]:
    """The query, in which nothing may stand twice.

    Raises:
        ProblemError: validation.
    """
    return _once(request.query_params.multi_items(), "query")


def headers_once(request: Request, headers: type[BaseModel]) -> dict[str, str]:
    """The headers that the model has fields for, by the fields' names; raises as `once`."""
    names = _header_names(headers)
    lines = [
        (name.decode(), value.decode("latin-1")) for name, value in request.scope["headers"] if name in names
    ]
    return {name.replace("-", "_"): value for name, value in _once(lines, "header").items()}


def _once(given: Iterable[tuple[str, str]], place: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in given:
        if name not in found:
            found[name] = value
        elif name in _LISTS:
            found[name] += f", {value}"
        elif name not in _FIRST_COUNTS:
            raise _refused(f"{place}.{name[:64]}", "the parameter is given twice; which one is meant?")
    return found


def _refused(field: str, message: str) -> ProblemError:
    return ProblemError(
        Problem.VALIDATION, f"{field}: {message}", errors=[FieldError(field=field, message=message)]
    )


@functools.cache
def _header_names(headers: type[BaseModel]) -> frozenset[bytes]:
    return frozenset(name.replace("_", "-").encode() for name in headers.model_fields)


def _validated(model: type[Model], values: Mapping[str, str], place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        spell = (lambda name: str(name).replace("_", "-")) if place == "header" else (lambda name: name)
        raise RequestValidationError(
            [{**one, "loc": (place, *map(spell, one["loc"]))} for one in error.errors()]
        ) from error


def documented(spec: AnyTaskSpec) -> dict[str, Any]:
    """The OpenAPI operation's `parameters` of what `read` reads."""
    return {"parameters": [*_documented(query_of(spec), "query"), *_documented(headers_of(spec), "header")]}


def _documented(model: type[BaseModel], place: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name.replace("_", "-") if place == "header" else name,
            "in": place,
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in form_fields(model).items()
    ]


def form_fields(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """JSON Schema of each parameter, which a form may hold beside its file."""
    properties: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    return {
        name: next(one for one in schema["anyOf"] if one != {"type": "null"})
        for name, schema in properties.items()
    }


class Options(BaseModel):
    """Query and headers merged, defaults filled in; `own` is what only the task is asked, its `parameters`."""

    model_config = ConfigDict(frozen=True)

    own: SerializeAsAny[BaseModel]
    tier: str | None = None
    threshold: float | None = None
    max_macs_ratio: float | None = None
    max_latency_ms: float | None = None
    degradable: bool | None = None
    include: Literal["importance"] | None = None
    timeout_ms: int | None = None
    urgency: int = 3


def defaults(spec: AnyTaskSpec) -> Options:
    """What a request is asked that says nothing."""
    return Options(own=spec.parameters())


def merge(spec: AnyTaskSpec, query: Query, headers: Headers, form: Query | None = None) -> Options:
    """Query over headers over form over defaults.

    Raises:
        ProblemError: validation, where tier and threshold of one place contradict each other.
    """
    said = headers.model_dump(exclude_none=True)
    values: dict[str, Any] = {}
    for place in (
        {} if form is None else form.model_dump(exclude_none=True),
        {name.removeprefix("x_"): value for name, value in said.items() if name.startswith("x_")},
        query.model_dump(exclude_none=True),
    ):
        if "tier" in place and "threshold" in place:
            message = "give a tier or a threshold, not both"
            raise ProblemError(
                Problem.VALIDATION, message, errors=[FieldError(field="threshold", message=message)]
            )
        # A tier overrides a threshold of a weaker place, and the reverse: they answer the same question.
        if place.keys() & {"tier", "threshold"}:
            values.pop("tier", None)
            values.pop("threshold", None)
        values |= place
    own = {name: values.pop(name) for name in spec.parameters.model_fields if name in values}
    values["timeout_ms"] = values.pop("request_timeout_ms", None)
    values.pop("request_id", None)
    return Options(own=_own(spec, own), **values, urgency=_urgency(headers.priority))


def _own(spec: AnyTaskSpec, values: dict[str, Any]) -> BaseModel:
    """A task's own parameters, each of which is valid, together.

    Raises:
        ProblemError: validation, where they contradict each other.
    """
    try:
        found: BaseModel = spec.parameters.model_validate(values)
    except ValidationError as error:
        said = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        fields = [FieldError(field=", ".join(values), message=message) for message in said]
        raise ProblemError(Problem.VALIDATION, "; ".join(said), errors=fields) from error
    return found


def _urgency(priority: str | None) -> int:
    """RFC 9218's urgency; `Access` then sees to it that nobody jumps the queue without leave."""
    urgency = 3
    for part in (priority or "").split(","):
        key, _, value = part.strip().partition("=")
        if key == "u" and value.isdecimal() and len(value) == 1:
            urgency = min(7, int(value))  # of a key given twice the last counts (RFC 8941, 3.2)
    return urgency


def resolve(options: Options, snapshot: Snapshot, task: Task) -> tuple[str, float]:
    """The tier's name and threshold for a request.

    Raises:
        ProblemError: unknown-tier, listing the known ones.
    """
    if options.threshold is not None:
        return CUSTOM_TIER, options.threshold
    if options.tier is None and (options.max_macs_ratio is not None or options.max_latency_ms is not None):
        return CUSTOM_TIER, 0.0  # a budget instead of a tier: the best quality within it
    try:
        tier = snapshot.tier(options.tier)
    except UnknownTierError as error:
        raise ProblemError(Problem.UNKNOWN_TIER, str(error), known_tiers=error.known) from error
    return tier.name, snapshot.threshold(tier.name, task)
