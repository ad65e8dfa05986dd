"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the `traceparent` header, without OpenTelemetry."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a request stands in its trace: ids in lower-case hexadecimal, 32 and 16 digits; flags, bit 0 sampled."""

    trace_id: str
    span_id: str
    flags: int

    def header(self) -> str:
        """The value of `traceparent` and `traceresponse`."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def read(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The caller's context from ASGI headers; None where there is none or a malformed one.

    A malformed header, or two of them, means that the trace begins here (section 3.2.2.5).
    """
    found = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(found[0].strip()) if len(found) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), int(flags, 16))
