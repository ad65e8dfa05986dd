"""uvicorn's HTTP protocol with what it lacks: bounds on a request's head, and errors that say what is wrong.

Without the bounds a client that dribbles headers holds a connection for ever. Bodies are bounded by the request's
deadline. What the parser refuses never reaches the application, so the problem documents of it are made here.
"""

import asyncio
import ipaddress
import logging
import re
import sys
import uuid
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pixeltier.service.problems import Problem, ProblemError

MAX_HEAD_BYTES = 64 * 1024

VERSIONS = frozenset({"1.0", "1.1"})

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

LINGER_S = 1.0
"""How long what a refused client still sends is read and thrown away."""

_METHOD = re.compile(rb"(?:\r?\n)*([A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}) [^\r\n]* HTTP/\d")

_TLS_HANDSHAKE = b"\x16"

log = logging.getLogger("pixeltier.request")


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request head does not arrive in time; refuses a request that is not HTTP/1.1."""

    header_timeout_s = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._received = b""
        self._refusal: ProblemError | None = None
        self._refused = False

    def connection_made(self, transport: Any) -> None:
        """Give the first request's head its time."""
        super().connection_made(transport)
        self.client = _peer(self.client)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what arrives after a refusal is nobody's."""
        if not self._refused:
            self._received = data[:MAX_HEAD_BYTES]
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A further request on the connection: its head has the same time."""
        super().on_message_begin()
        self._head_bytes = 0
        self._in_head = True
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Count the head."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the head."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._stop_waiting()
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if version not in VERSIONS:
            self._refuse(Problem.VERSION_UNSUPPORTED, f"HTTP/{version} is not spoken here")
        if method == b"CONNECT":  # its target is an authority, no path, so the routes cannot refuse it
            self._refuse(
                Problem.METHOD_NOT_ALLOWED, "CONNECT: this is not a forward proxy", headers={"Allow": METHODS}
            )
        super().on_headers_complete()
        self._in_head = False

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, as far as an answer still has its place in the stream."""
        del msg  # always the same
        cycle = self.cycle
        in_body = not self._in_head and cycle is not None and cycle.more_body
        if in_body and (cycle.response_started or self.pipeline):
            self.transport.close()  # an answer now would be taken for a part of another one
        elif cycle is not None and not cycle.response_complete and not cycle.more_body:
            # What was asked for properly before is answered, then the connection ends.
            cycle.keep_alive = False
        else:
            if in_body:  # the application learns that no more of it comes
                cycle.disconnected = True
                cycle.message_event.set()
            self._answer(self._refusal or self._diagnosis(sys.exception()))

    def _diagnosis(self, error: BaseException | None) -> ProblemError:
        """What the parser's error means."""
        reason = str(error)
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            if method := _METHOD.match(self._received):
                return ProblemError(Problem.METHOD_UNKNOWN, f"there is no method {method[1].decode()}")
            reason = "the request line does not begin with a method"
            if self._received.startswith(_TLS_HANDSHAKE):
                reason = "this port speaks HTTP without TLS"
        elif reason in {"Invalid HTTP version", "Pause on PRI/Upgrade"}:
            return ProblemError(Problem.VERSION_UNSUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0")
        elif isinstance(error, httptools.HttpParserCallbackError):
            reason = "the request's target cannot be read"
        return ProblemError(Problem.BAD_REQUEST, f"this is not a valid HTTP request: {reason}")

    def _answer(self, problem: ProblemError) -> None:
        request_id = uuid.uuid4().hex
        kind = problem.problem.kind
        response = problem.response(request_id, "")
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
        ]
        lines = [b"HTTP/1.1 %d %s" % (kind.status, HTTPStatus(kind.status).phrase.encode())]
        lines += [b"%s: %s" % header for header in [*headers, (b"connection", b"close")]]
        body = b"" if self.parser.get_method() == b"HEAD" else bytes(response.body)
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._refused = True
        self._stop_waiting()
        # Closed at once, with bytes of the client's unread, the connection would be reset and the answer lost.
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
        log.info(
            "refused",
            extra={
                "request_id": request_id,
                "status": kind.status,
                "outcome": kind.type,
                "detail": problem.detail,
            },
        )

    def _refuse(self, problem: Problem, detail: str, headers: dict[str, str] | None = None) -> None:
        # The parser turns an exception of ours into its own error, and uvicorn that into a call of send_400_response.
        self._refusal = ProblemError(problem, detail, headers=headers)
        raise self._refusal

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(Problem.HEAD_TOO_LARGE, f"the limit is {MAX_HEAD_BYTES} bytes")

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # the request before this one is answered yet
        elif self._in_head:
            self._answer(
                ProblemError(Problem.HEAD_TIMEOUT, f"{self.header_timeout_s:g} s were not enough for it")
            )
        else:  # nobody has asked yet
            self.transport.close()


def _peer(address: tuple[str, int] | None) -> tuple[str, int]:
    """The client's address, that of IPv4 on a socket for both as IPv4; a Unix socket's peer has a name instead."""
    if address is None:
        return "unix", 0
    try:
        mapped = ipaddress.IPv6Address(address[0].partition("%")[0]).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else (str(mapped), address[1])
