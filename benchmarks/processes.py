"""Servers that benchmarks start on free ports, wait for, and end."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

SERVE = ("-m", "pixeltier.service.command_line", "serve")


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready, and its process."""

    url: str
    pid: int


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    ready: str = "/readyz",
    patience_s: float = 120,
    quiet: bool = False,
) -> Iterator[Started]:
    """A program of Python that takes `--port`, once `ready` answers; ends it with SIGTERM.

    Raises:
        SystemExit: it ended, or did not become ready in time.
    """
    port = free_port()
    said = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(
        [sys.executable, *arguments, "--port", str(port)],
        env=os.environ | {"PIXELTIER_DRAIN_DELAY_S": "0"} if environment is None else environment,
        stdout=said,
        stderr=said,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(url + ready, process, time.monotonic() + patience_s)
        yield Started(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(url: str, process: "subprocess.Popen[bytes]", end: float) -> None:
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{url}: the server did not start")
        time.sleep(0.1)
