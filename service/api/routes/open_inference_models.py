"""What clients of the Open Inference Protocol ask about models: metadata, readiness, configuration, statistics."""

import json
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.requests import Request

from pixeltier.service.api.body import read_bytes
from pixeltier.service.api.context import AppContext, Context
from pixeltier.service.api.open_inference_schemas import (
    CONFIG_TYPES,
    INPUTS,
    OUTPUTS,
    DurationDocument,
    IndexEntry,
    IndexRequest,
    InferenceStatsDocument,
    ModelConfigDocument,
    ModelDocument,
    ModelListDocument,
    ModelStatsDocument,
    StatsDocument,
    TensorConfigDocument,
    TensorDocument,
)
from pixeltier.service.api.routes.open_inference import check_ready, documented_errors
from pixeltier.service.api.served_model import ServedModel, ServedVersion, refuse_query
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.inference_statistics import Duration

router = APIRouter(tags=["open inference"], dependencies=[Depends(refuse_query)])

_INDEX_BODY_BYTES = 64 * 1024

_KNOWN = documented_errors(404, 422)
_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"


@router.get("/v2/models", summary="The models' names", responses=documented_errors(422))
async def models() -> ModelListDocument:
    """As KServe's own server lists them."""
    return ModelListDocument(models=[task.value for task in Task])


# Before the routes with a model's name, which would take `stats` for one.
@router.get("/v2/models/stats", summary="Statistics of all models", responses=documented_errors(422))
async def all_statistics(context: Context) -> StatsDocument:
    """Counts and durations since the process started."""
    return _statistics(context, *Task)


@router.get(_MODEL, summary="Model metadata", responses=_KNOWN)
async def model_metadata(task: ServedModel, context: Context) -> ModelDocument:
    """Tensors a model takes and gives."""
    return _metadata(context, task)


@router.get(_VERSION, summary="Model metadata of a version", responses=_KNOWN)
async def version_metadata(task: ServedVersion, context: Context) -> ModelDocument:
    """As without the version."""
    return _metadata(context, task)


@router.get(
    f"{_MODEL}/ready", summary="Does the model take work?", responses=documented_errors(404, 422, 503)
)
async def model_ready(task: ServedModel, context: Context) -> dict[str, Any]:
    """As /readyz, for a model that exists."""
    check_ready(context)
    return {"name": task.value, "ready": True}


@router.get(
    f"{_VERSION}/ready", summary="Does this version take work?", responses=documented_errors(404, 422, 503)
)
async def version_ready(task: ServedVersion, context: Context) -> dict[str, Any]:
    """As /readyz, for the version in force."""
    check_ready(context)
    return {"name": task.value, "ready": True}


@router.get(f"{_MODEL}/config", summary="Model configuration", responses=_KNOWN)
async def model_config(task: ServedModel, context: Context) -> ModelConfigDocument:
    """In the words of Triton's model configuration."""
    return _config(context, task)


@router.get(f"{_VERSION}/config", summary="Model configuration of a version", responses=_KNOWN)
async def version_config(task: ServedVersion, context: Context) -> ModelConfigDocument:
    """As without the version."""
    return _config(context, task)


@router.get(f"{_MODEL}/stats", summary="Statistics of a model", responses=_KNOWN)
async def model_statistics(task: ServedModel, context: Context) -> StatsDocument:
    """Counts and durations since the process started."""
    return _statistics(context, task)


@router.get(f"{_VERSION}/stats", summary="Statistics of a version", responses=_KNOWN)
async def version_statistics(task: ServedVersion, context: Context) -> StatsDocument:
    """As without the version."""
    return _statistics(context, task)


@router.post(
    "/v2/repository/index",
    summary="The models and their states",
    responses=documented_errors(400, 413, 415, 422),
    openapi_extra={
        "requestBody": {
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/IndexRequest"}}}
        }
    },
)
async def repository_index(request: Request, context: Context) -> list[IndexEntry]:
    """All models, or with `{"ready": true}` those that take work now."""
    asked = _index_request(await read_bytes(request, _INDEX_BODY_BYTES))
    report = context.pool.report()
    if asked.ready and not report.ready:
        return []
    state = {"state": "READY"} if report.ready else {"state": "UNAVAILABLE", "reason": report.why_not}
    return [
        IndexEntry.model_validate({"name": task.value, "version": model.version, **state})
        for task, model in context.catalogue.models.items()
    ]


def _index_request(body: bytes) -> IndexRequest:
    try:
        return IndexRequest.model_validate(json.loads(body)) if body.strip() else IndexRequest()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        unknown = first["type"] == "extra_forbidden"
        said = "there is no such key; the one key is ready" if unknown else first["msg"]
        raise ProblemError(Problem.VALIDATION, f"{place[:64]}: {said}") from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(Problem.VALIDATION, f"the body is not valid JSON: {error}") from error


def _metadata(context: AppContext, task: Task) -> ModelDocument:
    version = context.catalogue.models[task].version
    return ModelDocument(name=task.value, versions=[version], inputs=INPUTS, outputs=OUTPUTS[task])


def _config(context: AppContext, task: Task) -> ModelConfigDocument:
    spec, settings = SPECS[task], context.settings
    limits = {
        "max_pixels": spec.max_pixels(settings),
        "max_batch": settings.max_batch if spec.batched else 1,
    }
    return ModelConfigDocument(
        name=task.value,
        input=[_tensor_config(tensor) for tensor in INPUTS],
        output=[_tensor_config(tensor) for tensor in OUTPUTS[task]],
        parameters={name: {"string_value": str(value)} for name, value in limits.items()},
    )


def _tensor_config(tensor: TensorDocument) -> TensorConfigDocument:
    return TensorConfigDocument(name=tensor.name, data_type=CONFIG_TYPES[tensor.datatype], dims=tensor.shape)


def _statistics(context: AppContext, *tasks: Task) -> StatsDocument:
    return StatsDocument(model_stats=[_model_statistics(context, task) for task in tasks])


def _model_statistics(context: AppContext, task: Task) -> ModelStatsDocument:
    found = context.metrics.statistics.of[task]
    stages = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    durations: dict[str, Duration] = {name: getattr(found, name) for name in stages}
    return ModelStatsDocument(
        name=task.value,
        version=context.catalogue.models[task].version,
        last_inference=found.last_inference_ms,
        inference_count=found.success.count,
        execution_count=found.executions,
        inference_stats=InferenceStatsDocument(
            **{name: DurationDocument(count=one.count, ns=one.ns) for name, one in durations.items()}
        ),
    )
