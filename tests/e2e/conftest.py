"""A real `pixeltier serve`: its own process, the shipped weights, a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"


@dataclass
class Served:
    """A running service."""

    url: str
    process: "subprocess.Popen[str]"
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serve(
    log: Path, port: int | None = None, *, interpreter: str = sys.executable, **environment: str
) -> Iterator[Served]:
    """Start the service as an operator would, wait until it is ready, end it with SIGTERM."""
    port = port or free_port()
    ours = {f"PIXELTIER_{name.upper()}": value for name, value in environment.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")}
    with log.open("w") as out:
        process = subprocess.Popen(
            [interpreter, "-m", "pixeltier.service.command_line", "serve", "--port", str(port)],
            env=kept | {"PIXELTIER_DRAIN_DELAY_S": "0"} | ours,
            stderr=out,
            stdout=out,
            text=True,
        )
    served = Served(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_ready(served)
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _wait_ready(served: Served) -> None:
    end = time.monotonic() + 240
    while True:
        assert served.process.poll() is None, served.log.read_text()
        assert time.monotonic() < end, served.log.read_text()
        try:
            if httpx.get(served.url + "/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for all tests that leave it as they found it."""
    with serve(tmp_path_factory.mktemp("serve") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def cat() -> bytes:
    return (SAMPLES / "chelsea.jpg").read_bytes()
