"""Tracing with OpenTelemetry. Importing this module imports it, so only `open_tracer` in service.tracing does."""

import os
import time
from typing import Literal

from opentelemetry import propagate
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from starlette.types import Scope

from pixeltier.service import __version__
from pixeltier.service.telemetry.record import RequestRecord
from pixeltier.service.telemetry.trace_context import TraceContext


class _Headers(Getter[Scope]):
    """Reads the caller's context out of an ASGI scope."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        return [value.decode("latin-1") for name, value in carrier["headers"] if name == wanted] or None

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


class OtelTrace:
    """The span of one request, and below it one for each stage."""

    def __init__(self, tracer: "OtelTracer", scope: Scope) -> None:
        self._tracer = tracer
        # Durations are measured by the monotonic clock; spans want the wall clock's nanoseconds.
        self._wall_ns = time.time_ns() - round(time.monotonic() * 1e9)
        self._span: Span = tracer.start(scope)
        context = self._span.get_span_context()
        self.context = TraceContext(
            format_trace_id(context.trace_id), format_span_id(context.span_id), int(context.trace_flags)
        )

    def end(self, record: RequestRecord, *, route: str, method: str, status: int) -> None:
        """Name the span by its route, add what the record knows and the stages, and hand it to the exporter."""
        span = self._span
        if span.is_recording():
            span.update_name(f"{method} {route}" if route != "none" else method)
            span.set_attributes({"http.route": route, "http.response.status_code": status or 499})
            span.set_attributes(_attributes(record))
            if status >= 500:
                span.set_status(StatusCode.ERROR, record.problem.kind.type if record.problem else None)
            self._stages(record)
        span.end()

    def _stages(self, record: RequestRecord) -> None:
        """The worker tells durations; laid end to end from when it took the job they differ from the truth
        by what the pipe takes, a fraction of a millisecond.
        """
        if record.answered is None or record.worker_ms is None or record.queue_ms is None:
            return
        at = record.answered - (record.worker_ms + record.queue_ms) / 1000.0
        parent = set_span_in_context(self._span)
        for name, ms in record.stages().items():
            if name == "total":
                continue
            begun, at = at, at + ms / 1000.0
            stage = self._tracer.tracer.start_span(name, parent, start_time=self._ns(begun))
            stage.end(self._ns(at))

    def _ns(self, monotonic: float) -> int:
        return self._wall_ns + round(monotonic * 1e9)


class OtelTracer:
    """Implements `pixeltier.service.telemetry.tracing.Tracer`.

    The standard OTEL_* variables choose the endpoint, its headers, the sampler, propagators and resource attributes.
    """

    def __init__(self, exporter: SpanExporter, *, batch: bool) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        processor = BatchSpanProcessor(exporter) if batch else SimpleSpanProcessor(exporter)
        self._provider.add_span_processor(processor)
        self.tracer = self._provider.get_tracer("pixeltier", __version__)

    def start(self, scope: Scope) -> Span:
        """A server span, child of the caller's where it sent a context."""
        return self.tracer.start_span(
            scope["method"],
            propagate.extract(scope, getter=_Headers()),
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "url.scheme": scope.get("scheme", "http")},
        )

    def begin(self, scope: Scope) -> OtelTrace:
        """Open the span of a request."""
        return OtelTrace(self, scope)

    def close(self) -> None:
        """Send what is left; waits for the exporter."""
        self._provider.shutdown()


def open_otel(kind: Literal["otlp", "console"]) -> OtelTracer:
    """A tracer that sends to an OTLP collector over HTTP, or prints its spans."""
    if kind == "console":
        return OtelTracer(ConsoleSpanExporter(), batch=False)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OtelTracer(OTLPSpanExporter(), batch=True)


def _resource() -> Resource:
    """`service.name` is pixeltier unless the environment says otherwise."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in given
    attributes = {"service.version": __version__}
    return Resource.create(attributes if named else {"service.name": "pixeltier", **attributes})


def _attributes(record: RequestRecord) -> dict[str, str | int | float]:
    """Facts of the request. The path and query are not among them: clients put secrets there."""
    facts: dict[str, str | int | float | None] = {
        "pixeltier.request_id": record.request_id,
        "pixeltier.model": record.task.value if record.task else None,
        "pixeltier.tier": record.tier,
        "pixeltier.tier_effective": record.tier_effective,
        "pixeltier.threshold": record.threshold,
        "pixeltier.config_version": record.config_version,
        "pixeltier.outcome": "ok" if record.problem is None else record.problem.kind.type,
        "pixeltier.client": record.client,
    }
    if record.work is not None:
        facts |= {
            "pixeltier.pixels": record.work.pixels,
            "pixeltier.active_share": record.work.active_share,
            "pixeltier.macs_dense": record.work.macs_dense,
            "pixeltier.macs_executed": record.work.macs_executed,
        }
    return {name: value for name, value in facts.items() if value is not None}
