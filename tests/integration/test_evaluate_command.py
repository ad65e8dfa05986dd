"""`pixeltier evaluate` on small data sets: the table, the rows, the errors."""

import csv
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixeltier.models.cards import WEIGHTS, load_card, write_card
from pixeltier.models.networks.resnet18 import ResNet18, ResNet18Shape
from pixeltier.service.command_line.main import main

SAMPLES = Path(__file__).parents[2] / "docs/samples"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for folder in ("HR", "LR_x4"):
        (tmp_path / folder).mkdir()
    for name in ("chelsea", "astronaut"):
        with Image.open(SAMPLES / f"{name}.jpg") as image:
            hr = image.convert("RGB").crop((100, 60, 261, 180))  # a width that is not a multiple of four
        hr.save(tmp_path / "HR" / f"{name}.png")
        hr.crop((0, 0, 160, 120)).resize((40, 30), Image.Resampling.BICUBIC).save(
            tmp_path / "LR_x4" / f"{name}x4.png"
        )
    return tmp_path


def test_super_resolve_rows(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert main(["evaluate", "super-resolve", str(pairs), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = found["rows"]
    assert found["images"] == 2
    assert found["oracle"] == []
    assert [row["name"] for row in rows] == ["exact", "high", "balanced", "fast", "fastest"]
    assert set(rows[0]) == {"name", "threshold", "macs_saved", "psnr_y", "ssim_y", "to_exact"}
    assert rows[0]["to_exact"] == {}
    for row in rows[1:]:
        gap = row["to_exact"]["psnr_y"]
        assert gap["low"] <= gap["value"] <= gap["high"]
        assert gap["value"] == pytest.approx(row["psnr_y"] - rows[0]["psnr_y"])
    rivals = {row["name"]: row for row in found["rivals"]}
    assert set(rivals) == {"bicubic", "base alone"}
    assert rivals["bicubic"]["macs_saved"] == 1
    assert rows[-1]["macs_saved"] <= rivals["base alone"]["macs_saved"] < 1
    saved = [row["macs_saved"] for row in rows]
    assert saved == sorted(saved)
    assert rows[0]["threshold"] == 0
    assert all(20 < row["psnr_y"] < 50 and 0.5 < row["ssim_y"] < 1 for row in rows)
    assert "psnr_y" in capsys.readouterr().out


def test_a_curve_at_given_thresholds_with_its_oracle(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "rows.json", tmp_path / "curve.png"
    command = ["evaluate", "super-resolve", str(pairs), "--json", str(out), "--thresholds", "0,0.8"]
    assert main([*command, "--oracle", "--plot", str(picture)]) == 0
    found = json.loads(out.read_text())
    assert [(row["name"], row["threshold"]) for row in found["rows"]] == [(None, 0), (None, 0.8)]
    assert found["oracle"][0]["psnr_y"] == found["rows"][0]["psnr_y"]
    assert found["oracle"][1]["macs_saved"] >= found["rows"][1]["macs_saved"]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "oracle" in capsys.readouterr().out


def test_the_curve_and_its_intervals_go_into_the_card(pairs: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    command = ["evaluate", "super-resolve", str(pairs), "--weights", str(weights), "--thresholds", "0.9,0"]
    assert main([*command, "--update-card", "two photos"]) == 0
    card = load_card("super-resolve", weights)
    assert card.expectations_data == "two photos"
    assert [point.threshold for point in card.expectations] == [0, 0.9]
    assert card.expectations[0].to_exact == {}
    gap = card.expectations[1].to_exact["psnr_y"]
    assert gap.low <= gap.value <= gap.high < 1


def test_thresholds_for_shares_of_the_macs(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.json"
    assert main(["evaluate", "super-resolve", str(pairs), "--suggest-tiers", "0.3", "0.6"]) == 0
    tiers = tomllib.loads(capsys.readouterr().out)["tiers"]
    assert [tier["name"] for tier in tiers] == ["saves-30", "saves-60"]
    thresholds = ",".join(str(tier["thresholds"]["super-resolve"]) for tier in tiers)
    command = ["evaluate", "super-resolve", str(pairs), "--json", str(out), "--thresholds", thresholds]
    assert main(command) == 0
    saved = [row["macs_saved"] for row in json.loads(out.read_text())["rows"]]
    assert 0.3 <= saved[0] < 0.34
    assert 0.6 <= saved[1] < 0.64
    assert main(["evaluate", "super-resolve", str(pairs), "--suggest-tiers", "0.99"]) == 2
    assert "at most" in capsys.readouterr().err


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "imagenet_index"])
        writer.writerow(["chelsea.jpg", 285])
        writer.writerow(["astronaut.jpg", 652])
    return path


def test_classify_rows(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert main(["evaluate", "classify", str(table), "--images", str(SAMPLES), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert set(rows[0]) == {"name", "threshold", "macs_saved", "top1", "top5", "agreement", "to_exact"}
    assert rows[0]["agreement"] == 1
    assert rows[0]["top5"] >= 0.5
    saved = [row["macs_saved"] for row in rows]
    assert saved == sorted(saved)  # not strictly: of two sure photos neighbouring tiers may refine the same
    assert saved[-1] > saved[0]


def test_the_loss_of_int8_goes_into_the_card(table: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    card = load_card("classify", weights)
    assert card.int8 is not None
    unmeasured = card.int8.model_copy(update={"top1_loss": None, "loss_data": ""})
    write_card(card.model_copy(update={"int8": unmeasured}), weights)
    command = ["evaluate", "classify", str(table), "--images", str(SAMPLES), "--weights", str(weights)]
    assert main([*command, "--thresholds", "0,1", "--update-card", "two photos"]) == 0
    found = load_card("classify", weights).int8
    assert found is not None
    assert found.ranges == card.int8.ranges
    assert found.loss_data == "two photos"
    assert found.top1_loss in {-0.5, 0.0, 0.5}


def test_classify_beside_its_rivals(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dense networks on the same photos, at their MACs and in the same run's milliseconds."""
    torch.manual_seed(0)
    torch.save(ResNet18(ResNet18Shape(1000, 0)).state_dict(), tmp_path / "resnet18.pth")
    out, plot = tmp_path / "rows.json", tmp_path / "curve.png"
    command = ["evaluate", "classify", str(table), "--images", str(SAMPLES), "--json", str(out)]
    command += [
        "--rivals",
        "--resnet18",
        str(tmp_path / "resnet18.pth"),
        "--time",
        "0.1",
        "--plot",
        str(plot),
    ]
    assert main(command) == 0
    found = json.loads(out.read_text())
    rivals = {row["name"]: row for row in found["rivals"]}
    views = (224, 192, 160, 128)
    assert set(rivals) == {
        "base alone",
        *(f"EfficientNet-Lite0 {view}" for view in views),
        *(f"ResNet-18 {view}" for view in views),
    }
    for name in ("top1", "top5"):
        assert rivals["EfficientNet-Lite0 224"][name] == rivals["base alone"][name]
    assert rivals["EfficientNet-Lite0 224"]["macs_saved"] == pytest.approx(0.787, abs=0.005)
    assert rivals["ResNet-18 224"]["macs_saved"] == 0
    assert rivals["ResNet-18 128"]["macs_saved"] == pytest.approx(1 - (128 / 224) ** 2, abs=0.01)
    for row in (*found["rows"], *(row for name, row in rivals.items() if name != "base alone")):
        assert row["milliseconds"] > 0
    assert " ms " in capsys.readouterr().out.splitlines()[0]
    with Image.open(plot) as picture:
        assert picture.height > picture.width * 0.7  # two rows of panels


def test_errors_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "super-resolve", str(tmp_path)]) == 2
    assert "HR/ and LR_x4/" in capsys.readouterr().err
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na,1\n")
    assert main(["evaluate", "classify", str(table), "--images", str(tmp_path)]) == 2
    assert "no column 'path'" in capsys.readouterr().err
    table.write_text("path,class_index\nchelsea.jpg,1000\n")
    assert main(["evaluate", "classify", str(table), "--images", str(SAMPLES)]) == 2
    assert "classes lie between 0 and 999" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "super-resolve", str(tmp_path), "--thresholds", "0,1.5"])
    assert "between 0 and 1" in capsys.readouterr().err


def test_pictures_command_input_is_shipped() -> None:
    for name in ("chelsea.jpg", "astronaut.jpg"):
        with Image.open(SAMPLES / name) as image:
            assert np.asarray(image.convert("RGB")).std() > 10
