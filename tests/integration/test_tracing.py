"""OpenTelemetry: the caller's trace goes on in ours, every stage is a span, and off means not imported."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from pixeltier.service.telemetry.otel import OtelTracer, open_otel
from pixeltier.service.telemetry.tracing import open_tracer
from tests.images import png
from tests.integration.fakes import FAIL, fake_app, running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
STAGES = ["queue", "decode", "importance", "infer", "encode"]


async def test_the_callers_trace_goes_on_and_stages_are_spans() -> None:
    exporter = InMemorySpanExporter()
    async with running(fake_app(tracer=OtelTracer(exporter, batch=False))) as client:
        answer = await client.post("/v1/classify?tier=fast", content=png(30, 20), headers=CALLER)
    *stages, root = exporter.get_finished_spans()
    assert root.name == "POST /v1/classify"
    assert root.kind is SpanKind.SERVER
    assert root.parent is not None
    assert (f"{root.parent.trace_id:032x}", f"{root.parent.span_id:016x}") == (TRACE, PARENT)
    assert root.context.trace_state.get("vendor") == "1"
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{root.context.span_id:016x}-01"
    attributes = dict(root.attributes or {})
    assert attributes["http.response.status_code"] == 200
    assert attributes["pixeltier.macs_executed"] == int(answer.headers["x-macs-executed"])
    assert attributes["pixeltier.request_id"] == answer.headers["x-request-id"]
    assert [span.name for span in stages] == STAGES
    told = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert root.start_time is not None
    assert root.end_time is not None
    at = root.start_time
    for span in stages:
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert at - 1_000_000 <= span.start_time <= span.end_time <= root.end_time + 1_000_000
        assert (span.end_time - span.start_time) / 1e6 == pytest.approx(float(told[span.name]), abs=0.01)
        at = span.end_time


PROBES = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/classify/ready",
    "/v2/models/super-resolve/versions/7/ready",
)


async def test_probes_have_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running(fake_app(root_path="/px")) as client:
        with caplog.at_level("INFO", "pixeltier.request"):
            for path in (*PROBES, *(f"/px{path}" for path in PROBES)):
                assert (await client.get(path)).status_code == 200, path
            assert not [record for record in caplog.records if record.message == "request"]
            assert (await client.get("/v2/models/nothing/ready")).status_code == 404
            assert [record for record in caplog.records if record.message == "request"]


async def test_a_caller_without_a_trace_gets_one_and_probes_get_none() -> None:
    exporter = InMemorySpanExporter()
    async with running(fake_app(tracer=OtelTracer(exporter, batch=False))) as client:
        probes = [await client.get(path) for path in PROBES]
        first = await client.get("/v1/tiers")
        second = await client.get("/v1/tiers", headers={"traceparent": "nonsense"})
    assert not any("traceresponse" in probe.headers for probe in probes)
    assert first.headers["traceresponse"][3:35] != second.headers["traceresponse"][3:35]
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /v1/tiers"] * 2


async def test_the_callers_choice_not_to_sample_is_kept() -> None:
    exporter = InMemorySpanExporter()
    async with running(fake_app(tracer=OtelTracer(exporter, batch=False))) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        answer = await client.post("/v1/classify", content=png(8, 8), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceresponse"].endswith("-00")
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize(
    ("url", "status", "name", "failed"),
    [
        (f"/v1/classify?threshold={FAIL}", 500, "POST /v1/classify", True),
        ("/v1/classify?tier=nothing", 422, "POST /v1/classify", False),
        ("/v1/no/such/secret", 404, "POST", False),
    ],
)
async def test_failures_are_spans_too(url: str, status: int, name: str, failed: bool) -> None:
    exporter = InMemorySpanExporter()
    async with running(fake_app(tracer=OtelTracer(exporter, batch=False))) as client:
        assert (await client.post(url, content=png(8, 8))).status_code == status
    span = exporter.get_finished_spans()[-1]
    attributes = dict(span.attributes or {})
    assert span.name == name
    assert attributes["http.response.status_code"] == status
    assert attributes["pixeltier.outcome"] != "ok"
    assert (not span.status.is_ok) is failed
    assert "secret" not in json.dumps(attributes)


async def test_spans_reach_a_collector_when_the_service_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with _collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        async with running(fake_app(tracer=open_tracer("otlp"))) as client:
            await client.post("/v1/classify", content=png(8, 8), headers=CALLER)
    resources = [resource for request in received for resource in request.resource_spans]
    named = {one.key: one.value.string_value for one in resources[0].resource.attributes}
    assert named["service.name"] == "pixeltier"
    assert named["deployment.environment"] == "test"
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert sorted(span.name for span in spans) == sorted([*STAGES, "POST /v1/classify"])
    assert {span.trace_id.hex() for span in spans} == {TRACE}


@contextmanager
def _collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP/HTTP collector that remembers what it was sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(
                ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


async def test_the_http_duration_carries_the_trace_as_an_exemplar() -> None:
    exporter = InMemorySpanExporter()
    async with running(fake_app(tracer=OtelTracer(exporter, batch=False))) as client:
        await client.post("/v1/classify", content=png(8, 8), headers=CALLER)
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        text = (await client.get("/metrics", headers=accept)).text
    assert f'# {{trace_id="{TRACE}"}}' in text


def test_the_client_passes_its_callers_trace_on() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    from pixeltier.client import Client, PixeltierError

    sent: list[str | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("traceparent"))
        return httpx.Response(404)

    tracer = TracerProvider().get_tracer("test")
    with (
        Client("http://x", transport=httpx.MockTransport(note)) as pixeltier,
        tracer.start_as_current_span("caller") as span,
        pytest.raises(PixeltierError),
    ):
        pixeltier.classify(png(8, 8))
    context = span.get_span_context()
    assert sent == [f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"]


_OFF = """
import asyncio, sys
from tests.images import png
from tests.integration.fakes import fake_app, running
import pixeltier.service.server.serve, pixeltier.client, pixeltier.service.command_line.main

async def main():
    async with running(fake_app()) as client:
        answer = await client.post("/v1/classify", content=png(8, 8), headers={"traceparent": "%s"})
        assert answer.status_code == 200 and "traceresponse" not in answer.headers

asyncio.run(main())
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "pixeltier.service.telemetry.otel")
loaded = [name for name in sys.modules if name.startswith(ours)]
assert not loaded, loaded
"""


def test_off_means_not_imported() -> None:
    """FastAPI itself imports the API package, which does nothing by itself; the rest is ours to leave out."""
    program = _OFF % CALLER["traceparent"]
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "pixeltier.service.telemetry.otel")
    with pytest.raises(ValueError, match=r"pip install 'pixeltier\[otel\]'"):
        open_tracer("otlp")


def test_console_prints_spans() -> None:
    assert open_otel("console") is not None
    assert open_tracer("off") is None
