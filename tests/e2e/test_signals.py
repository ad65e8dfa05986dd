"""No signal but SIGKILL ends the service without a drain, and none ends a worker behind its back."""

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import serve

STRAY = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def _slots(parent: int) -> list[int]:
    lists = Path(f"/proc/{parent}/task").glob("*/children")  # each thread has its own
    children = [pid for one in lists for pid in one.read_text().split()]
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_signals_that_mean_nothing_here_change_nothing(tmp_path: Path, cat: bytes) -> None:
    with serve(tmp_path / "log", slots="1", threads="1") as served:
        slots = _slots(served.process.pid)
        assert len(slots) == 1
        for number in STRAY:
            served.process.send_signal(number)
        for number in (*STRAY, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM):
            os.kill(slots[0], number)
        time.sleep(0.5)
        assert served.process.poll() is None
        assert httpx.post(f"{served.url}/v1/classify", content=cat, timeout=60).status_code == 200
        assert _slots(served.process.pid) == slots
        log = served.log.read_text()
        assert "SIGHUP: there is no tier file to read again" in log
        assert '"signal": "SIGUSR1"' in log

        answers: list[int] = []
        request = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{served.url}/v1/super-resolve?tier=exact", content=cat, timeout=60).status_code
            )
        )
        request.start()
        end = time.monotonic() + 30
        while 'pixeltier_workers{state="busy"} 1.0' not in httpx.get(f"{served.url}/metrics").text:
            assert time.monotonic() < end
        served.process.send_signal(signal.SIGQUIT)
        request.join(60)
        assert answers == [200]  # drained
        assert served.process.wait(40) == 0


def test_a_drain_goes_on_under_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)  # as under an init system: nothing here needs one
    stop = threading.Event()

    def disturb(pid: int) -> None:
        while not stop.wait(0.05):
            os.kill(pid, signal.SIGHUP)

    log = tmp_path / "log"
    with serve(log, slots="1", threads="1") as served:
        thread = threading.Thread(target=disturb, args=(served.process.pid,))
        thread.start()
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 40
        while served.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        stop.set()
        thread.join()
        assert served.process.returncode == 0
