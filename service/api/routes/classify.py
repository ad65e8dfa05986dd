"""POST /v1/classify."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.context import Context
from pixeltier.service.api.negotiate import accept_of, choose
from pixeltier.service.api.openapi import INFERENCE_PROBLEMS, RESULT_HEADERS, image_body
from pixeltier.service.api.parameters import ClassifyHeaders, ClassifyQuery, Options, documented, read
from pixeltier.service.api.perform import MakeJob, perform
from pixeltier.service.api.schemas import ClassifyDocument, ImportanceDocument, Prediction, meta
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import record_of
from pixeltier.service.work.messages import ClassifyAnswer, ClassifyJob

router = APIRouter(tags=["inference"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ClassifyDocument, "description": "The best classes.", "headers": RESULT_HEADERS},
    **INFERENCE_PROBLEMS,
}


@router.post(
    "/v1/classify",
    summary="Name what an image shows",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=documented(ClassifyQuery, ClassifyHeaders) | image_body(ClassifyQuery),
)
async def classify(request: Request, context: Context) -> Response:
    """Classify an image into the 1000 classes of ImageNet, at a tier or a threshold."""
    if choose(accept_of(request), ("application/json",)) is None:
        raise ProblemError(Problem.NOT_ACCEPTABLE, "classification answers application/json")
    given = read(request, ClassifyQuery, ClassifyHeaders)

    def make_job(options: Options) -> MakeJob:
        def job(body: bytes, threshold: float) -> ClassifyJob:
            return ClassifyJob(
                body=body,
                threshold=threshold,
                top_k=options.top_k,
                importance=options.include == "importance",
                max_pixels=context.settings.classify_max_pixels,
            )

        return job

    answer = await perform(request, context, Task.CLASSIFY, given, make_job)
    if not isinstance(answer, ClassifyAnswer):
        raise TypeError(f"a classify job answered with {type(answer).__name__}")
    shown = answer.importance
    document = ClassifyDocument(
        **meta(record_of(request), context.catalogue.models[Task.CLASSIFY]).model_dump(),
        predictions=[
            Prediction(index=index, label=context.catalogue.label(index), probability=probability)
            for index, probability in answer.predictions
        ],
        importance=None
        if shown is None
        else ImportanceDocument(height=shown.height, width=shown.width, values=shown.values),
    )
    body = document.model_dump_json(exclude={"importance"} if shown is None else None)
    return Response(body, media_type="application/json")
