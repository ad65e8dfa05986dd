"""What a proxy before us changes: the client's address, the scheme, and the prefix that the client's paths have."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pixeltier.service.configuration.settings import LONGEST_PREFIX, PATH_PREFIX


def local_path(scope: Scope) -> str:
    """The request's path as the routes know it: without the prefix."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path + "/").startswith(root + "/") else path


class ProxyMiddleware:
    """Puts what a trusted proxy tells into the scope; the outermost of all.

    Client and scheme come from X-Forwarded-For and X-Forwarded-Proto (uvicorn's middleware). The prefix is
    X-Forwarded-Prefix where a trusted proxy sends it, else the configured one.

    Args:
        trusted: addresses and networks, `unix` for the peer of a Unix socket, or `*` alone.
        prefix: the configured prefix, in the form of PATH_PREFIX.
        told_is_cut: whether a prefix that only X-Forwarded-Prefix names is cut off a path that still begins with it.
            A client whose proxy passes that header on then chooses what its path means, and so passes by the proxy's
            rules on paths: only for proxies that the operator named.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], prefix: str, told_is_cut: bool) -> None:
        self._app = app
        self._forwarded = ProxyHeadersMiddleware(app, trusted_hosts=list(trusted))  # type: ignore[arg-type]
        self._prefix = prefix
        self._told_is_cut = told_is_cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its place and client told; the server's own scope stays as it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = scope.get("client")
        told = _told(scope) if peer and peer[0] in self._forwarded.trusted_hosts else None
        prefix = self._prefix if told is None else told
        cut = prefix == self._prefix or self._told_is_cut
        placed = {**scope, **_placed(scope, prefix, cut=cut)}
        await self._forwarded(placed, receive, send)  # type: ignore[arg-type]


def _told(scope: Scope) -> str | None:
    """X-Forwarded-Prefix: each proxy on the way appends its own. What is not a prefix does not count."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
    if not lines:
        return None
    parts = [part.strip().rstrip("/") for line in lines for part in line.split(",")]
    whole = "".join(parts)
    return whole if len(whole) <= LONGEST_PREFIX and PATH_PREFIX.fullmatch(whole) else None


def _placed(scope: Scope, prefix: str, *, cut: bool) -> dict[str, object]:
    """`path`, `raw_path` and `root_path` as ASGI defines them: the path has the prefix, cut off by the proxy or not."""
    path: str = scope["path"]
    if not prefix or scope.get("root_path"):  # a server that mounts us says itself where
        return {}
    if cut and (path + "/").startswith(prefix + "/"):
        return {"root_path": prefix}
    raw: bytes = scope.get("raw_path") or path.encode()
    return {"root_path": prefix, "path": prefix + path, "raw_path": prefix.encode() + raw}
