"""`pixeltier replay` with a small engine: what it runs, what it writes, what it says of mistakes."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixeltier.models.outcome import CostLimits
from pixeltier.service.command_line.main import main
from pixeltier.service.worker.startup import THREAD_VARIABLES
from tests.images import encoded, photo
from tests.integration.fakes import FAIL, FakeEngine, fake_app, running
from tests.integration.test_logs import log as log  # noqa: PLC0414  (a fixture)
from tests.tier_table import TIERS, tiers_file


class Counting(FakeEngine):
    """Knows what it was asked; sure of its class only where it computes most cells."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, float]] = Counter()

    def classify(
        self, images: Sequence[np.ndarray], thresholds: Sequence[float], limits: Sequence[CostLimits]
    ) -> Any:
        self.asked.update(("classify", threshold) for threshold in thresholds)
        outcomes = super().classify(images, thresholds, limits)
        for outcome, threshold in zip(outcomes, thresholds, strict=True):
            if threshold > 0.5:
                outcome.probabilities[:] = np.roll(outcome.probabilities, 1)  # type: ignore[union-attr]
        return outcomes

    def upscale(self, image: np.ndarray, threshold: float, limits: CostLimits, **options: Any) -> Any:
        self.asked["super-resolve", threshold] += 1
        return super().upscale(image, threshold, limits, **options)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Counting:
    for name in [name for name in os.environ if name.startswith("PIXELTIER_")]:
        monkeypatch.delenv(name)
    for name in (*THREAD_VARIABLES, "PILLOW_BLOCKS_MAX"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # put back after the command has set them
    counting = Counting()

    def load(*_: object) -> Counting:
        counting.asked.clear()
        return counting

    monkeypatch.setattr("pixeltier.service.worker.engine.load", load)
    return counting


@pytest.fixture
def day(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name, colour in (("red", 0), ("green", 1)):
        (images / f"{name}.png").write_bytes(encoded(photo(64, 48, colour)))
    (images / "large.png").write_bytes(encoded(Image.new("L", (600, 500))))
    tiers_file(tmp_path)
    path = tmp_path / "day.csv"
    rows = [f"{second},classify,{tier},red.png" for second, tier in enumerate(["exact", "fast", "fast", ""])]
    rows += ["9,super-resolve,fast,green.png", "10,classify,fast,green.png"]
    path.write_text("\n".join(["time,task,tier,image", *rows]))
    return path


def _replay(day: Path, *more: str) -> dict[str, Any]:
    out = day.with_name("out.json")
    known = ["--images", str(day.parent / "images"), "--tiers", str(day.parent / "tiers.toml")]
    assert main(["replay", str(day), *more, *known, "--json", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _leaves(document: Any) -> list[Any]:
    return (
        [leaf for part in document.values() for leaf in _leaves(part)]
        if isinstance(document, dict)
        else [document]
    )


def test_a_change_with_its_costs_and_answers(
    engine: Counting, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _replay(
        day, "fast.classify=0.52", "balanced.classify=0.51", "--workers", "1", "--deadline-ms", "1e6"
    )
    assert found["requests"] == 6
    assert found["images"] == 2
    assert [change["path"] for change in found["changes"]] == [
        "tiers.balanced.thresholds.classify.threshold",
        "tiers.fast.thresholds.classify.threshold",
    ]
    groups = {(group["task"], group["tier"]): group for group in found["groups"]}
    assert {key: group["requests"] for key, group in groups.items()} == {
        ("classify", "exact"): 1,
        ("classify", "balanced"): 1,
        ("classify", "fast"): 3,
        ("super-resolve", "fast"): 1,
    }
    balanced = groups["classify", "balanced"]  # 0.45 names the class, 0.51 another one
    assert balanced["current"]["to_exact"]["agreement"] == 1
    assert balanced["changed"]["to_exact"]["agreement"] == balanced["between"]["agreement"] == 0
    fast = groups["classify", "fast"]  # another one at 0.55 as at 0.52
    assert fast["current"]["to_exact"]["agreement"] == 0
    assert fast["between"]["agreement"] == 1
    enlarged = groups["super-resolve", "fast"]
    assert enlarged["between"] == {"agreement": None, "psnr_db": 100, "ssim": pytest.approx(1)}
    assert found["total"]["current"]["late"] == 0
    assert found["conditions"]["overhead_ms"] == 2
    assert "each other" in capsys.readouterr().out
    assert engine.threads >= 1


def test_each_image_runs_once_at_each_threshold_and_turn(engine: Counting, day: Path) -> None:
    _replay(day, "--repeats", "3")
    check = {0.0: 1, 0.5: 1}  # what the self-check runs
    assert {t: n for (task, t), n in engine.asked.items() if task == "classify"} == {
        0.0: 3 + 1 + check[0.0],  # of red, which is served at exact, in every turn; of green to compare with
        0.45: 3,
        0.5: check[0.5],
        0.55: 3 + 3,
    }


@pytest.mark.parametrize("same", [[], ["--with", "SAME"], ["fast.classify=0.55"]])
def test_equal_tables_make_no_difference(engine: Counting, day: Path, same: list[str]) -> None:
    (day.parent / "same.toml").write_text(TIERS)
    found = _replay(day, *[str(day.parent / "same.toml") if part == "SAME" else part for part in same])
    assert found["changes"] == []
    for group in [*found["groups"], found["total"]]:
        assert set(_leaves(group["difference"])) <= {0, None}
        assert group["between"]["agreement"] in {1, None}
        assert group["between"]["psnr_db"] in {100, None}


def test_a_whole_table_and_changes_on_top(engine: Counting, day: Path) -> None:
    other = day.parent / "other.toml"
    other.write_text(TIERS.replace("classify = 0.55", "classify = 0.6"))
    found = _replay(day, "fastest.classify=0.99", "--with", str(other))
    changed = found["thresholds"]["changed"]
    assert (changed["fast"]["classify"], changed["fastest"]["classify"]) == (0.6, 0.99)
    assert found["thresholds"]["current"]["fast"]["classify"] == 0.55


def test_images_too_large_to_compare_still_cost(engine: Counting, day: Path) -> None:
    day.write_text("time,task,tier,image\n0,super-resolve,fast,large.png\n")
    total = _replay(day)["total"]
    assert total["between"] == {"agreement": None, "psnr_db": None, "ssim": None}
    assert total["current"]["latency_ms"]["p50"] > 2


async def test_a_log_that_the_service_wrote(engine: Counting, day: Path, log: Any, tmp_path: Path) -> None:
    """Its tiers, its times, its thresholds; bad requests stand apart."""
    async with running(fake_app(tiers_file=tiers_file(tmp_path))) as client:
        image = encoded(photo(64, 48))
        for url in ("/v1/classify?tier=fast", "/v1/super-resolve", "/v1/classify?threshold=0.25"):
            assert (await client.post(url, content=image)).status_code == 200
        files = [("file", image), ("file", image), ("file", b"no image")]
        assert (await client.post("/v1/classify?tier=high", files=files)).status_code == 200
        assert (await client.post("/v1/classify?tier=fast", content=b"no image")).status_code == 422
        await client.get("/v1/tiers")
    (tmp_path / "service.log").write_text(log.getvalue())
    found = _replay(tmp_path / "service.log")
    assert {(group["task"], group["tier"]): group["requests"] for group in found["groups"]} == {
        ("classify", "high"): 2,
        ("classify", "fast"): 1,
        ("classify", "custom"): 1,
        ("super-resolve", "balanced"): 1,
    }
    assert found["left_out"] == {"undecodable-image": 1}
    assert found["far_in_size"] == 0
    assert 0 < found["conditions"]["overhead_ms"] < 1000
    assert engine.asked["classify", 0.25] > 0
    assert _replay(tmp_path / "service.log", "--overhead-ms", "0")["conditions"]["overhead_ms"] == 0


async def test_times_as_recorded_or_as_measured(
    engine: Counting, day: Path, log: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(fake_app(tiers_file=tiers_file(tmp_path))) as client:
        for _ in range(9):
            await client.post("/v1/classify?tier=fast", content=encoded(photo(64, 48)))
    (tmp_path / "service.log").write_text(log.getvalue())
    assert set(_replay(tmp_path / "service.log")["conditions"]["time_factors"]) == {"classify"}
    assert "time in a worker as recorded" in capsys.readouterr().out
    assert _replay(tmp_path / "service.log", "--times", "measured")["conditions"]["time_factors"] == {}


def test_mistakes_are_one_line(engine: Counting, day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = ["--images", str(day.parent / "images")]
    bad = day.parent / "bad.toml"
    bad.write_text("default = 5")
    for arguments, said in (
        (["fast.classify"], "is not KEY=VALUE"),
        (["fast.classify=2"], "tiers.fast.thresholds.classify"),
        (["slow.classify=0.5"], "tiers.slow: there is no such tier"),
        (["--with", str(bad)], f"{bad}: "),
        (["--tiers", str(bad)], f"{bad}: "),
        (["--with", "/no/such.toml"], "/no/such.toml"),
        (["--config-file", "/no/such.toml"], "/no/such.toml"),
    ):
        assert main(["replay", str(day), *arguments, *images]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main(["replay", "/no/such.csv"]) == 1
    assert "/no/such.csv: No such file" in capsys.readouterr().err
    for option in ("--workers=0", "--speed=0", "--overhead-ms=-1", "--deadline-ms=nan", "--repeats=x"):
        with pytest.raises(SystemExit):
            main(["replay", str(day), option])
        assert option.partition("=")[0] in capsys.readouterr().err


def test_an_image_that_no_worker_takes_is_named(
    engine: Counting, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (day.parent / "images" / "broken.png").write_bytes(b"no image")
    known = ["--images", str(day.parent / "images"), "--tiers", str(day.parent / "tiers.toml")]
    day.write_text("time,task,tier,image\n0,classify,fast,broken.png\n")
    assert main(["replay", str(day), *known]) == 2
    assert "broken.png: this is not a JPEG, PNG or WebP image" in capsys.readouterr().err
    day.write_text(f"time,task,image,threshold\n0,classify,red.png,{FAIL}\n")
    assert main(["replay", str(day), *known]) == 2
    assert "red.png: classify failed: ArithmeticError" in capsys.readouterr().err
