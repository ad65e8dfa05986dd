"""An operator at a real service: SIGHUP, a kill in the middle of changes, the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from pixeltier.service.tiers.history import StateDirectory
from tests.e2e.conftest import serve
from tests.tier_table import TIERS, tiers_file

TOKEN = "a-token-for-the-operator"


def _classify(url: str, cat: bytes, tier: str = "fast") -> httpx.Response:
    return httpx.post(f"{url}/v1/classify?tier={tier}", content=cat, timeout=60)


def _fast(url: str) -> float:
    tiers = httpx.get(f"{url}/v1/tiers").json()["tiers"]
    return float(next(tier for tier in tiers if tier["name"] == "fast")["models"]["classify"]["threshold"])


def _cli(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")}
    return subprocess.run(
        [sys.executable, "-m", "pixeltier.service.command_line", "tiers", *arguments, "--url", url],
        env=environment | {"PIXELTIER_ADMIN_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"alice:{TOKEN}\n")
    return path


def test_the_command_line_and_a_kill_at_any_moment(tmp_path: Path, tokens: Path, cat: bytes) -> None:
    settings = {
        "admin_token_file": str(tokens),
        "tiers_file": str(tiers_file(tmp_path)),
        "state_dir": str(tmp_path / "state"),
        "slots": "1",
        "threads": "1",
    }
    with serve(tmp_path / "log", **settings) as served:
        before = _classify(served.url, cat)
        dry = _cli(served.url, "dry-run", "fast.classify=0.6")
        assert dry.returncode == 0, dry.stderr
        assert "tiers.fast.thresholds.classify.threshold" in dry.stdout
        changed = _cli(served.url, "set", "fast.classify=0.6", "--reason", "tighten")
        assert changed.returncode == 0, changed.stderr
        assert "version 2 is in force" in changed.stdout
        after = _classify(served.url, cat)
        assert float(after.headers["x-threshold"]) == 0.6
        assert int(after.headers["x-macs-executed"]) <= int(before.headers["x-macs-executed"])
        assert "tighten" in _cli(served.url, "history").stdout
        assert json.loads(_cli(served.url, "show", "--json").stdout)["version"] == 2
        back = _cli(served.url, "rollback", "--reason", "too much")
        assert "version 3 is in force: too much" in back.stdout
        assert _classify(served.url, cat).headers["x-threshold"] == before.headers["x-threshold"]
        silent = _cli(served.url, "set", "fast.classify=0.61")
        assert silent.returncode == 1
        assert "say why: --reason" in silent.stderr
        refused = _cli(served.url, "set", "fast.classify=0.01", "--reason", "a mistake")
        assert refused.returncode == 1
        assert "must not have a lower threshold" in refused.stderr

        answered = [3]

        def change_for_ever() -> None:
            n = 0
            try:
                while True:
                    n += 1
                    document = {"tiers": {"fast": {"thresholds": {"classify": 0.56 + 0.0001 * (n % 500)}}}}
                    answer = httpx.patch(
                        f"{served.url}/admin/v1/tiers",
                        json=document,
                        headers={
                            "if-match": "*",
                            "authorization": f"Bearer {TOKEN}",
                            "x-change-reason": f"change {n}",
                        },
                    )
                    answered.append(answer.json()["version"])
            except (httpx.HTTPError, ValueError):
                return

        writer = threading.Thread(target=change_for_ever)
        writer.start()
        time.sleep(0.7)
        served.process.kill()
        served.process.wait(20)
        writer.join(20)
    stored = StateDirectory(tmp_path / "state").read()
    assert stored[-1].version in {answered[-1], answered[-1] + 1}, "what was answered is there"
    assert [one.version for one in stored] == list(range(1, stored[-1].version + 1))
    assert len(answered) > 3
    with serve(tmp_path / "log2", **settings) as served:
        again = _classify(served.url, cat)
        assert int(again.headers["x-config-version"]) == stored[-1].version
        assert float(again.headers["x-threshold"]) == pytest.approx(stored[-1].thresholds["fast"]["classify"])


def test_sighup_and_an_edit_reach_a_running_service(tmp_path: Path, tokens: Path, cat: bytes) -> None:
    file = tiers_file(tmp_path)
    line, threshold = "classify = 0.55", 0.55
    assert line in TIERS
    settings = {"tiers_file": str(file), "tiers_watch_s": "0.2", "slots": "1", "threads": "1"}
    with serve(tmp_path / "log", admin_token_file=str(tokens), **settings) as served:
        headers = {"authorization": f"Bearer {TOKEN}", "if-match": "*", "x-change-reason": "a test"}

        def until(threshold: float) -> None:
            end = time.monotonic() + 20
            while (found := _fast(served.url)) != threshold:
                assert time.monotonic() < end, (found, threshold)
                time.sleep(0.05)

        file.write_text(TIERS.replace(line, "classify = 0.61"))
        until(0.61)
        file.write_text(TIERS.replace(line, "classify = "))
        body = {"tiers": {"fast": {"thresholds": {"classify": 0.62}}}}
        httpx.patch(f"{served.url}/admin/v1/tiers", json=body, headers=headers).raise_for_status()
        time.sleep(1)
        until(0.62)
        served.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        until(0.62)
        file.write_text(TIERS)
        served.process.send_signal(signal.SIGHUP)
        until(threshold)
        assert float(_classify(served.url, cat).headers["x-threshold"]) == threshold
        text = httpx.get(f"{served.url}/metrics").text
        assert 'pixeltier_config_reloads_total{result="rejected"}' in text
        rejected = next(
            line for line in text.splitlines() if 'result="rejected"' in line and "reloads" in line
        )
        assert float(rejected.split()[-1]) >= 2


def test_a_state_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pixeltier.service.command_line",
            "serve",
            "--state-dir",
            str(tmp_path / "file"),
            "--port",
            "0",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "state_dir" in result.stderr
    assert "Traceback" not in result.stderr
