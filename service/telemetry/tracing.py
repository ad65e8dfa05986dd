"""Tracing as the rest of the service sees it. OpenTelemetry is an extra: nothing of it is imported while off."""

from typing import TYPE_CHECKING, Literal, Protocol

from starlette.types import Scope

from pixeltier.service.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from pixeltier.service.telemetry.record import RequestRecord

Tracing = Literal["off", "otlp", "console"]


class Trace(Protocol):
    """One request's span."""

    @property
    def context(self) -> TraceContext:
        """What `traceresponse` and the log line say."""

    def end(self, record: "RequestRecord", *, route: str, method: str, status: int) -> None:
        """Close the span with what became known; the stages become spans below it."""


class Tracer(Protocol):
    """Opens a span for each request."""

    def begin(self, scope: Scope) -> Trace:
        """Open the span of a request that has just arrived."""

    def close(self) -> None:
        """Send what is left."""


def open_tracer(kind: Tracing) -> Tracer | None:
    """The tracer a setting asks for; None for `off`.

    Raises:
        ValueError: the extra is not installed.
    """
    if kind == "off":
        return None
    try:
        from pixeltier.service.telemetry.otel import open_otel

        return open_otel(kind)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise ValueError(
            f"tracing={kind} needs OpenTelemetry ({error.name} is missing): pip install 'pixeltier[otel]'"
        ) from error
