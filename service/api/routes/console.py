"""GET / and the files of the page behind it."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pixeltier.service.api.etags import is_known
from pixeltier.service.console import assets

router = APIRouter(include_in_schema=False)

CONSOLE = assets.load()

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Nothing from elsewhere, nothing inline, and no way to turn text into script or markup."""

_GUARDS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_REVALIDATE = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/")
async def page(request: Request) -> Response:
    """The page: asked for again each time, sent again only when it changed."""
    return _send(request, CONSOLE.index, _REVALIDATE)


@router.get("/console/{digest}/{path:path}")
async def file(request: Request, digest: str, path: str) -> Response:
    """One file of the page.

    The digest of another version gets this version's file, not to be kept: replicas are replaced one by one.
    """
    asset = CONSOLE.files.get(path)
    if asset is None:
        raise HTTPException(404)
    return _send(request, asset, _FOR_EVER if digest == CONSOLE.digest else _REVALIDATE)


def _send(request: Request, asset: assets.Asset, caching: str) -> Response:
    headers = {**_GUARDS, "Cache-Control": caching, "ETag": asset.etag, "Vary": "Accept-Encoding"}
    if is_known(request, asset.etag.strip('"')):
        return Response(status_code=304, headers=headers)
    if asset.gzipped is not None and _accepts_gzip(request):
        return Response(
            asset.gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.media_type
        )
    return Response(asset.body, headers=headers, media_type=asset.media_type)


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
