"""GET /docs."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from service.api.docs_page import render

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page."""
    return HTMLResponse(render(request.app.openapi(), str(request.base_url).rstrip("/")))


@router.get("/")
async def root() -> RedirectResponse:
    """A browser that comes to the bare address finds the page."""
    return RedirectResponse("/docs")
