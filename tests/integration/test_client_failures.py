"""The client against servers that drip, lie, break off and redirect: always PixeltierError, always in time."""

import asyncio
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from pixeltier.client import AsyncClient, Classification, Client, PixeltierError
from pixeltier.service.connection.deadline import retry_after_s
from tests.images import png
from tests.integration.stubs import Answer, response, sent, stub
from tests.integration.test_client_and_cli import GOOD

Call = Callable[[str, float], None]


def _blocking(url: str, timeout_s: float, **options: Any) -> None:
    with Client(url, timeout_s=timeout_s, **options) as client:
        client.classify(png())


def _asynchronous(url: str, timeout_s: float, **options: Any) -> None:
    async def call() -> None:
        async with AsyncClient(url, timeout_s=timeout_s, **options) as client:
            await client.classify(png())

    asyncio.run(call())


CALLS = pytest.mark.parametrize("call", [_blocking, _asynchronous], ids=["blocking", "asynchronous"])

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


def _stall(connection: socket.socket) -> None:
    time.sleep(20)


def _drip_then_stall(connection: socket.socket) -> None:
    sent(HEAD, *[b" "] * 3, every_s=0.2)(connection)
    _stall(connection)


SLOW: dict[str, Answer] = {
    "no answer": _stall,
    "a body that drips": sent(HEAD, *[b" "] * 200, every_s=0.1),
    "a body that drips and stalls": _drip_then_stall,
    "a head that drips": sent(b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * 200, every_s=0.1),
    "interim answers without end": sent(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 200, every_s=0.1),
}


@CALLS
@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_one_deadline_over_the_whole_exchange(call: Call, answer: Answer) -> None:
    with stub(answer) as url:
        began = time.monotonic()
        with pytest.raises(PixeltierError) as caught:
            call(url, 0.7)
        assert 0.65 < time.monotonic() - began < 1.5
    assert caught.value.type == "deadline-exceeded"
    assert "no complete answer within 0.7 s" in caught.value.detail


def test_sending_is_within_the_deadline() -> None:
    """Forty megabytes to a server that takes none: no single write is slow, the whole never ends."""
    with stub(_stall, read=False) as url, Client(url, timeout_s=0.7) as client:
        began = time.monotonic()
        with pytest.raises(PixeltierError, match="deadline-exceeded"):
            client.classify(bytes(40 * 2**20))
        assert time.monotonic() - began < 2


def test_looking_a_name_up_is_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20))
    began = time.monotonic()
    with (
        Client("http://service.example", timeout_s=0.5) as client,
        pytest.raises(PixeltierError, match="deadline"),
    ):
        client.classify(png())
    assert time.monotonic() - began < 1.5
    released.set()


@CALLS
def test_pauses_and_retries_are_within_the_deadline(call: Call) -> None:
    with stub(sent(response(status="503 Busy", headers=("Retry-After: 0",)))) as url:
        began = time.monotonic()
        with pytest.raises(PixeltierError):
            call(url, 1.0)
    assert time.monotonic() - began < 1.5


JSON = "Content-Type: application/json"
HEADERS = tuple(f"{name}: {value}" for name, value in GOOD.headers.items() if name.startswith("x-"))
ZIPPED = gzip.compress(b'{"predictions": []}')
BROKEN: dict[str, tuple[bytes, str, str]] = {
    "a page": (response(b"<html></html>", headers=("Content-Type: text/html",)), "unexpected-answer", "text/html"),
    "no body": (response(), "unexpected-answer", "no Content-Type"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "unexpected-answer", "not an answer of Pixeltier"),
    "a list": (response(b"[]", headers=(JSON, *HEADERS)), "unexpected-answer", "application/json"),
    "null": (response(b"null", headers=(JSON, *HEADERS)), "unexpected-answer", "application/json"),
    "deep": (response(b"[" * 100_000, headers=(JSON, *HEADERS)), "unexpected-answer", "application/json"),
    "no predictions": (response(b"{}", headers=(JSON, *HEADERS)), "unexpected-answer", "application/json"),
    "predictions of another kind": (
        response(b'{"predictions": 7}', headers=(JSON, *HEADERS)), "unexpected-answer", "application/json"
    ),
    "a prediction without label": (
        response(b'{"predictions": [{"index": 1}]}', headers=(JSON, *HEADERS)), "unexpected-answer", "json"
    ),
    "no headers of ours": (response(b'{"predictions": []}', headers=(JSON,)), "unexpected-answer", "json"),
    "a header that is not a number": (
        response(b'{"predictions": []}', headers=(JSON, *HEADERS, "X-Macs-Dense: many")), "unexpected-answer", ""
    ),
    "not UTF-8": (response(b'{"predictions": "\xff"}', headers=(JSON, *HEADERS)), "unexpected-answer", ""),
    "broken gzip": (
        response(b"no gzip", headers=(JSON, *HEADERS, "Content-Encoding: gzip")), "unexpected-answer", "coding"
    ),
    "a body cut off": (response(b'{"pred', length=1000, headers=(JSON, *HEADERS)), "unreachable", "body"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "unreachable", ""),
    "closed at once": (b"", "unreachable", "disconnected"),
    "a redirect": (
        response(status="307 Temporary Redirect", headers=("Location: https://other.example/v1/classify",)),
        "http-error", "redirects to https://other.example/v1/classify",
    ),
    "a redirect to nowhere": (
        response(status="302 Found", headers=("Location: https://[",)), "http-error", "redirects to https://[",
    ),
    "a page of errors": (
        response(b"<html>", status="404 Not Found", headers=("Content-Type: text/html",)), "http-error", "404 Not Found"
    ),
    "an error in JSON that is not a problem document": (
        response(b'{"type": 7, "detail": null}', status="400 Bad", headers=(JSON,)), "http-error", "400 Bad"
    ),
    "an error as a list": (response(b"[1]", status="400 Bad", headers=(JSON,)), "http-error", "400 Bad"),
}  # fmt: skip


@CALLS
@pytest.mark.parametrize(("raw", "type_", "word"), BROKEN.values(), ids=BROKEN)
def test_what_the_service_never_wrote(call: Any, raw: bytes, type_: str, word: str) -> None:
    with stub(sent(raw)) as url, pytest.raises(PixeltierError) as caught:
        call(url, 5.0, retries=0)
    assert caught.value.type == type_
    assert word in caught.value.detail
    assert url in caught.value.detail or type_ == "http-error"


def test_an_image_that_is_none() -> None:
    page = response(b"<html></html>", headers=("Content-Type: text/html", *HEADERS))
    with stub(sent(page)) as url, Client(url) as client, pytest.raises(PixeltierError, match="text/html"):
        client.upscale(png())


def test_answers_with_more_than_is_known_are_read() -> None:
    """A newer service may add fields, and a proxy its own Server-Timing."""
    document = {"predictions": [{"index": 1, "label": "a", "probability": 0.5, "new": 1}], "new": 2}
    timing = "Server-Timing: cdn-cache; desc=HIT, edge;dur=, infer;dur=1.5"
    raw = response(json.dumps(document).encode(), headers=(JSON, *HEADERS, timing))
    zipped = response(
        gzip.compress(b'{"predictions": []}'), headers=(JSON, *HEADERS, "Content-Encoding: gzip")
    )
    with stub(sent(raw)) as url, Client(url) as client:
        found = client.classify(png())
    assert isinstance(found, Classification)
    assert (found.predictions[0].label, found.cost.timings_ms) == ("a", {"infer": 1.5})
    with stub(sent(zipped)) as url, Client(url) as client:
        assert client.classify(png()).predictions == []


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "http://", "ftp://a", "http://[::1", "http://a:99999", "http://a b", "http://a/?x", "unix:"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_that_is_none(kind: type[Client | AsyncClient], url: str) -> None:
    with pytest.raises(PixeltierError) as caught:
        kind(url)
    assert caught.value.type == "invalid-url"


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak"])
def test_a_key_that_no_header_can_hold(key: str) -> None:
    with pytest.raises(PixeltierError, match="invalid-key"):
        Client("http://a", api_key=key)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_none(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        Client("http://a", timeout_s=timeout_s)


def test_no_limit_is_a_timeout_too() -> None:
    with stub(sent(response(status="418 Teapot"))) as url, pytest.raises(PixeltierError, match="418"):
        _blocking(url, float("inf"))


@CALLS
def test_nobody_listens(call: Any) -> None:
    with pytest.raises(PixeltierError) as caught:
        call("http://127.0.0.1:9", 5.0, retries=1)
    assert (caught.value.type, caught.value.detail) == (
        "unreachable", "http://127.0.0.1:9: Connection refused"
    )  # fmt: skip


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(PixeltierError, match="name cannot be resolved"):
        _blocking("http://no-such-host.invalid", 5.0, retries=0)


def test_tls_to_a_server_without_it() -> None:
    plain = sent(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with stub(plain, read=False) as url, pytest.raises(PixeltierError, match="TLS: "):
        _blocking(url.replace("http:", "https:"), 5.0, retries=0)


def test_a_socket_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(PixeltierError, match="No such file or directory"):
        _blocking(f"unix:{tmp_path}/no.sock", 5.0, retries=0)


def test_the_environments_proxy_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with (
        stub(sent(response(status="418 Teapot"))) as url,
        pytest.raises(PixeltierError, match="418"),
    ):
        _blocking(url, 5.0)
    with pytest.raises(PixeltierError, match="Connection refused"):
        _blocking("http://service.example", 5.0, retries=0)
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    with pytest.raises(PixeltierError, match="environment"):
        Client("http://service.example")


def _wait_in_vain(url: str) -> None:
    with pytest.raises(PixeltierError):
        _blocking(url, 2.0)


def test_clients_of_several_threads_share_nothing_that_blocks() -> None:
    """One that waits for a stalled server does not hold up another."""
    with stub(_stall) as stalled, stub(sent(response(status="418 Teapot"))) as quick:
        waiting = threading.Thread(target=_wait_in_vain, args=(stalled,))
        waiting.start()
        began = time.monotonic()
        with pytest.raises(PixeltierError, match="418"):
            _blocking(quick, 5.0)
        assert time.monotonic() - began < 1
        waiting.join()


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    with pytest.raises(PixeltierError):  # the parent's loop runs
        _blocking("http://127.0.0.1:9", 5.0, retries=0)
    child = os.fork()
    if not child:
        try:
            _blocking("http://127.0.0.1:9", 5.0, retries=0)
        except PixeltierError as error:
            os._exit(0 if error.type == "unreachable" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _ready_at_last(connection: socket.socket) -> None:
    time.sleep(5.5)
    connection.sendall(response(b'{"status": "ready"}'))


def test_ready_takes_five_seconds_at_most_and_check_ready_what_it_was_given() -> None:
    with stub(_stall) as url, Client(url, timeout_s=0.5) as client:
        began = time.monotonic()
        assert not client.ready()
        with pytest.raises(PixeltierError, match=r"within 0\.5 s"):
            client.check_ready()
        assert time.monotonic() - began < 2
    with stub(_ready_at_last) as url, Client(url, timeout_s=10) as client:
        client.check_ready()


async def test_the_blocking_client_works_inside_a_running_loop() -> None:
    transport = httpx.MockTransport(lambda _: GOOD)
    with Client("http://x", transport=transport) as client:
        assert client.classify(png()).predictions == []


# ---- Retry-After ---------------------------------------------------------------------------------------


NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def _told(value: str, **more: str) -> float | None:
    return retry_after_s(httpx.Headers({"Retry-After": value, **more}))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("3", 3.0),
        (" 120 ", 120.0),
        ("9" * 5000, float("inf")),
        ("Wed, 04 Mar 2026 05:06:10 GMT", 3.0),
        ("Wednesday, 04-Mar-26 05:06:10 GMT", 3.0),
        ("Wed Mar  4 05:06:10 2026", 3.0),
        ("Wed, 04 Mar 2026 05:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("nan", None),
        ("soon", None),
        ("1, 2", None),
        ("2026-03-04T05:06:10Z", None),
        ("04 Mar 2026 05:06:10", None),
        ("Wed, 99 Mar 2026 05:06:10 GMT", None),
        ("Wed, 04 Mar 99999999 05:06:10 GMT", None),
    ],
)
def test_retry_after_as_rfc_9110_defines_it(value: str, seconds: float | None) -> None:
    headers = httpx.Headers(
        {b"Retry-After": value.encode(), b"Date": format_datetime(NOW, usegmt=True).encode()}
    )
    assert retry_after_s(headers) == seconds


def test_a_date_without_the_servers_own_is_held_against_this_clock() -> None:
    told = _told(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert told == pytest.approx(30, abs=2)
    assert _told(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True), Date="now") == (
        pytest.approx(30, abs=2)
    )


@pytest.mark.parametrize(("value", "least", "most"), [("date", 2.0, 4.5), ("2", 2.0, 2.6), ("-1", 0.1, 0.5)])
def test_a_client_waits_as_told_and_ignores_what_is_not_valid(value: str, least: float, most: float) -> None:
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) > 1:
            return GOOD
        now = datetime.now(UTC)
        when = format_datetime(now + timedelta(seconds=3), usegmt=True) if value == "date" else value
        return httpx.Response(503, headers={"Retry-After": when, "Date": format_datetime(now, usegmt=True)})

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        client.classify(png())
    assert least <= times[1] - times[0] <= most


def test_a_wait_that_just_fits_is_waited_for() -> None:
    """The spread of the pauses takes no call beyond its deadline."""
    for _ in range(20):
        refused = httpx.Response(503, headers={"Retry-After": "1"})
        answers = [refused, GOOD]
        transport = httpx.MockTransport(lambda _, answers=answers: answers.pop(0))  # type: ignore[misc]
        with Client("http://x", transport=transport, timeout_s=1.1) as client:
            pause = client._attempts().pause_s(refused)
        assert pause is not None
        assert 1.0 <= pause < 1.1
