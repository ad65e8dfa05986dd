"""POST /v1/classify, POST /v1/super-resolve: one route for each task that is described."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.context import Context
from pixeltier.service.api.inference import Admission, receive
from pixeltier.service.api.negotiate import accept_of
from pixeltier.service.api.openapi import INFERENCE_PROBLEMS, image_body
from pixeltier.service.api.parameters import documented, query_of, read
from pixeltier.service.api.representations import REPRESENTATIONS, JsonRepresentation
from pixeltier.service.telemetry.record import record_of

router = APIRouter(tags=["inference"])


def _endpoint(shown: JsonRepresentation) -> Callable[[Request, Context], Awaitable[Response]]:
    spec = shown.spec

    async def endpoint(request: Request, context: Context) -> Response:
        accept = accept_of(request)
        given = read(request, spec)
        record = record_of(request)
        record.task = spec.task
        with context.access.admit(request) as client:
            admission = Admission(context, client, record)
            inference, image = await receive(
                request, admission, given, lambda options: shown.settle(options, accept)
            )
            answer = await inference.run(request, image)
        return await shown.respond(answer, record, context.catalogue)

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
        responses={200: _shown.response(), **INFERENCE_PROBLEMS},
        openapi_extra=documented(_shown.spec) | image_body(query_of(_shown.spec)),
    )
