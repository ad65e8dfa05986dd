"""The one middleware of our own, in plain ASGI: identity, headers, metrics, log, and no traceback outside.

Starlette's BaseHTTPMiddleware is not used anywhere: it hides a client's disconnect from the routes.
"""

import logging
import re
import uuid

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import trace_context
from service.api.problems import Problem, ProblemError
from service.api.record import SCOPE_KEY, RequestRecord
from service.desk import Desk
from service.metrics import Metrics
from service.tiers.store import TierStore
from service.tracing import Trace, Tracer

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Probes and scrapes are logged at debug level: they would drown the rest."""

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
        record = scope[SCOPE_KEY] = RequestRecord(_request_id(scope), self._tiers.snapshot.version)
        self._metrics.begun()
        trace = self._begin_trace(scope, record)
        status = 0
        head = scope["method"] == "HEAD"
        if head:  # every GET route answers HEAD too, without its body
            scope["method"] = "GET"

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
        except Exception as error:
            problem = _as_problem(error)
            record.problem = problem.problem
            if problem.problem is Problem.INTERNAL:
                log.exception("unexpected error", extra={"request_id": record.request_id})
            if not status:
                await problem.response(record.request_id, scope["path"])(scope, receive, send_with_headers)
        finally:
            self._account(scope, record, status, trace)

    def _begin_trace(self, scope: Scope, record: RequestRecord) -> Trace | None:
        """Note the caller's trace, for the log; with tracing on, open a span below it."""
        if self._tracer is None or scope["path"] in QUIET_ROUTES:
            record.trace = trace_context.read(scope["headers"])
            return None
        trace = self._tracer.begin(scope)
        record.trace, record.traced = trace.context, True
        return trace

    def _account(self, scope: Scope, record: RequestRecord, status: int, trace: Trace | None) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"]
        self._metrics.observe(record, method=method, route=route, status=status)
        self._desk.observe(record)
        if trace is not None:
            trace.end(record, route=route, method=method, status=status)
        level = logging.DEBUG if route in QUIET_ROUTES and status < 400 else logging.INFO
        if log.isEnabledFor(level):
            where = {"method": method, "route": route, "path": scope["path"][:200], "status": status}
            log.log(level, "request", extra={**where, **record.log_fields()})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return uuid.uuid4().hex


def _as_problem(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ClientDisconnect):
        return ProblemError(Problem.CLIENT_CLOSED, "the client closed the connection")
    return ProblemError(Problem.INTERNAL, "an unexpected error; the log has it under this request_id")
