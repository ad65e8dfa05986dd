"""Rivals of an evaluation and its clock: which network a file holds, x4 networks in engines, who is timed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixeltier.models import counting
from pixeltier.models.evaluation import timing
from pixeltier.models.evaluation.dense_classifiers import LITE_SIZES, read_lite
from pixeltier.models.evaluation.dense_resolvers import base_resolver, dense_resolvers
from pixeltier.models.evaluation.engines import export
from pixeltier.models.evaluation.interleaved import Sample
from pixeltier.models.evaluation.plain_networks import PlainESPAN
from pixeltier.models.evaluation.points import Evaluation, Row
from pixeltier.models.evaluation.rivals import bicubic
from pixeltier.models.networks.efficientnet_lite import EfficientNetLiteShape, _public_names
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from tests.unit.models.networks import super_resolution


def public_state(shape: EfficientNetLiteShape) -> dict[str, torch.Tensor]:
    """A state dict in the public names, of random weights."""
    from pixeltier.models.networks.efficientnet_lite import EfficientNetLite

    own = EfficientNetLite(shape).state_dict()
    state = {"_fc.weight": own["fc.weight"], "_fc.bias": own["fc.bias"]}
    for name, (conv, norm) in _public_names(shape).items():
        weight = own[f"{name}.weight"]
        state[f"{conv}.weight"] = weight
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = torch.ones(len(weight))
    return state


@pytest.mark.parametrize("name", ["EfficientNet-Lite0", "EfficientNet-Lite1", "EfficientNet-Lite2"])
def test_the_size_of_a_lite_is_told_from_its_file(tmp_path: Path, name: str) -> None:
    size = LITE_SIZES[name]
    shape = EfficientNetLiteShape(5, size.width, size.depth)
    torch.save(public_state(shape), tmp_path / "lite.pth")
    found, network = read_lite(tmp_path / "lite.pth", 5)
    assert (found, network.shape) == (name, shape)
    with pytest.raises(ValueError, match="not an EfficientNet-Lite0 to 4 of 6 classes"):
        read_lite(tmp_path / "lite.pth", 6)


def test_the_base_in_an_engine_is_the_base() -> None:
    model = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1))
    macs = counting.espan(blocks=1)
    rival = base_resolver(model.base, macs, threads=1)
    for height, width in ((9, 14), (14, 9)):  # compiled for each size
        lr = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        x = torch.from_numpy(lr.astype(np.float32) / 255).permute(2, 0, 1)[None]
        with torch.inference_mode():
            wanted = (model.base(x)[1][0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        assert np.abs(rival(lr) - wanted).max() < 0.51
        assert rival.macs(height, width) == height * width * macs


def test_a_network_in_a_file_is_a_rival_of_its_name_and_its_own_macs(tmp_path: Path) -> None:
    base = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1)).base
    path = tmp_path / "small.onnx"
    path.write_bytes(export(PlainESPAN(base), torch.zeros(1, 3, 8, 8)))
    alone, from_file = dense_resolvers(base, counting.espan(blocks=1), [path])
    assert (alone.name, from_file.name) == ("ESPAN", "small")
    assert from_file.macs(8, 8) == alone.macs(8, 8)
    lr = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(alone(lr), from_file(lr))
    assert dense_resolvers(None, 1, []) == []


def test_a_network_of_another_factor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "same.onnx"
    path.write_bytes(export(torch.nn.Conv2d(3, 3, 3, padding=1), torch.zeros(1, 3, 8, 8)))
    (rival,) = dense_resolvers(None, 1, [path])
    with pytest.raises(ValueError, match="a x4 network gives"):
        rival(np.zeros((8, 8, 3), np.uint8))


def test_all_that_was_computed_is_timed_on_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = [Row("exact", 0.0, -0.2, {}), Row("fast", 0.9, 0.7, {})]
    rivals = [Row("base alone", None, 0.8, {}), Row("bicubic", None, 1.0, {}), Row("IMDN", None, 0.6, {})]
    images = [np.full((4, 4, 3), index, np.uint8) for index in range(3)]
    seen: dict[str, list[int]] = {}

    def note(name: str, image: np.ndarray) -> None:
        seen.setdefault(name, []).append(int(image[0, 0, 0]))

    def clock(turns: list, seconds: float, label: str) -> list[list[Sample]]:
        for turn in turns:
            turn()
        return [[Sample(ms, 0.0) for ms in (3.0 * (i + 1), 3.0 * (i + 1), 900.0)] for i in range(len(turns))]

    monkeypatch.setattr(timing, "interleaved", clock)
    found = timing.timed(
        Evaluation(3, learned, [], rivals),
        lambda threshold, image: note(str(threshold), image),
        {
            "base alone": lambda image: note("base", image),
            "IMDN": lambda image: note("imdn", image),
            "not in the table": lambda image: note("stranger", image),
        },
        images,
        1.0,
    )
    assert seen == {name: [0, 1, 2] for name in ("0.0", "0.9", "base", "imdn")}
    assert [row.milliseconds for row in found.learned] == [1.0, 2.0]
    assert [row.milliseconds for row in found.rivals] == [3.0, None, 4.0]
    assert found.rivals[1].as_json().get("milliseconds") is None


def test_images_are_spread_over_a_set() -> None:
    assert timing.spread(range(100), 4) == [0, 25, 50, 75]
    assert timing.spread(range(3), 4) == [0, 1, 2]
    assert len(timing.spread(range(7), 4)) == 4
    assert bicubic(np.zeros((2, 3, 3), np.uint8)).shape == (8, 12, 3)
