"""Parameters of both tasks, by query or by header of the same name; the query wins."""

import functools
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from service.api.problems import FieldError, Problem, ProblemError
from service.tasks import CUSTOM_TIER, Task
from service.tiers.store import Snapshot, UnknownTierError
from service.worker.messages import OutputFormat

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
TopK = Annotated[int, Field(ge=1, le=1000, description="How many classes to name.")]
Format = Annotated[
    Literal["png", "webp", "jpeg", "jpg"], Field(description="Format of the result; stronger than Accept.")
]
Quality = Annotated[int, Field(ge=1, le=100, description="Quality of a WebP or JPEG result.")]


class _Common(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tier: TierText | None = None
    threshold: ThresholdValue | None = None
    max_macs_ratio: MaxMacsRatio | None = None
    max_latency_ms: MaxLatencyMs | None = None
    degradable: Degradable | None = None
    include: Include | None = None


class ClassifyQuery(_Common):
    """Query of POST /v1/classify."""

    top_k: TopK | None = None


class SuperResolveQuery(_Common):
    """Query of POST /v1/super-resolve."""

    format: Format | None = None
    quality: Quality | None = None


class _CommonHeaders(BaseModel):
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
    priority: Annotated[
        str | None, Field(description="RFC 9218; `u=4` to `u=7` let others go first.", examples=["u=5"])
    ] = None


class ClassifyHeaders(_CommonHeaders):
    """Headers of POST /v1/classify."""

    x_top_k: TopK | None = None


class SuperResolveHeaders(_CommonHeaders):
    """Headers of POST /v1/super-resolve."""

    x_format: Format | None = None
    x_quality: Quality | None = None


def read(
    request: Request,
    query: type[ClassifyQuery | SuperResolveQuery],
    headers: type[ClassifyHeaders | SuperResolveHeaders],
) -> "Options":
    """The request's parameters. FastAPI would read them by the same models, in a third of a millisecond.

    Raises:
        RequestValidationError: with the places as FastAPI names them.
        ProblemError: as `merge`.
    """
    names = _header_names(headers)
    given = {
        names[name]: value.decode("latin-1")
        for name, value in reversed(request.scope["headers"])
        if name in names
    }
    return merge(_validated(query, dict(request.query_params), "query"), _validated(headers, given, "header"))


@functools.cache
def _header_names(headers: type[BaseModel]) -> dict[bytes, str]:
    return {name.replace("_", "-").encode(): name for name in headers.model_fields}


def _validated(model: type[Model], values: dict[str, str], place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        spell = (lambda name: str(name).replace("_", "-")) if place == "header" else (lambda name: name)
        raise RequestValidationError(
            [{**one, "loc": (place, *map(spell, one["loc"]))} for one in error.errors()]
        ) from error


def documented(query: type[BaseModel], headers: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI operation's `parameters` of what `read` reads."""
    return {"parameters": [*_documented(query, "query"), *_documented(headers, "header")]}


def _documented(model: type[BaseModel], place: str) -> list[dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    found = []
    for name, schema in properties.items():
        (value,) = (one for one in schema["anyOf"] if one != {"type": "null"})
        found.append(
            {
                "name": name.replace("_", "-") if place == "header" else name,
                "in": place,
                "required": False,
                "description": value.pop("description", ""),
                "schema": value,
            }
        )
    return found


class Options(BaseModel):
    """Query and headers merged, defaults filled in."""

    model_config = ConfigDict(frozen=True)

    tier: str | None = None
    threshold: float | None = None
    max_macs_ratio: float | None = None
    max_latency_ms: float | None = None
    degradable: bool | None = None
    include: Literal["importance"] | None = None
    top_k: int = 5
    format: OutputFormat | None = None
    quality: int = 90
    timeout_ms: int | None = None
    urgency: int = 3


def merge(
    query: ClassifyQuery | SuperResolveQuery, headers: ClassifyHeaders | SuperResolveHeaders
) -> Options:
    """Query over headers over defaults.

    Raises:
        ProblemError: validation, where tier and threshold contradict each other.
    """
    values: dict[str, Any] = {
        name.removeprefix("x_"): value
        for name, value in headers
        if value is not None and name.startswith("x_")
    }
    asked = query.model_dump(exclude_none=True)
    # A tier in the query overrides a threshold in a header, and the reverse: they answer the same question.
    if asked.keys() & {"tier", "threshold"}:
        values.pop("tier", None)
        values.pop("threshold", None)
    values |= asked
    if "tier" in values and "threshold" in values:
        message = "give a tier or a threshold, not both"
        raise ProblemError(
            Problem.VALIDATION, message, errors=[FieldError(field="threshold", message=message)]
        )
    if values.get("format") == "jpg":
        values["format"] = "jpeg"
    values["timeout_ms"] = values.pop("request_timeout_ms", None)
    values.pop("request_id", None)
    return Options(**values, urgency=_urgency(headers.priority))


def _urgency(priority: str | None) -> int:
    """RFC 9218's urgency; `Access` then sees to it that nobody jumps the queue without leave."""
    for part in (priority or "").split(","):
        key, _, value = part.strip().partition("=")
        if key == "u" and value.isdecimal() and len(value) == 1:
            return min(7, int(value))
    return 3


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
