"""HTTP on the wire: raw bytes to a real server, raw bytes back."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pixeltier.service.problems import MEDIA_TYPE
from pixeltier.service.server.http_protocol import MAX_HEAD_BYTES, PatientProtocol
from tests.images import png
from tests.integration.fakes import SLOW
from tests.integration.server import serving

TOKEN = "a-token-of-the-wire-test"

GET_ROUTES = (
    "/",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/tiers",
    "/v1/tiers/schema",
    "/v1/models",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/classify",
    "/v2/models/classify/ready",
    "/v2/models/classify/config",
    "/v2/models/classify/stats",
    "/v2/models/classify/versions/7",
    "/v2/models",
    "/v2/models/stats",
    "/admin/v1/tiers",
    "/admin/v1/versions",
    "/admin/v1/versions/1",
    "/admin/v1/audit",
    "/admin/v1/live",
    "/nowhere",
    "/v2/nowhere",
    "/v1/classify",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("admin") / "tokens"
    tokens.write_text(TOKEN)
    with serving(admin_token_file=tokens, max_body_bytes=100_000) as url:
        yield url


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=20)


def _until_closed(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def _exchange(url: str, *sent: bytes, pause_s: float = 0.0) -> bytes:
    with _connect(url) as client:
        for part in sent:
            client.sendall(part)
            time.sleep(pause_s)
        return _until_closed(client)


def _parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body


def _check_problem(answer: bytes, status: int, type_: str) -> dict[str, Any]:
    """One problem document, whole, and the end of the connection announced."""
    found, headers, body = _parsed(answer)
    assert found == status, answer
    assert headers["content-type"] == MEDIA_TYPE
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    document: dict[str, Any] = json.loads(body)
    assert (document["type"], document["status"]) == (type_, status)
    assert document["request_id"] == headers["x-request-id"]
    assert document["detail"]
    assert document["help"]
    return document


# ---- HEAD --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", GET_ROUTES)
def test_head_is_get_without_its_body_and_the_connection_lives_on(
    url: str, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "same"}
    connection.request("GET", route, headers=headers)
    got = connection.getresponse()
    whole = got.read()
    connection.request("HEAD", route, headers=headers)
    head = connection.getresponse()
    assert (head.status, head.read()) == (got.status, b"")
    assert head.getheader("connection") is None
    assert head.getheader("content-type") == got.getheader("content-type")
    if route not in {
        "/metrics",
        "/admin/v1/live",
        "/nowhere",
        "/v2/nowhere",
        "/v1/classify",
    }:  # they tell of GET
        assert head.getheader("content-length") == str(len(whole))
    used = connection.sock
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    assert connection.sock is used, "the connection was opened anew"
    connection.close()
    assert not [record for record in caplog.records if record.exc_info]


def test_head_counts_as_head(url: str) -> None:
    httpx.head(f"{url}/v1/models")
    assert (
        'http_requests_total{method="HEAD",route="/v1/models",status="200"}'
        in httpx.get(f"{url}/metrics").text
    )


def test_head_of_the_page_s_files(url: str) -> None:
    page = httpx.get(url).text
    script = next(part for part in page.split('"') if part.endswith("main.js"))
    got, head = httpx.get(f"{url}/{script}"), httpx.head(f"{url}/{script}")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-encoding", "etag", "content-type"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("method", "route", "allow"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/docs", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("HEAD", "/v1/classify", "POST"),
        ("GET", "/v2/models/classify/infer", "POST"),
        ("DELETE", "/admin/v1/tiers", "GET, HEAD, PUT, PATCH"),
        ("TRACE", "/v1/tiers", "GET, HEAD"),
        ("QUERY", "/v1/classify", "POST"),
    ],
)
def test_allow_names_every_method_of_the_path(url: str, method: str, route: str, allow: str) -> None:
    answer = httpx.request(method, url + route)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD" and not route.startswith("/v2"):
        assert answer.json()["detail"].startswith(f"{method} {route}: ")


# ---- what the parser refuses --------------------------------------------------------------------------

_HOST = b"Host: x\r\n"
_CHUNKED = b"POST /v1/classify HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "type_", "said"),
    [
        (b"nonsense\r\n\r\n", 400, "bad-request", "does not begin with a method"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request", "without TLS"),
        (b"GET  HTTP/1.1\r\n\r\n", 400, "bad-request", ""),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n", 400, "bad-request", "url path"),
        (b"GET / FTP/1.1\r\n\r\n", 400, "bad-request", "Expected HTTP/"),
        (b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400, "bad-request", "header"),
        (b"GET / HTTP/1.1\r\nName: a\x00b\r\n\r\n", 400, "bad-request", "header value"),
        (b"POST / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", 400, "bad-request", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "bad-request", "Content-Length"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
            400,
            "bad-request",
            "Content-Length",
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            400,
            "bad-request",
            "Content-Length",
        ),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad-request",
            "Content-Length",
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "bad-request", "Transfer-Encoding"),
        (_CHUNKED + b"zz\r\n", 400, "bad-request", "chunk size"),
        (_CHUNKED + b"3\r\nabcdef\r\n", 400, "bad-request", ""),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "http-version-unsupported", "HTTP/2.0"),
        (b"GET / HTTP/3.7\r\n\r\n", 505, "http-version-unsupported", ""),
        (b"GET /\r\n\r\n", 505, "http-version-unsupported", "HTTP/0.9"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version-unsupported", ""),
        (b"BREW /pot HTTP/1.1\r\n\r\n", 501, "http-method-unknown", "BREW"),
        (b"get / HTTP/1.1\r\n\r\n", 501, "http-method-unknown", "get"),
        (
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
            405,
            "method-not-allowed",
            "CONNECT",
        ),
        (
            b"GET / HTTP/1.1\r\nA: " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
            431,
            "http-head-too-large",
            "65536",
        ),
        (b"GET /" + b"x" * (MAX_HEAD_BYTES + 1) + b" HTTP/1.1\r\n\r\n", 431, "http-head-too-large", "65536"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_the_parser_refuses_is_a_problem_document(
    url: str, sent: bytes, status: int, type_: str, said: str
) -> None:
    answer = _exchange(url, sent)
    assert said in _check_problem(answer, status, type_)["detail"]
    if type_ == "method-not-allowed":
        assert "GET" in _parsed(answer)[1]["allow"]
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_refusal_has_a_line_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "pixeltier.request"):
        document = _check_problem(_exchange(url, b"nonsense\r\n\r\n"), 400, "bad-request")
    (line,) = [record for record in caplog.records if record.message == "refused"]
    assert line.__dict__["request_id"] == document["request_id"]
    assert line.__dict__["status"] == 400


def test_a_refused_head_request_has_no_body(url: str) -> None:
    status, headers, body = _parsed(_exchange(url, b"HEAD / HTTP/1.1\r\nBad Name: x\r\n\r\n"))
    assert (status, headers["content-type"], body) == (400, MEDIA_TYPE, b"")


def test_the_second_request_of_a_connection_is_refused_as_the_first(url: str) -> None:
    with _connect(url) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n")
        assert b'"status":"ok"' in client.recv(65536)
        client.sendall(b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n")
        _check_problem(_until_closed(client), 400, "bad-request")


def test_what_was_asked_before_is_answered_and_nothing_more(url: str) -> None:
    """An answer to nonsense that is pipelined would be taken for the answer of the request before it."""
    body = png()
    head = f"POST /v1/classify?threshold={SLOW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = _exchange(url, head + body, b"nonsense\r\n\r\n", pause_s=0.1)
    status, headers, answered = _parsed(answer)
    assert (status, headers["connection"]) == (200, "close")
    assert json.loads(answered)["predictions"]


def test_a_body_that_breaks_after_its_answer_gets_no_second_one(url: str) -> None:
    too_much = b"%x\r\n" % 200_000 + b"x" * 150_000
    with _connect(url) as client:
        client.sendall(_CHUNKED + too_much)
        client.settimeout(20)
        answer = client.recv(65536)
        try:
            client.sendall(b"y" * 50_000 + b"\r\nzz\r\n")
            answer += _until_closed(client)
        except ConnectionError:  # closed at once: as good
            pass
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_the_application_hears_of_a_body_that_breaks(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "pixeltier.request"):
        _check_problem(_exchange(url, _CHUNKED + b"3\r\nabc\r\n", b"zz\r\n", pause_s=0.1), 400, "bad-request")
        end = time.monotonic() + 0.5  # long before the connection is closed from this side
        while not (done := [one for one in caplog.records if one.message == "request"]):
            assert time.monotonic() < end
            time.sleep(0.01)
    assert done[0].__dict__["outcome"] == "client-closed"
    assert not [record for record in caplog.records if record.exc_info]


def test_a_slow_head_behind_a_request_in_work_does_not_lose_its_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientProtocol, "header_timeout_s", 0.1)
    body = png()
    head = f"POST /v1/classify?threshold={SLOW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert _exchange(url, head + body + b"GET /heal").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
@pytest.mark.parametrize(
    "target", ["/nowhere", "//", "/%00", "/%ff/../x", "/v1/classify/", "*", "/v1/%2e%2e/healthz"]
)
def test_no_such_path_at_any_path(url: str, method: str, target: str) -> None:
    sent = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    status, headers, body = _parsed(_exchange(url, sent))
    assert (status, headers["content-type"]) == (404, MEDIA_TYPE)
    assert method == "HEAD" or json.loads(body)["type"] == "not-found"


def test_absolute_targets_and_http_1_0(url: str) -> None:
    for line in (b"GET http://elsewhere/healthz HTTP/1.1", b"GET /healthz HTTP/1.0"):
        answer = _exchange(url, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), line
