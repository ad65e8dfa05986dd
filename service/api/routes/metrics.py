"""GET /metrics."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.context import Context
from pixeltier.service.api.negotiate import accept_of

router = APIRouter(tags=["health"])

_TEXT = {"schema": {"type": "string"}}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "OpenMetrics where Accept asks for it, else the text format.",
            "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
        }
    },
)
async def metrics(request: Request, context: Context) -> Response:
    """Expose all metrics."""
    body, content_type = context.metrics.expose(accept_of(request) or "")
    return Response(body, headers={"Content-Type": content_type})
