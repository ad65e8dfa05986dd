"""POST /v1/super-resolve."""

import asyncio
import base64
import dataclasses
import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.context import Context
from pixeltier.service.api.negotiate import accept_of, choose
from pixeltier.service.api.openapi import INFERENCE_PROBLEMS, RESULT_HEADERS, image_body
from pixeltier.service.api.parameters import Options, SuperResolveHeaders, SuperResolveQuery, documented, read
from pixeltier.service.api.perform import MakeJob, perform
from pixeltier.service.api.schemas import AnswerMeta, SuperResolveDocument, meta
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import record_of
from pixeltier.service.work.messages import ImportanceMap, OutputFormat, SuperResolveAnswer, SuperResolveJob

router = APIRouter(tags=["inference"])

MEDIA_TYPES: dict[str, OutputFormat] = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image at exactly four times its size. With include=importance: JSON that "
        "holds the image in base64 and the importance map.",
        "headers": {**RESULT_HEADERS, "Vary": {"description": "Accept", "schema": {"type": "string"}}},
        "model": SuperResolveDocument,
        "content": dict.fromkeys(MEDIA_TYPES, _BINARY),
    },
    **INFERENCE_PROBLEMS,
}


@router.post(
    "/v1/super-resolve",
    summary="Enlarge an image four times",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=documented(SuperResolveQuery, SuperResolveHeaders) | image_body(SuperResolveQuery),
)
async def super_resolve(request: Request, context: Context) -> Response:
    """Super-resolve an image at a tier or a threshold; format by `format` or by Accept."""
    given = read(request, SuperResolveQuery, SuperResolveHeaders)
    settings = context.settings

    def make_job(options: Options) -> MakeJob:
        format_ = _format(options, accept_of(request))

        def job(body: bytes, threshold: float) -> SuperResolveJob:
            return SuperResolveJob(
                body=body,
                threshold=threshold,
                format=format_,
                quality=options.quality,
                importance=options.include == "importance",
                max_pixels=settings.sr_max_pixels,
                max_output_pixels=settings.sr_max_output_pixels,
            )

        return job

    answer = await perform(request, context, Task.SUPER_RESOLVE, given, make_job)
    if not isinstance(answer, SuperResolveAnswer):
        raise TypeError(f"a super-resolve job answered with {type(answer).__name__}")
    vary = {"Vary": "Accept"}
    if answer.importance is None:
        return Response(answer.body, headers=vary, media_type=f"image/{answer.format}")
    # Large: base64 and joining take a while for 64 megapixels, so not on the event loop.
    common = meta(record_of(request), context.catalogue.models[Task.SUPER_RESOLVE])
    body = await asyncio.to_thread(_json, common, answer, answer.importance)
    return Response(body, headers=vary, media_type="application/json")


def _format(options: Options, accept: str | None) -> OutputFormat:
    """The result's format: the parameter, else the best of Accept, PNG first."""
    wants_json = options.include is not None
    if options.format is not None and not wants_json:
        return options.format
    chosen = choose(accept, tuple(MEDIA_TYPES))
    if wants_json and chosen is None and choose(accept, ("application/json",)) is not None:
        chosen = "image/png"
    if chosen is None:
        offered = ", ".join((*MEDIA_TYPES, *(("application/json",) if wants_json else ())))
        raise ProblemError(Problem.NOT_ACCEPTABLE, f"the result can be {offered}", headers={"Vary": "Accept"})
    return options.format or MEDIA_TYPES[chosen]


def _json(common: AnswerMeta, answer: SuperResolveAnswer, importance: ImportanceMap) -> bytes:
    head = common.model_dump_json().encode()
    shown = json.dumps(dataclasses.asdict(importance), separators=(",", ":")).encode()
    image = (
        f'{{"media_type":"image/{answer.format}","width":{answer.width},"height":{answer.height},"base64":"'.encode()
        + base64.b64encode(answer.body)
        + b'"}'
    )
    return head[:-1] + b',"image":' + image + b',"importance":' + shown + b"}"
