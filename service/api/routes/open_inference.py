"""Open Inference Protocol v2 (KServe, Triton): /v2. Errors here are `{"error": "..."}`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api import tensors
from service.api.access import Limits
from service.api.body import read_bytes
from service.api.context import AppContext, Context
from service.api.parameters import (
    ClassifyHeaders,
    ClassifyQuery,
    Options,
    SuperResolveHeaders,
    SuperResolveQuery,
    merge,
    resolve,
)
from service.api.perform import deadline_of, in_time, submit
from service.api.problems import FieldError, Problem, ProblemError
from service.api.record import RequestRecord, record_of
from service.api.tensors import JSON_OVERHEAD, InferRequest, Tensor, TensorError
from service.tasks import Task
from service.worker.messages import ClassifyAnswer, ClassifyJob, Job, SuperResolveAnswer, SuperResolveJob

router = APIRouter(tags=["open inference"])

PROTOCOL_PARAMETERS = frozenset(
    {"binary_data_output", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "headers"}
)
"""Keys that the protocol's clients put among the parameters; ours are those of the query of /v1."""

OFF_LOOP_BYTES = 256 * 1024
"""Larger JSON is parsed in a thread: base64 and JSON of megabytes would hold up every other request."""


class ErrorDocument(BaseModel):
    """The body of every error below /v2."""

    error: str = Field(examples=["unknown-tier: there is no tier 'turbo'; the tiers are exact, high, ..."])


class ServerDocument(BaseModel):
    """What this server is."""

    name: str = "pixeltier"
    version: str = __version__
    extensions: list[str] = ["binary_tensor_data"]


class TensorDocument(BaseModel):
    """What a tensor looks like."""

    name: str
    datatype: str
    shape: list[int]


class ModelDocument(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(protected_namespaces=())

    name: str = Field(examples=["classify"])
    versions: list[str] = Field(examples=[["2026.11.0"]])
    platform: str = "pixeltier"
    inputs: list[TensorDocument]
    outputs: list[TensorDocument]


class InferDocument(BaseModel):
    """An answer without binary data."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = Field(description="Tier, threshold and MACs of the answer.")
    outputs: list[dict[str, Any]]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorDocument} for status in statuses}


_INPUTS = [TensorDocument(name="image", datatype="BYTES", shape=[1])]
_MAP = TensorDocument(name="importance", datatype="FP32", shape=[-1, -1])
_OUTPUTS = {
    Task.CLASSIFY: [
        TensorDocument(name="labels", datatype="BYTES", shape=[1, -1]),
        TensorDocument(name="indices", datatype="INT32", shape=[1, -1]),
        TensorDocument(name="probabilities", datatype="FP32", shape=[1, -1]),
        _MAP,
    ],
    Task.SUPER_RESOLVE: [TensorDocument(name="image", datatype="BYTES", shape=[1]), _MAP],
}


def _task(name: str) -> Task:
    try:
        return Task(name)
    except ValueError:
        known = ", ".join(task.value for task in Task)
        raise ProblemError(
            Problem.NOT_FOUND, f"there is no model {name[:64]!r}; the models are {known}"
        ) from None


@router.get("/v2", summary="Server metadata")
async def server() -> ServerDocument:
    """Name, version and extensions."""
    return ServerDocument()


@router.get("/v2/health/live", summary="Is the process alive?")
async def live() -> dict[str, bool]:
    """As /healthz."""
    return {"live": True}


def _check_ready(context: AppContext) -> None:
    report = context.pool.report()
    if not report.ready:
        raise ProblemError(Problem.NOT_READY, report.why_not, retry_after_s=1)


@router.get("/v2/health/ready", summary="Does the service take work?", responses=_errors(503))
async def ready(context: Context) -> dict[str, bool]:
    """As /readyz."""
    _check_ready(context)
    return {"ready": True}


@router.get("/v2/models/{model}", summary="Model metadata", responses=_errors(404, 422))
async def model_metadata(model: str, context: Context) -> ModelDocument:
    """Tensors a model takes and gives."""
    task = _task(model)
    version = context.catalogue.models[task].version
    return ModelDocument(name=task.value, versions=[version], inputs=_INPUTS, outputs=_OUTPUTS[task])


@router.get("/v2/models/{model}/ready", summary="Does the model take work?", responses=_errors(404, 422, 503))
async def model_ready(model: str, context: Context) -> dict[str, Any]:
    """As /readyz, for a model that exists."""
    task = _task(model)
    _check_ready(context)
    return {"name": task.value, "ready": True}


@router.post(
    "/v2/models/{model}/infer",
    summary="Run a model on one image",
    response_class=Response,
    responses={
        200: {
            "model": InferDocument,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **_errors(401, 403, 404, 413, 422, 429, 500, 503, 504),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
        }
    },
)
async def infer(
    model: str,
    request: Request,
    context: Context,
    inference_header_content_length: Annotated[str | None, Header()] = None,
) -> Response:
    """One BYTES tensor `image` of shape [1]; `parameters` are those of the query of /v1."""
    task = _task(model)
    record = record_of(request)
    record.task = task
    with context.access.admit(request) as limits:
        return await _infer(request, context, task, inference_header_content_length, limits)


async def _infer(
    request: Request, context: AppContext, task: Task, header_length: str | None, limits: Limits
) -> Response:
    limit = context.settings.max_body_bytes * 4 // 3 + JSON_OVERHEAD
    body = await in_time(request, read_bytes(request, limit), deadline_of(request, context, Options()))
    try:
        if len(body) > OFF_LOOP_BYTES:
            asked, image = await asyncio.to_thread(tensors.parse, body, header_length)
        else:
            asked, image = tensors.parse(body, header_length)
        options = _options(task, asked, request)
        resolve(options, context.tiers.snapshot, task)
        job = _make_job(task, options, context)
        answer = await submit(request, context, task, options, job, image, limits)
        outputs = tensors.select(asked, _tensors(answer, context))
    except TensorError as error:
        raise ProblemError(Problem.VALIDATION, str(error)) from error
    document = {
        "model_name": task.value,
        "model_version": context.catalogue.models[task].version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": _parameters(record_of(request)),
    }
    content, headers = await asyncio.to_thread(tensors.compose, document, outputs)
    return Response(content, headers=headers)


def _options(task: Task, asked: InferRequest, request: Request) -> Options:
    """The protocol's `parameters` are our query; `timeout` (microseconds) is our deadline."""
    ours = {name: value for name, value in asked.parameters.items() if name not in PROTOCOL_PARAMETERS}
    if any(output.name == "importance" for output in asked.outputs or ()):
        ours["include"] = "importance"
    timeout_ms = request.headers.get("x-request-timeout-ms")
    timeout_us = asked.parameters.get("timeout")
    if timeout_ms is None and timeout_us is not None:
        timeout_ms = str(max(1, int(timeout_us) // 1000)) if str(timeout_us).isdecimal() else str(timeout_us)
    try:
        if task is Task.CLASSIFY:
            headers = ClassifyHeaders.model_validate({"x_request_timeout_ms": timeout_ms})
            return merge(ClassifyQuery.model_validate(ours), headers)
        return merge(
            SuperResolveQuery.model_validate(ours),
            SuperResolveHeaders.model_validate({"x_request_timeout_ms": timeout_ms}),
        )
    except ValidationError as error:
        errors = [
            FieldError(field=".".join(("parameters", *map(str, one["loc"]))), message=one["msg"])
            for one in error.errors()
        ]
        detail = "; ".join(f"{one.field}: {one.message}" for one in errors)
        raise ProblemError(Problem.VALIDATION, detail[:1000], errors=errors) from error


def _make_job(task: Task, options: Options, context: AppContext) -> Any:
    settings = context.settings
    importance = options.include == "importance"

    def job(body: bytes, threshold: float) -> Job:
        if task is Task.CLASSIFY:
            return ClassifyJob(body, threshold, options.top_k, importance, settings.classify_max_pixels)
        return SuperResolveJob(
            body=body,
            threshold=threshold,
            format=options.format or "png",
            quality=options.quality,
            importance=importance,
            max_pixels=settings.sr_max_pixels,
            max_output_pixels=settings.sr_max_output_pixels,
        )

    return job


def _tensors(answer: ClassifyAnswer | SuperResolveAnswer, context: AppContext) -> list[Tensor]:
    found: list[Tensor] = []
    if isinstance(answer, ClassifyAnswer):
        shape = [1, len(answer.predictions)]
        found += [
            Tensor(
                "labels", "BYTES", shape, [context.catalogue.label(index) for index, _ in answer.predictions]
            ),
            Tensor("indices", "INT32", shape, [index for index, _ in answer.predictions]),
            Tensor("probabilities", "FP32", shape, [probability for _, probability in answer.predictions]),
        ]
    else:
        found.append(Tensor("image", "BYTES", [1], [answer.body]))
    shown = answer.importance
    if shown is not None:
        values = [value for row in shown.values for value in row]
        found.append(Tensor("importance", "FP32", [shown.height, shown.width], values))
    return found


def _parameters(record: RequestRecord) -> dict[str, Any]:
    work = record.work
    if work is None:
        raise ValueError("the record has no work yet")
    return {
        "tier": record.tier,
        "tier_effective": record.tier_effective,
        "threshold": work.threshold,
        "macs_dense": work.macs_dense,
        "macs_executed": work.macs_executed,
        "macs_saved_ratio": round(record.saved_ratio or 0.0, 6),
        **({} if record.predicted_ms is None else {"predicted_ms": round(record.predicted_ms, 3)}),
        "total_ms": round(record.elapsed_ms, 3),
        "config_version": record.config_version,
        "request_id": record.request_id,
    }
