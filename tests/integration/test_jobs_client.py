"""Requests that are answered later, by the client and the command line."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from pixeltier.client import AsyncClient, Client, PixeltierError
from tests.images import opened, png
from tests.integration.fakes import SLOW, TILE_ROWS
from tests.integration.server import serving
from tests.integration.test_jobs import LARGE, TILES


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def test_the_client_tells_of_tiles_and_leaves_no_job(url: str) -> None:
    seen: list[tuple[int, int]] = []
    with Client(url) as client:
        quick = client.upscale(png(5, 3), threshold=0.5, progress=lambda *tiles: seen.append(tiles))
        assert (opened(quick.body).size, seen) == ((20, 12), [])
        slow = client.upscale(LARGE, threshold=SLOW, scale=2, progress=lambda *tiles: seen.append(tiles))
    assert opened(slow.body).size == (16, 2 * TILES * TILE_ROWS)
    assert slow.cost.tier == "custom"
    assert seen[-1] == (TILES, TILES)
    assert seen == sorted(seen)
    assert _jobs(url) == 0


def test_the_client_raises_the_jobs_own_problem(url: str) -> None:
    with Client(url) as client, pytest.raises(PixeltierError) as caught:
        client.upscale(LARGE, threshold=SLOW, progress=lambda *tiles: None, max_macs_ratio=1e-9)
    assert (caught.value.status, caught.value.type) == (422, "budget-infeasible")
    assert _jobs(url) == 0


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_whoever_stops_waiting_has_the_job_cancelled(url: str, error: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        raise error("enough")

    with Client(url) as client:
        if error is KeyboardInterrupt:  # it comes to the thread that waits
            timer = threading.Timer(1.5, signal.raise_signal, [signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                client.upscale(png(8, 40 * TILE_ROWS), threshold=SLOW, progress=lambda *tiles: None)
        else:
            with pytest.raises(error, match="enough"):
                client.upscale(png(8, 40 * TILE_ROWS), threshold=SLOW, progress=stop)
        assert _jobs(url) == 0
        assert client.upscale(png(), threshold=0.5).body  # and the worker is free


async def test_the_async_client_tells_of_tiles_and_can_be_cancelled(url: str) -> None:
    seen: list[tuple[int, int]] = []
    async with AsyncClient(url) as client:
        answer = await client.upscale(LARGE, threshold=SLOW, progress=lambda *tiles: seen.append(tiles))
        assert opened(answer.body).size == (32, 4 * TILES * TILE_ROWS)
        assert seen[-1] == (TILES, TILES)
        waiting = asyncio.ensure_future(
            client.upscale(png(8, 40 * TILE_ROWS), threshold=SLOW, progress=lambda *tiles: None)
        )
        await asyncio.sleep(1.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert _jobs(url) == 0


def test_events_that_break_off_are_followed_anew(url: str) -> None:
    """A proxy that closes every event stream after its first event."""
    seen: list[tuple[int, int]] = []
    with Client(url, retries=100) as client:
        real = client._connection.stream

        @contextlib.asynccontextmanager
        async def short(method: str, path: str, attempts: Any) -> AsyncIterator[Any]:
            async with real(method, path, attempts) as stream:
                lines = stream.aiter_lines()

                async def first() -> AsyncIterator[str]:
                    for _ in range(2):
                        yield await anext(lines)

                stream.aiter_lines = first
                yield stream

        with mock.patch.object(client._connection, "stream", short):
            answer = client.upscale(LARGE, threshold=SLOW, progress=lambda *tiles: seen.append(tiles))
    assert opened(answer.body).size == (32, 4 * TILES * TILE_ROWS)
    assert seen == sorted(seen)


@pytest.mark.parametrize("location", ["http://elsewhere.test/v1/jobs/1", "/v2", ""])
def test_a_job_elsewhere_is_not_asked_for(location: str) -> None:
    answers = httpx.MockTransport(lambda _: httpx.Response(202, headers={"Location": location}))
    with Client("http://here.test", transport=answers) as client, pytest.raises(PixeltierError) as caught:
        client.upscale(png(), progress=lambda *tiles: None)
    assert caught.value.type == "unexpected-answer"


def test_the_command_line_shows_a_bar_and_control_c_cancels(url: str, tmp_path: Path) -> None:
    (tmp_path / "tall.png").write_bytes(png(8, 40 * TILE_ROWS))
    terminal, ours = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    command = [sys.executable, "-m", "pixeltier.service.command_line", "upscale", "--url", url]
    process = subprocess.Popen(
        [*command, "--threshold", str(SLOW), str(tmp_path / "tall.png")],
        stderr=ours,
        stdout=subprocess.DEVNULL,
    )
    os.close(ours)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is gone
        while b"2/40" not in shown:
            shown += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"tall.png" in shown
    assert b"tile" in shown
    assert [one.name for one in tmp_path.iterdir()] == ["tall.png"]
    assert _jobs(url) == 0


def _jobs(url: str) -> int:
    """Jobs that the service holds, running or over."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("pixeltier_jobs{")))
