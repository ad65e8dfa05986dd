"""One request to the application without a socket: what HTTP clients get is what every other protocol gets."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    """By lower-case name; of repeated ones the last."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: address and port; headers that they sent."""

    address: tuple[str, int]
    headers: Headers


async def request(app: ASGIApp, caller: Caller, method: str, path: str, body: bytes = b"") -> Reply:
    """The application's response.

    A cancellation is to the application what a client is that hangs up; it ends before the cancellation goes on.
    """
    exchange = _Exchange(body)
    running = asyncio.ensure_future(
        app(_scope(caller, method, path, len(body)), exchange.receive, exchange.send)
    )
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        exchange.gone.set()
        await running
        raise
    return Reply(exchange.status, exchange.headers, b"".join(exchange.parts))


class _Exchange:
    """The two ends of an ASGI call."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.gone = asyncio.Event()
        self.status = 500
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {
                key.decode("latin-1").lower(): value.decode("latin-1") for key, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))


def _scope(caller: Caller, method: str, path: str, length: int) -> Scope:
    headers: list[tuple[bytes, bytes]] = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in caller.headers
    ]
    headers.append((b"content-length", str(length).encode()))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": caller.address,
        "server": None,
    }
    return scope
