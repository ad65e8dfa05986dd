"""Open Inference Protocol v2 (KServe, Triton): the server and inference. Errors here are `{"error": "..."}`.

What is asked about models stands in `open_inference_models`.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api import tensors
from pixeltier.service.api.access import Limits
from pixeltier.service.api.body import read_bytes
from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.api.open_inference_options import read_options
from pixeltier.service.api.open_inference_schemas import OUTPUTS, ErrorDocument, InferDocument, ServerDocument
from pixeltier.service.api.parameters import Options, resolve
from pixeltier.service.api.perform import deadline_of, in_time, submit
from pixeltier.service.api.served_model import ServedModel, ServedVersion, refuse_query
from pixeltier.service.api.tensors import JSON_OVERHEAD, InferRequest, Tensor, TensorError
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord, record_of
from pixeltier.service.work.messages import (
    ClassifyAnswer,
    ClassifyJob,
    Job,
    SuperResolveAnswer,
    SuperResolveJob,
)

router = APIRouter(tags=["open inference"])

OFF_LOOP_BYTES = 256 * 1024
"""Larger JSON is parsed in a thread: base64 and JSON of megabytes would hold up every other request."""

CLASSIFIED = "probabilities"
"""The output that may be had as classification."""

MAX_CLASSES = 1000
"""As `top_k`; a classification of more classes names these."""


def documented_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` in the protocol's own form."""
    return {status: {"model": ErrorDocument} for status in statuses}


def check_ready(context: AppContext) -> None:
    """Raise the problem not-ready unless the service takes work."""
    report = context.pool.report()
    if not report.ready:
        raise ProblemError(Problem.NOT_READY, report.why_not, retry_after_s=1)


@router.get(
    "/v2",
    summary="Server metadata",
    responses=documented_errors(422),
    dependencies=[Depends(refuse_query)],
)
async def server() -> ServerDocument:
    """Name, version and the extensions that are served whole."""
    return ServerDocument()


@router.get("/v2/health/live", summary="Is the process alive?")
async def live() -> dict[str, bool]:
    """As /healthz."""
    return {"live": True}


@router.get("/v2/health/ready", summary="Does the service take work?", responses=documented_errors(503))
async def ready(context: Context) -> dict[str, bool]:
    """As /readyz."""
    check_ready(context)
    return {"ready": True}


_INFER: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "model": InferDocument,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented_errors(400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
        }
    },
}
HeaderLength = Annotated[str | None, Header()]


@router.post("/v2/models/{model}/infer", summary="Run a model on one image", **_INFER)
async def infer(
    task: ServedModel,
    request: Request,
    context: Context,
    inference_header_content_length: HeaderLength = None,
) -> Response:
    """One BYTES tensor `image` of shape [1]; `parameters` are those of the query of /v1."""
    return await _admitted(request, context, task, inference_header_content_length)


@router.post("/v2/models/{model}/versions/{version}/infer", summary="Run a version on one image", **_INFER)
async def infer_version(
    task: ServedVersion,
    request: Request,
    context: Context,
    inference_header_content_length: HeaderLength = None,
) -> Response:
    """As without the version, which must be the one in force."""
    return await _admitted(request, context, task, inference_header_content_length)


async def _admitted(request: Request, context: AppContext, task: Task, header_length: str | None) -> Response:
    record_of(request).task = task
    with context.access.admit(request) as limits:
        return await _infer(request, context, task, header_length, limits)


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
        _check(asked, task, context)
    except TensorError as error:
        raise ProblemError(Problem.VALIDATION, str(error)) from error
    options, protocol = read_options(task, asked, request)
    resolve(options, context.tiers.snapshot, task)
    classes = min(MAX_CLASSES, max(options.top_k, tensors.classification_count(asked)))
    job = _make_job(task, options, classes, context)
    answer = await submit(request, context, task, options, job, image, limits)
    outputs = tensors.select(
        asked,
        _tensors(answer, context, options.top_k),
        binary_by_default=protocol.binary_data_output,
        classify=_classifier(answer, context),
    )
    document = {
        "model_name": task.value,
        "model_version": context.catalogue.models[task].version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": _parameters(record_of(request)),
    }
    content, headers = await asyncio.to_thread(tensors.compose, document, outputs)
    return Response(content, headers=headers)


def _check(asked: InferRequest, task: Task, context: AppContext) -> None:
    """Before anything is computed: what the request names is what there is."""
    version = context.catalogue.models[task].version
    for key, given, served in (
        ("model_name", asked.model_name, task.value),
        ("model_version", asked.model_version, version),
    ):
        if given not in (None, "", served):
            raise TensorError(f"{key}: the body says {given[:64]!r}, the URL names {served!r}")
    known = [output.name for output in OUTPUTS[task]]
    tensors.check_outputs(asked, known, CLASSIFIED if CLASSIFIED in known else None)


def _make_job(task: Task, options: Options, classes: int, context: AppContext) -> Any:
    settings = context.settings
    importance = options.include == "importance"

    def job(body: bytes, threshold: float) -> Job:
        if task is Task.CLASSIFY:
            return ClassifyJob(body, threshold, classes, importance, settings.classify_max_pixels)
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


def _tensors(answer: ClassifyAnswer | SuperResolveAnswer, context: AppContext, top_k: int) -> list[Tensor]:
    found: list[Tensor] = []
    if isinstance(answer, ClassifyAnswer):
        best = answer.predictions[:top_k]
        shape = [1, len(best)]
        found += [
            Tensor("labels", "BYTES", shape, [context.catalogue.label(index) for index, _ in best]),
            Tensor("indices", "INT32", shape, [index for index, _ in best]),
            Tensor(CLASSIFIED, "FP32", shape, [probability for _, probability in best]),
        ]
    else:
        found.append(Tensor("image", "BYTES", [1], [answer.body]))
    shown = answer.importance
    if shown is not None:
        values = [value for row in shown.values for value in row]
        found.append(Tensor("importance", "FP32", [shown.height, shown.width], values))
    return found


def _classifier(
    answer: ClassifyAnswer | SuperResolveAnswer, context: AppContext
) -> Callable[[str, int], Tensor] | None:
    """The classification extension: the best classes as strings `value:index:label`."""
    if not isinstance(answer, ClassifyAnswer):
        return None

    def classify(output: str, count: int) -> Tensor:
        best = answer.predictions[:count]
        strings = [f"{value:f}:{index}:{context.catalogue.label(index)}" for index, value in best]
        return Tensor(output, "BYTES", [1, len(strings)], strings)

    return classify


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
