"""Limits of the system under which nothing could run: one line that says which, instead of an abort."""

import os
import shutil
import subprocess
import sys
import threading

import pytest

from pixeltier.service.server import process_limits
from pixeltier.service.server.process_limits import ProcessLimitError

UNPRIVILEGED = 54321


def _serve(limit: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`pixeltier serve` under a limit; as another user where root's processes are not counted."""
    command = [
        "prlimit",
        limit,
        sys.executable,
        "-m",
        "pixeltier.service.command_line",
        "serve",
        "--port",
        "0",
    ]
    if os.getuid() == 0:
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "setpriv is missing (Debian: util-linux)"
        user = [f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups"]
        # It may still read the files that only root may.
        command = [setpriv, *user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", *command]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=os.environ | environment
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("--nproc=1", "raise ulimit -u"),
        ("--nproc=2", "raise ulimit -u"),
        ("--nproc=3", "raise ulimit -u"),
        ("--nofile=12", "raise ulimit -n"),
        ("--as=200000000", "raise ulimit -v"),
    ],
)
def test_a_limit_that_is_too_low_is_told(limit: str, said: str) -> None:
    done = _serve(limit)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pixeltier: "), done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_threads_that_cannot_be_had_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    real, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if len(started) == 5:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(ProcessLimitError, match="start 5 more threads or processes and it needs 18"):
            process_limits.check(slots=2, threads=1)
    assert threading.active_count() == before  # the tried ones have ended
    process_limits.check(slots=2, threads=1)
    assert threading.active_count() == before
