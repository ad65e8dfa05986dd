"""POST /v1/classify, POST /v1/super-resolve: one route for each task that is described."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api import deferred, several
from pixeltier.service.api.context import Context
from pixeltier.service.api.inference import Admission, receive, run_all, until_disconnect
from pixeltier.service.api.job_documents import JobDocument
from pixeltier.service.api.negotiate import accept_of
from pixeltier.service.api.openapi import INFERENCE_PROBLEMS, image_body
from pixeltier.service.api.parameters import documented, query_of, read
from pixeltier.service.api.prefer import preference_of
from pixeltier.service.api.representations import REPRESENTATIONS, JsonRepresentation
from pixeltier.service.telemetry.record import record_of

router = APIRouter(tags=["inference"])

ACCEPTED = {
    "model": JobDocument,
    "description": "With `Prefer: respond-async`: the image is at work, `Location` says where to ask.",
    "headers": {
        "Location": {"description": "The job.", "schema": {"type": "string"}},
        "Preference-Applied": {"description": "`respond-async`", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    },
}


def _endpoint(shown: JsonRepresentation) -> Callable[[Request, Context], Awaitable[Response]]:
    spec = shown.spec

    async def endpoint(request: Request, context: Context) -> Response:
        accept = accept_of(request)
        given = read(request, spec)
        record = record_of(request)
        record.task = spec.task
        preference = preference_of(request)
        with ExitStack() as held:
            visit = held.enter_context(context.access.admit(request))
            images = await receive(
                request,
                Admission(context, visit, record),
                given,
                lambda options, many: shown.settle(options, accept, many),
            )
            if preference.respond_async and deferred.possible(images, context):
                return await deferred.respond(request, context, shown, images[0], held, preference.wait_s)
            if len(images) == 1:
                answer = await until_disconnect(request, images[0].inference.run(images[0].file.content))
                return await shown.respond(answer, record, context.catalogue)
            outcomes = await until_disconnect(request, run_all(images, record))
        named = [(one.file.name, outcome) for one, outcome in zip(images, outcomes, strict=True)]
        return await several.respond(shown, named, record, context.catalogue, accept)

    return endpoint


for _shown in REPRESENTATIONS.values():
    router.add_api_route(
        _shown.spec.route,
        _endpoint(_shown),
        methods=["POST"],
        name=_shown.spec.task.value.replace("-", "_"),
        summary=_shown.spec.summary,
        description=_shown.spec.description,
        response_class=Response,
        responses={200: several.described(_shown), 202: ACCEPTED, **INFERENCE_PROBLEMS},
        openapi_extra=documented(_shown.spec) | image_body(query_of(_shown.spec)),
    )
