"""W3C Trace Context: what is taken over, and what begins a new trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.service.telemetry.trace_context import TraceContext, read

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_context_is_read_and_written() -> None:
    found = read([(b"host", b"a"), (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())])
    assert found == TraceContext(TRACE, SPAN, flags=1)
    assert found.header() == f"00-{TRACE}-{SPAN}-01"


def test_later_versions_may_carry_more() -> None:
    found = read([(b"traceparent", f"cc-{TRACE}-{SPAN}-00-what-comes".encode())])
    assert found == TraceContext(TRACE, SPAN, flags=0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_what_is_malformed_begins_a_trace(value: str) -> None:
    assert read([(b"traceparent", value.encode())]) is None


def test_two_of_them_are_none() -> None:
    value = f"00-{TRACE}-{SPAN}-01".encode()
    assert read([(b"traceparent", value), (b"traceparent", value)]) is None


@given(st.binary())
def test_nothing_makes_it_fail(value: bytes) -> None:
    found = read([(b"traceparent", value)])
    assert found is None or len(found.trace_id) == 32
