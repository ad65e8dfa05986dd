"""The one middleware of our own, in plain ASGI: identity, headers, metrics, log, and no traceback outside.

Starlette's BaseHTTPMiddleware is not used anywhere: it hides a client's disconnect from the routes.
"""

import asyncio
import logging
import re
import uuid

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixeltier.service.api.proxy import local_path
from pixeltier.service.operations.desk import Desk
from pixeltier.service.problems import Problem, ProblemError
from pixeltier.service.telemetry import trace_context
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.telemetry.record import SCOPE_KEY, RequestRecord
from pixeltier.service.telemetry.tracing import Trace, Tracer
from pixeltier.service.tiers.store import TierStore

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

QUIET_PATHS = re.compile(
    r"/healthz|/readyz|/metrics|/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready"
)
"""Probes and scrapes are logged at debug level and not traced: they would drown the rest."""

log = logging.getLogger("pixeltier.request")


class RequestMiddleware:
    """Wraps the whole application."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, tiers: TierStore, desk: Desk, tracer: Tracer | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._tiers = tiers
        self._desk = desk
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: the server goes on reading its own, whose method says whether a body is to be sent.
        method: str = scope["method"]
        head = method == "HEAD"  # every GET route answers HEAD too, without its body
        scope = {**scope, "method": "GET" if head else method}
        record = scope[SCOPE_KEY] = RequestRecord(_request_id(scope), method, self._tiers.snapshot.version)
        self._metrics.begun()
        trace = self._begin_trace(scope, record)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *record.headers()]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except (Exception, asyncio.CancelledError) as error:
            problem = _as_problem(error)
            record.problem = problem.problem
            if problem.problem is Problem.INTERNAL:
                log.exception("unexpected error", extra={"request_id": record.request_id})
            if not status:
                answer = problem.response(record.request_id, local_path(scope), scope.get("root_path", ""))
                await answer(scope, receive, send_with_headers)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._account(scope, record, status, trace)

    def _begin_trace(self, scope: Scope, record: RequestRecord) -> Trace | None:
        """Note the caller's trace, for the log; with tracing on, open a span below it."""
        if self._tracer is None or QUIET_PATHS.fullmatch(local_path(scope)):
            record.trace = trace_context.read(scope["headers"])
            return None
        trace = self._tracer.begin(scope)
        record.trace, record.traced = trace.context, True
        return trace

    def _account(self, scope: Scope, record: RequestRecord, status: int, trace: Trace | None) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = record.method
        record.close()
        self._metrics.observe(record, method=method, route=route, status=status)
        self._desk.observe(record)
        if trace is not None:
            trace.end(record, route=route, method=method, status=status)
        quiet = status < 400 and QUIET_PATHS.fullmatch(local_path(scope))
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            where = {"method": method, "route": route, "path": scope["path"][:200], "status": status}
            log.log(level, "request", extra={**where, **record.log_fields()})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return uuid.uuid4().hex


def _as_problem(error: BaseException) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ClientDisconnect):
        return ProblemError(Problem.CLIENT_CLOSED, "the client closed the connection")
    if isinstance(error, asyncio.CancelledError):  # the server's, when the drain has taken too long
        return ProblemError(Problem.NOT_READY, "the service has ended", retry_after_s=1)
    return ProblemError(Problem.INTERNAL, "an unexpected error; the log has it under this request_id")
