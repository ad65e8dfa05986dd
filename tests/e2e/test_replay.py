"""A log that the real service wrote, replayed without it, on the shipped photos and weights."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SAMPLES, serve
from tests.tier_table import TIERS

PHOTOS = ("chelsea.jpg", "astronaut.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service's log and tier table; the service has ended."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "tiers.toml").write_text(TIERS)
    chelsea = (SAMPLES / "chelsea.jpg").read_bytes()
    with (
        serve(folder / "log", tiers_file=str(folder / "tiers.toml"), slots="1") as served,
        httpx.Client(base_url=served.url, timeout=120) as client,
    ):
        for photo, tier in product(PHOTOS, ("exact", "fastest", "fastest")):
            image = (SAMPLES / photo).read_bytes()
            assert client.post(f"/v1/classify?tier={tier}", content=image).status_code == 200
        assert client.post("/v1/super-resolve?tier=fast", content=chelsea).status_code == 200
        assert client.post("/v1/classify", content=b"no image").status_code == 422
    return folder


def _replay(folder: Path, *arguments: str) -> dict[str, Any]:
    known = [
        "--images",
        str(SAMPLES),
        "--tiers",
        str(folder / "tiers.toml"),
        "--json",
        str(folder / "out.json"),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIXELTIER_")}
    done = subprocess.run(
        [sys.executable, "-m", "pixeltier.service.command_line", "replay", *arguments, *known],
        env=kept | {"PIXELTIER_SLOTS": "1", "PIXELTIER_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "each other" in done.stdout
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def _served(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == "request" and line.get("outcome") == "ok"]


def test_the_log_of_a_service(folder: Path) -> None:
    found = _replay(folder, str(folder / "log"), "fastest.classify=0.9", "--repeats", "1")
    groups = {(group["task"], group["tier"]): group for group in found["groups"]}
    assert {key: group["requests"] for key, group in groups.items()} == {
        ("classify", "exact"): 2,
        ("classify", "fastest"): 4,
        ("super-resolve", "fast"): 1,
    }
    assert found["left_out"] == {"undecodable-image": 1}
    assert found["far_in_size"] == 0  # each photo was found again by its size
    for (task, tier), group in groups.items():
        served = [one for one in _served(folder) if (one["model"], one["tier"]) == (task, tier)]
        saved = 1 - sum(one["macs_executed"] for one in served) / sum(one["macs_dense"] for one in served)
        assert group["current"]["macs_saved"] == pytest.approx(saved, abs=1e-9)
        assert (group["difference"]["macs_saved"] != 0) <= ((task, tier) == ("classify", "fastest"))
    assert groups["classify", "fastest"]["difference"]["macs_saved"] >= 0
    assert groups["classify", "exact"]["current"]["to_exact"]["agreement"] == 1
    enlarged = groups["super-resolve", "fast"]
    assert 30 < enlarged["current"]["to_exact"]["psnr_db"] < 100
    assert 0.9 < enlarged["current"]["to_exact"]["ssim"] <= 1
    assert enlarged["between"]["psnr_db"] == 100
    assert found["conditions"]["workers"] == 1
    assert 0 < found["total"]["current"]["utilisation"] <= 1


def test_a_table_of_arrivals_and_the_same_tiers(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "day.jsonl"
    rows = [
        {"time": f"2026-11-26T10:00:{n:02}Z", "task": "classify", "tier": "high", "image": PHOTOS[n % 2]}
        for n in range(10)
    ]
    table.write_text("\n".join(map(json.dumps, rows)))
    found = _replay(folder, str(table), "--with", str(folder / "tiers.toml"), "--speed", "1e6")
    (group,) = found["groups"]
    assert group["current"] == group["changed"]
    assert group["between"]["agreement"] == 1
    # All at once, and one worker: nine wait, the last one for all the others.
    assert found["longest_queue"]["current"] == 9
    assert group["current"]["wait_ms"]["p99"] > 1.25 * group["current"]["wait_ms"]["p50"] > 0
    assert group["current"]["utilisation"] == pytest.approx(1, abs=0.01)
    assert found["recorded_s"] == 9
