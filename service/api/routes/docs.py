"""GET /docs."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from pixeltier.service.api.docs_page import render

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page."""
    return HTMLResponse(render(request.app.openapi(), str(request.base_url).rstrip("/")))
