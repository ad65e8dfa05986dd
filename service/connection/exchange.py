"""Requests to one service: one deadline over each whole exchange, every failure a PixeltierError."""

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from pixeltier.service import __version__
from pixeltier.service.connection.deadline import Attempts
from pixeltier.service.connection.errors import DEADLINE, UNEXPECTED, UNREACHABLE, PixeltierError

UNIX_SCHEME = "unix:"

_FINAL = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Failures on our own side of the wire: asking again gives the same."""


class Connection:
    """Where the service is, and how it is asked. Raises PixeltierError for a URL that is not one."""

    def __init__(
        self, url: str, *, api_key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = url
        base, path = _places(url)
        headers = {"User-Agent": f"pixeltier/{__version__}"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
                raise PixeltierError(0, "invalid-key", "an API key is ASCII without spaces and line breaks")
            headers["Authorization"] = f"Bearer {api_key}"
        if path is not None and transport is None:
            transport = httpx.AsyncHTTPTransport(uds=path)
        try:
            self._http = httpx.AsyncClient(
                base_url=base,
                headers=headers,
                transport=transport,
                timeout=None,  # noqa: S113 - `send` has one deadline over everything instead
                # A proxy of the environment is for other machines, whether or not NO_PROXY says so.
                mounts={f"all://{_in_url(base.host)}": None} if _is_loopback(base.host) else None,
            )
        except (httpx.InvalidURL, ValueError, OSError) as error:
            detail = f"{url}: the proxy or TLS settings of the environment cannot be used: {error}"
            raise PixeltierError(0, "invalid-url", detail) from error

    async def close(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def ask(
        self, method: str, path: str, attempts: Attempts, headers: dict[str, str], **content: Any
    ) -> httpx.Response:
        """An answer, whatever its status, asked for again where another may follow.

        Raises:
            PixeltierError: `unreachable`, `deadline-exceeded`, `unexpected-answer`.
        """
        while True:
            response, failure = None, None
            try:
                response = await self.send(
                    method, path, attempts, headers=headers | attempts.headers(), **content
                )
            except PixeltierError as error:
                if error.type != UNREACHABLE:
                    raise
                failure = error
            if response is not None and response.is_success:
                return response
            pause = None if failure and isinstance(failure.__cause__, _FINAL) else attempts.pause_s(response)
            if pause is None:
                if response is None:
                    raise failure or RuntimeError("neither an answer nor a failure")
                return response
            await asyncio.sleep(pause)

    async def send(self, method: str, path: str, attempts: Attempts, **request: Any) -> httpx.Response:
        """One exchange, connecting, sending and reading to the end included, within what is left of the time."""
        async with self._in_time(attempts):
            return await self._http.request(method, path, **request)

    @asynccontextmanager
    async def stream(self, method: str, path: str, attempts: Attempts) -> AsyncIterator[httpx.Response]:
        """The same, read while it comes."""
        async with self._in_time(attempts), self._http.stream(method, path) as response:
            yield response

    @asynccontextmanager
    async def _in_time(self, attempts: Attempts) -> AsyncIterator[None]:
        """What goes wrong inside, as a PixeltierError; so is that it takes longer than there is time."""
        scope = asyncio.timeout(max(0.001, attempts.left_s))
        try:
            async with scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise self._unreachable(error) from error
            detail = f"{self.url}: no complete answer within {attempts.timeout_s:g} s"
            raise PixeltierError(0, DEADLINE, detail) from error
        except httpx.DecodingError as error:
            detail = f"{self.url}: the answer's body is not in the coding that its header names: {error}"
            raise PixeltierError(0, UNEXPECTED, detail) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PixeltierError:
        return PixeltierError(0, UNREACHABLE, f"{self.url}: {_reason(error)}")


def _places(url: str) -> tuple[httpx.URL, str | None]:
    """The URL's base and, for `unix:/run/pixeltier.sock`, the path of the socket."""
    if url.startswith(UNIX_SCHEME):
        path = url.removeprefix(UNIX_SCHEME)
        path = "/" + path.lstrip("/") if path.startswith("//") else path
        if not path or "\0" in path:
            raise PixeltierError(0, "invalid-url", f"{url!r}: give the socket as unix:/path/of/the.sock")
        return httpx.URL("http://localhost"), path
    try:
        base = httpx.URL(url.rstrip("/"))
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise PixeltierError(0, "invalid-url", f"{url!r}: {error}") from error
    extra = base.query or base.fragment
    port_fits = base.port is None or 0 < base.port < 65536
    if base.scheme not in {"http", "https"} or not _is_host(base.host) or not port_fits or extra:
        hint = "give the service as http://host:port, https://host or unix:/path"
        raise PixeltierError(0, "invalid-url", f"{url!r}: {hint}")
    return base, None


def _is_host(host: str) -> bool:
    return bool(re.fullmatch(r"[^\s%]+", host)) or ":" in host  # only an IPv6 address has a zone


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reason(error: BaseException) -> str:
    """What went wrong in the words of the system: the libraries between wrap it several times."""
    cause = error
    while True:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[-1]
        elif (inner := cause.__cause__ or cause.__context__) is not None:
            cause = inner
        else:
            break
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason or cause}"
    if isinstance(cause, socket.gaierror):
        return f"the host's name cannot be resolved: {cause.strerror}"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return str(error) or str(cause) or type(error).__name__
