"""`pixeltier evaluate` on small data sets: the table, the rows, the errors."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.cli import main

SAMPLES = Path(__file__).parents[2] / "docs/samples"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for folder in ("HR", "LR_x4"):
        (tmp_path / folder).mkdir()
    for name in ("chelsea", "astronaut"):
        with Image.open(SAMPLES / f"{name}.jpg") as image:
            hr = image.convert("RGB").crop((100, 60, 261, 180))  # a width that is no multiple of four
        hr.save(tmp_path / "HR" / f"{name}.png")
        hr.crop((0, 0, 160, 120)).resize((40, 30), Image.Resampling.BICUBIC).save(
            tmp_path / "LR_x4" / f"{name}x4.png"
        )
    return tmp_path


def test_super_resolve_rows(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert main(["evaluate", "super-resolve", str(pairs), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert [row["tier"] for row in rows] == ["exact", "high", "balanced", "fast", "fastest"]
    assert set(rows[0]) == {"tier", "threshold", "macs_saved", "psnr_y", "ssim_y"}
    saved = [row["macs_saved"] for row in rows]
    assert saved == sorted(saved)
    assert rows[0]["threshold"] == 0
    assert all(20 < row["psnr_y"] < 50 and 0.5 < row["ssim_y"] < 1 for row in rows)
    assert "psnr_y" in capsys.readouterr().out


def test_a_curve_at_given_thresholds(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    command = ["evaluate", "super-resolve", str(pairs), "--json", str(out), "--thresholds", "0,0.5,1"]
    assert main(command) == 0
    rows = json.loads(out.read_text())
    assert [(row["tier"], row["threshold"]) for row in rows] == [(None, 0), (None, 0.5), (None, 1)]


def test_classify_rows(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "imagenet_index"])
        writer.writerow(["chelsea.jpg", 285])
        writer.writerow(["astronaut.jpg", 652])
    out = tmp_path / "rows.json"
    assert main(["evaluate", "classify", str(table), "--images", str(SAMPLES), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert set(rows[0]) == {"tier", "threshold", "macs_saved", "top1", "top5", "agreement"}
    assert rows[0]["agreement"] == 1
    assert rows[0]["top5"] >= 0.5
    saved = [row["macs_saved"] for row in rows]
    assert all(a < b for a, b in pairwise(saved))


def test_errors_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "super-resolve", str(tmp_path)]) == 2
    assert "HR/ and LR_x4/" in capsys.readouterr().err
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na,1\n")
    assert main(["evaluate", "classify", str(table), "--images", str(tmp_path)]) == 2
    assert "no column 'path'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "super-resolve", str(tmp_path), "--thresholds", "0,1.5"])
    assert "between 0 and 1" in capsys.readouterr().err


def test_pictures_command_input_is_shipped() -> None:
    for name in ("chelsea.jpg", "astronaut.jpg"):
        with Image.open(SAMPLES / name) as image:
            assert np.asarray(image.convert("RGB")).std() > 10
