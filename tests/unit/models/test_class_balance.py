"""Photos are drawn evenly over what is seen in them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pixeltier.models.training.class_balance import draw_probabilities, seen_classes
from pixeltier.models.training.classify_photos import AugmentedBatches

CPU = torch.device("cpu")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 1))
def test_probabilities_lie_between_those_of_photos_and_of_classes(
    classes: list[int], evenness: float
) -> None:
    found = draw_probabilities(np.array(classes), evenness)
    assert found.sum() == pytest.approx(1)
    counts = np.bincount(classes)
    of_class = {c: found[np.array(classes) == c].sum() for c in set(classes)}
    weights = {c: counts[c] ** (1 - evenness) for c in set(classes)}
    for c, share in of_class.items():
        assert share == pytest.approx(weights[c] / sum(weights.values()))


def _photos(folder: Path, greens: list[int]) -> list[Path]:
    paths = []
    for place, green in enumerate(greens):
        paths.append(folder / f"{place}.png")
        Image.new("RGB", (40, 30), (0, green, 0)).save(paths[-1])
    return paths


def _brightness(x: Tensor) -> Tensor:
    """Class 1 where the green channel is bright, else 0."""
    bright = x[:, 1].mean(dim=(1, 2))
    return torch.stack([-bright, bright], 1)


def test_classes_are_seen_once_for_a_list_of_photos(tmp_path: Path) -> None:
    paths = _photos(tmp_path, [255, 0, 255, 255, 0] * 9)
    cache = tmp_path / "run" / "classes.npz"
    found = seen_classes(_brightness, paths, cache, CPU)
    assert found.tolist() == [1, 0, 1, 1, 0] * 9

    def unused(x: Tensor) -> Tensor:
        raise AssertionError(x.shape)

    assert seen_classes(unused, paths, cache, CPU).tolist() == found.tolist()
    assert seen_classes(_brightness, paths[1:], cache, CPU).tolist() == found.tolist()[1:]


def test_batches_follow_the_probabilities(tmp_path: Path) -> None:
    paths = _photos(tmp_path, [255, 0, 0, 0])
    batches = AugmentedBatches(paths, 16, seed=1, probabilities=np.array([1.0, 0.0, 0.0, 0.0]))
    try:
        assert float(batches.next()[:, 1].amin()) > 0.5
    finally:
        batches.close()
