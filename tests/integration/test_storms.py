"""Many bad clients at once, through real sockets: everything answered, nothing leaked.

The numbers here keep the suite short; SOAK=1 in the environment runs the full ones.
"""

import asyncio
import gc
import http.client
import os
import random
import select
import socket
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pixeltier.service.problems import Problem
from pixeltier.service.server.http_protocol import PatientProtocol
from tests.images import encoded, photo, png
from tests.integration.fakes import SLOW
from tests.integration.server import serving

PATIENCE_S = 120.0
"""What a test waits for something that must happen: a machine of tests may be busy with others."""

SOAK = bool(os.environ.get("SOAK"))
TYPES = {problem.kind.type for problem in Problem}


def _descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def _resident() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def _head(url: str, length: int, extra: str = "") -> tuple[tuple[str, int], bytes]:
    parts = urlsplit(url)
    head = f"POST /v1/classify?{extra} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
    return (str(parts.hostname), int(parts.port or 0)), head.encode()


def _alive(url: str) -> None:
    assert httpx.post(f"{url}/v1/classify", content=png(), timeout=PATIENCE_S).status_code == 200


def test_a_storm_of_clients_that_leave() -> None:
    """Every client sends a whole request for slow work and hangs up."""
    count = 1000
    body = png()
    with serving(queue_limit=50) as url:
        _alive(url)
        before = _descriptors()
        address, head = _head(url, len(body), f"threshold={SLOW}")
        for _ in range(count):
            with socket.create_connection(address, timeout=PATIENCE_S) as client:
                client.sendall(head + body)
        end = time.monotonic() + PATIENCE_S
        while True:
            text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text  # its turn comes after the storm's
            depth = next(line for line in text.splitlines() if line.startswith("pixeltier_queue_depth "))
            if depth.endswith(" 0.0") and _descriptors() <= before + 8:
                break
            assert time.monotonic() < end, (depth, before, _descriptors())
            time.sleep(0.1)
        _alive(url)


def test_slow_uploads_hold_no_slot_and_end_at_their_deadline() -> None:
    body = png()
    with serving(default_timeout_ms=5000) as url:
        address, head = _head(url, len(body))
        lorises = [socket.create_connection(address, timeout=PATIENCE_S) for _ in range(50)]
        for loris in lorises:
            loris.sendall(head + body[:20])
        _alive(url)
        answered, _, _ = select.select(lorises, [], [], 0)
        assert not answered, "honest clients do not wait for them"
        for loris in lorises:
            answer = loris.recv(65536)
            assert b" 504 " in answer.split(b"\r\n", 1)[0]
            assert b"deadline-exceeded" in answer or b"deadline-exceeded" in loris.recv(65536)
            loris.close()
        _alive(url)


def test_dribbled_heads_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "header_timeout_s", 0.5)
    with serving() as url:
        address, head = _head(url, 10)
        silent, partial = (socket.create_connection(address, timeout=5) for _ in range(2))
        partial.sendall(head[:-6])
        again = socket.create_connection(address, timeout=5)
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in again.recv(65536)
        time.sleep(0.7)
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in again.recv(65536), "an idle connection between requests does not dribble"
        again.sendall(b"GET /heal")
        assert silent.recv(65536) == b"", "nobody asked, so nobody is answered"
        silent.close()
        for dribbling in (partial, again):
            answer = b"".join(iter(lambda: dribbling.recv(65536), b""))  # noqa: B023
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"type":"http-timeout"' in answer
            dribbling.close()


def test_an_endless_head_is_refused() -> None:
    with serving() as url:
        address, _ = _head(url, 0)
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n")
            refused = False
            try:
                for _ in range(200):
                    client.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
                refused = client.recv(65536).startswith(b"HTTP/1.1 431 ")
            except (BrokenPipeError, ConnectionResetError):
                refused = True
            assert refused
        _alive(url)


def test_mutated_images_end_in_documented_answers() -> None:
    count = 10_000 if SOAK else 600
    chance = random.Random(11)
    seeds = [encoded(photo(24, 18), format_) for format_ in ("JPEG", "PNG", "WEBP")]
    with serving() as url:
        _alive(url)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        seen: Counter[int] = Counter()
        descriptors, resident = _descriptors(), 0
        for n in range(count):
            body = bytearray(chance.choice(seeds))
            for _ in range(chance.randint(1, 10)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            if n % 4 == 0:
                del body[chance.randrange(len(body)) :]
            route = chance.choice(("classify", "super-resolve"))
            connection.request("POST", f"/v1/{route}", bytes(body))
            answer = connection.getresponse()
            content = answer.read()
            seen[answer.status] += 1
            assert answer.status in {200, 413, 422}, content[:300]
            if answer.status != 200:
                assert any(f'"type":"{kind}"'.encode() in content for kind in TYPES)
            if n == count // 4:
                resident = _resident()
        assert seen[200]
        assert seen[422]
        assert _descriptors() <= descriptors + 4
        assert _resident() < resident + 60 * 2**20, "memory grows"
        _alive(url)
        connection.close()


def test_three_times_too_much_is_answered_by_503_and_in_time() -> None:
    """Open-loop arrival at three times the capacity: the accepted meet the deadline, health answers throughout."""
    seconds = 60 if SOAK else 4
    deadline_ms = 2000

    async def run(url: str) -> None:
        seen: Counter[int] = Counter()
        took: list[float] = []
        probes: list[float] = []
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with (
            httpx.AsyncClient(timeout=PATIENCE_S, limits=limits) as client,
            httpx.AsyncClient() as prober,
        ):

            async def one() -> None:
                started = time.monotonic()
                answer = await client.post(
                    f"{url}/v1/classify?threshold={SLOW}",
                    content=png(),
                    headers={"X-Request-Timeout-Ms": str(deadline_ms)},
                )
                seen[answer.status_code] += 1
                if answer.status_code == 200:
                    took.append(time.monotonic() - started)
                else:
                    assert answer.json()["type"] in {"overloaded", "deadline-exceeded"}

            async def probe() -> None:
                while True:
                    started = time.monotonic()
                    assert (await prober.get(f"{url}/healthz")).status_code == 200
                    probes.append(time.monotonic() - started)
                    await asyncio.sleep(0.1)

            watching = asyncio.ensure_future(probe())
            jobs = []
            resident = _resident()
            for _ in range(int(seconds * 3 / 0.4)):  # a slow job takes 0.4 s and there is one worker
                jobs.append(asyncio.ensure_future(one()))
                await asyncio.sleep(0.4 / 3)
            await asyncio.gather(*jobs)
            watching.cancel()
            assert _resident() < resident + 40 * 2**20, "memory grows"
            soon = {"X-Request-Timeout-Ms": str(deadline_ms)}
            assert (await client.post(f"{url}/v1/classify", content=png(), headers=soon)).status_code == 200
        assert set(seen) <= {200, 503, 504}
        assert seen[200] >= 0.6 * seconds / 0.4
        assert sorted(took)[int(0.99 * len(took))] <= deadline_ms / 1000 + 1, (
            "the way back to a busy client included"
        )
        assert sorted(probes)[len(probes) // 2] < 0.1
        assert sorted(probes)[int(0.95 * len(probes))] < 0.4, "a probe never waits for a job"

    with serving(queue_limit=64) as url:
        asyncio.run(run(url))
