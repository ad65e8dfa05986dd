"""Open Inference Protocol v2 (KServe, Triton): the server and inference. Errors here are `{"error": "..."}`.

What is asked about models stands in `open_inference_models`.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api import tensors
from pixeltier.service.api.body import read_bytes
from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.api.inference import Admission, Inference, run_all, submit, until_disconnect
from pixeltier.service.api.multipart import File
from pixeltier.service.api.open_inference_options import read_options
from pixeltier.service.api.open_inference_schemas import OUTPUTS, ErrorDocument, InferDocument, ServerDocument
from pixeltier.service.api.parameters import Options, defaults
from pixeltier.service.api.served_model import ServedModel, ServedVersion, refuse_query
from pixeltier.service.api.tensors import InferRequest, TensorError, body_limit, stacked
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.task_specs.registry import SPECS, AnyTaskSpec
from pixeltier.service.task_specs.spec import importance_tensor
from pixeltier.service.task_specs.tensor import Tensor
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord, record_of
from pixeltier.service.work.messages import RequestAnswer

router = APIRouter(tags=["open inference"])

OFF_LOOP_BYTES = 256 * 1024
"""Larger JSON is parsed in a thread: base64 and JSON of megabytes would hold up every other request."""


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


@router.post("/v2/models/{model}/infer", summary="Run a model on images", **_INFER)
async def infer(
    task: ServedModel,
    request: Request,
    context: Context,
    inference_header_content_length: HeaderLength = None,
) -> Response:
    """One BYTES tensor `image` of shape [N], a compressed image each; `parameters` are those of the query of /v1."""
    return await _admitted(request, context, task, inference_header_content_length)


@router.post("/v2/models/{model}/versions/{version}/infer", summary="Run a version on images", **_INFER)
async def infer_version(
    task: ServedVersion,
    request: Request,
    context: Context,
    inference_header_content_length: HeaderLength = None,
) -> Response:
    """As without the version, which must be the one in force."""
    return await _admitted(request, context, task, inference_header_content_length)


async def _admitted(request: Request, context: AppContext, task: Task, header_length: str | None) -> Response:
    record = record_of(request)
    record.task = task
    with context.access.admit(request) as visit:
        try:
            return await _infer(request, Admission(context, visit, record), SPECS[task], header_length)
        except TensorError as error:
            raise ProblemError(Problem.VALIDATION, str(error)) from error


async def _infer(
    request: Request, admission: Admission, spec: AnyTaskSpec, header_length: str | None
) -> Response:
    context = admission.context
    limit = body_limit(context.settings.max_body_bytes)
    body = await Inference(admission, spec, defaults(spec)).in_time(read_bytes(request, limit))
    if len(body) > OFF_LOOP_BYTES:
        asked, images = await asyncio.to_thread(tensors.parse, body, header_length)
    else:
        asked, images = tensors.parse(body, header_length)
    _check(asked, spec, context)
    options, protocol = read_options(spec, asked, request)
    enough = spec.naming(options.own, tensors.classification_count(asked))
    settled = options.model_copy(update={"own": enough})
    answers = await _run(request, admission, spec, settled, images)
    outputs = tensors.select(
        asked,
        stacked([_tensors(spec, answer, options.own, context) for answer in answers]),
        binary_by_default=protocol.binary_data_output,
        classify=lambda output, count: stacked(
            [[_classification(spec, answer, output, count, context)] for answer in answers]
        )[0],
    )
    document = {
        "model_name": spec.task.value,
        "model_version": context.catalogue.models[spec.task].version,
        **({} if asked.id is None else {"id": asked.id}),
        "parameters": _parameters(admission.record),
    }
    content, headers = await asyncio.to_thread(tensors.compose, document, outputs)
    return Response(content, headers=headers)


async def _run(
    request: Request, admission: Admission, spec: AnyTaskSpec, options: Options, images: list[bytes]
) -> list[RequestAnswer]:
    """Every image's answer. The protocol has no errors of elements: the first problem is the request's.

    Raises:
        ProblemError: of an image, which it names where there are several.
    """
    settings = admission.context.settings
    if len(images) > settings.max_images:
        detail = f"the tensor holds {len(images)} images and the limit is {settings.max_images}"
        raise ProblemError(Problem.VALIDATION, detail)
    named = [File(f"image {place}", "", image) for place, image in enumerate(images)]
    submissions = submit(admission, spec, options, named)
    if len(submissions) == 1:
        return [await until_disconnect(request, submissions[0].inference.run(images[0]))]
    answers = []
    for one, outcome in zip(
        submissions, await until_disconnect(request, run_all(submissions, admission.record)), strict=True
    ):
        if isinstance(outcome, ProblemError):
            raise ProblemError(
                outcome.problem, f"{one.file.name}: {outcome.detail}", retry_after_s=outcome.retry_after_s
            ) from outcome
        answers.append(outcome)
    return answers


def _check(asked: InferRequest, spec: AnyTaskSpec, context: AppContext) -> None:
    """Before anything is computed: what the request names is what there is."""
    version = context.catalogue.models[spec.task].version
    for key, given, served in (
        ("model_name", asked.model_name, spec.task.value),
        ("model_version", asked.model_version, version),
    ):
        if given not in (None, "", served):
            raise TensorError(f"{key}: the body says {given[:64]!r}, the URL names {served!r}")
    tensors.check_outputs(asked, [output.name for output in OUTPUTS[spec.task]], spec.classified)


def _tensors(spec: AnyTaskSpec, answer: RequestAnswer, own: BaseModel, context: AppContext) -> list[Tensor]:
    found = spec.tensors(answer, own, context.catalogue)
    return found if answer.importance is None else [*found, importance_tensor(answer.importance)]


def _classification(
    spec: AnyTaskSpec, answer: RequestAnswer, output: str, count: int, context: AppContext
) -> Tensor:
    """The classification extension: the best classes as strings."""
    best = spec.classification(answer, count, context.catalogue)
    return Tensor(output, "BYTES", [1, len(best)], best)


def _parameters(record: RequestRecord) -> dict[str, Any]:
    macs, work = record.macs, record.work
    if macs is None:
        raise ValueError("the record has no work yet")
    return {
        "tier": record.tier,
        "tier_effective": record.tier_effective,
        **({} if work is None else {"threshold": work.threshold}),
        "macs_dense": macs[0],
        "macs_executed": macs[1],
        "macs_saved_ratio": round(record.saved_ratio or 0.0, 6),
        **({} if record.predicted_ms is None else {"predicted_ms": round(record.predicted_ms, 3)}),
        "total_ms": round(record.elapsed_ms, 3),
        "config_version": record.config_version,
        "request_id": record.request_id,
    }
