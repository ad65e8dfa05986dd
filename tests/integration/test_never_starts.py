"""Workers that can never start end the service with the reason; one that served before is started again for ever."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from pixeltier.models.cards import WEIGHTS
from pixeltier.service.api.context import AppContext
from tests.integration.fakes import FakeEngine, fake_app, load_broken, load_fake, running, until_ready

BOUND_S = 200
"""Three starts of two workers, each of which imports torch, on a busy machine."""


def serve(folder: Path, hook: str = "", **settings: str) -> "tuple[int, list[dict[str, Any]], str]":
    """Run `pixeltier serve` to its end: its status, its log, and the last line it says.

    Args:
        hook: Python that every process of it runs first.
    """
    (folder / "sitecustomize.py").write_text(hook)
    ours = {f"PIXELTIER_{name.upper()}": value for name, value in settings.items()}
    ended = subprocess.run(
        [sys.executable, "-m", "pixeltier.service.command_line", "serve", "--port", "0"],
        env=os.environ
        | {
            "PYTHONPATH": str(folder),
            "PIXELTIER_LOG_FORMAT": "json",
            "PIXELTIER_SLOTS": "1",
            "PIXELTIER_THREADS": "1",
        }
        | ours,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )
    everything = (ended.stdout + ended.stderr).splitlines()
    log = [json.loads(line) for line in everything if line.startswith("{")]
    return ended.returncode, log, ended.stderr.splitlines()[-1]


def _tries(log: list[dict[str, Any]]) -> int:
    return sum(line["event"] == "worker did not start" for line in log)


WRONG_TORCH = """
import sys, types
info = types.ModuleType("pixeltier.native._build_info")
info.TORCH_VERSION, info.CUDA = "2.11.0+cpu", False
sys.modules["pixeltier.native._build_info"] = info
"""


def test_an_extension_of_another_torch(tmp_path: Path) -> None:
    status, log, last = serve(tmp_path, WRONG_TORCH)
    assert status == 1
    assert _tries(log) == 3
    assert re.fullmatch(
        r"pixeltier: no worker could be started in 3 attempts: ExtensionError: "
        r".* built with torch 2\.11\.0\+cpu .*"
        rf"but torch {re.escape(torch.__version__)} is installed\. Run: .* -m pip install 'torch==2\.11\.\*'",
        last,
    )


def test_the_other_commands_say_so_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WRONG_TORCH)
    (tmp_path / "labels.csv").write_text("a.jpg,3\n")
    for expected, command in (
        (1, ["doctor"]),
        (2, ["evaluate", "classify", "labels.csv", "--images", "."]),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "pixeltier.service.command_line", *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND_S,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == expected, said
        assert "was built with torch 2.11.0+cpu" in said
        assert "Traceback" not in said


def test_missing_weights(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for card in WEIGHTS.glob("*.json"):
        shutil.copy(card, weights)
    status, log, last = serve(
        tmp_path, weights_dir=str(weights), slots="2", start_attempts="1", predictor_port="tcp://10.96.0.7:80"
    )
    assert status == 1
    ignored = [line["variables"] for line in log if line["event"].endswith("sets for Services are ignored")]
    assert ignored == [["PIXELTIER_PREDICTOR_PORT"]], "said once"
    assert _tries(log) == 2, "one attempt of each worker"
    assert "no worker could be started in 1 attempts: FileNotFoundError: " in last
    assert str(weights / "efficientnet_lite0.safetensors") in last
    assert last.count("FileNotFoundError") == 1, "a reason is said once"


KILLED_AT_TORCH = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), 9)
sys.meta_path.insert(0, Finder())
"""


def test_a_worker_that_the_kernel_kills(tmp_path: Path) -> None:
    """As it does where there is too little memory."""
    status, log, last = serve(tmp_path, KILLED_AT_TORCH)
    assert status == 1
    assert _tries(log) == 3
    assert "the worker process was ended by SIGKILL while starting; usually too little memory" in last


def test_too_little_memory_for_torch(tmp_path: Path) -> None:
    hook = """
import multiprocessing, resource
if "multiprocessing" in __import__("sys").argv[-1] or "--multiprocessing-fork" in __import__("sys").orig_argv:
    resource.setrlimit(resource.RLIMIT_AS, (300 * 2**20, 300 * 2**20))
"""
    status, log, last = serve(tmp_path, hook)
    assert status == 1
    assert _tries(log) == 3
    assert "no worker could be started in 3 attempts: " in last


def load_slowly(weights_dir: str | None) -> FakeEngine:
    time.sleep(60)
    return FakeEngine()


@pytest.mark.parametrize(
    ("engine", "timeout_s", "reason"),
    [
        (load_broken, 60, "RuntimeError: these weights are not for this network"),
        (load_slowly, 1.5, "not warm after 1.5 s (start_timeout_s)"),
    ],
)
async def test_the_reason_stands_in_the_pool(engine: Any, timeout_s: float, reason: str) -> None:
    app = fake_app(
        engine, pool="process", slots=2, start_attempts=2, restart_backoff_s=0.05, start_timeout_s=timeout_s
    )
    context: AppContext = app.state.context
    async with running(app, wait_ready=False) as client:
        await _until_given_up(context)
        failure = str(context.pool.start_failure)
        assert failure.startswith("no worker could be started in 2 attempts: ")
        assert failure.count(reason) == 1
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "no worker could be started; the log says why"
        metrics = (await client.get("/metrics")).text
        (restarts,) = re.findall(
            r'^pixeltier_worker_restarts_total\{reason="start_failed"\} (\S+)$', metrics, re.M
        )
        assert float(restarts) >= 4


async def _until_given_up(context: AppContext, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while context.pool.start_failure is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


MARKER = "NEVER_STARTS_MARKER"


def load_while_marked(weights_dir: str | None) -> FakeEngine:
    if not Path(os.environ[MARKER]).exists():
        raise RuntimeError("not now")
    return load_fake(weights_dir)


async def test_a_worker_that_served_before_is_started_again_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    monkeypatch.setenv(MARKER, str(marker))
    app = fake_app(
        load_while_marked,
        pool="process",
        start_attempts=1,
        restart_backoff_s=0.01,
        restart_backoff_limit_s=0.05,
    )
    context: AppContext = app.state.context
    async with running(app) as client:
        marker.unlink()
        os.kill(int(context.pool.report().workers[0].pid or 0), signal.SIGKILL)
        failed = 'pixeltier_worker_restarts_total{reason="start_failed"} '
        end = time.monotonic() + 60
        while await _sample(client, failed) < 3:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert context.pool.start_failure is None
        marker.touch()
        await until_ready(client)
        assert context.pool.report().ready


async def _sample(client: httpx.AsyncClient, start: str) -> float:
    text = (await client.get("/metrics")).text
    return next(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))
