"""Training of the classifier: runs resume, frozen layers stay, last layers are solved, checkpoints can be served."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixeltier.models.checkpoints import load_classification
from pixeltier.models.engine import Classifier
from pixeltier.models.images import read_classify_input
from pixeltier.models.networks.classification import ClassificationShape, base_input
from pixeltier.models.training import classify
from pixeltier.models.training.classify_photos import AugmentedBatches, mixed
from pixeltier.models.training.export import calibrate
from pixeltier.models.training.least_squares import LinearFit
from pixeltier.models.training.spread import CANDIDATES, choose_spread
from pixeltier.models.training.start import start_classification
from pixeltier.models.training.teachers import OwnStart
from tests.unit.models.networks import as_images, classification
from tests.unit.models.training import (
    CLASSES,
    State,
    assert_same,
    interrupted,
    moved,
    naming,
    weights_of,
)


def test_a_classifier_that_was_interrupted_ends_bit_for_bit_the_same(
    tmp_path: Path, photos: Path, start: Path
) -> None:
    runs = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        config = naming(tmp_path / name, start, photos, mixed_share=0.9, fitted_views=6)
        if name == "whole":
            runs.append(weights_of(classify.train(config)))
        else:
            runs.append(weights_of(interrupted(classify.train, config, classify, at=2)))
    assert_same(*runs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_classifier_learns_and_can_be_served(
    tmp_path: Path, photos: Path, start: Path, start_state: State, dtype: str
) -> None:
    checkpoint = classify.train(naming(tmp_path, start, photos, steps=2, learning_rate=1e-3, dtype=dtype))
    state = weights_of(checkpoint)
    changed = moved(start_state, state["model"])
    assert not [name for name in changed if name.startswith("base.")]
    assert "importance.spread" not in changed
    assert {
        "refinement.conv1.weight",
        "refinement.layer1.0.conv1.weight",
        "refinement.layer4.1.conv2.weight",
        "refinement.fuse.weight",
        "refinement.fc.weight",
        "importance.hidden.weight",
        "importance.out.weight",
        "combination.base_weights",
        "combination.refinement_weights",
    } <= changed

    out = tmp_path / "weights"
    card = calibrate("classify", checkpoint, sorted(photos.iterdir()), out, "0.0.1", "five photos")
    model, loaded = load_classification(out)
    assert loaded == card
    assert card.int8 is not None
    assert card.int8.top1_loss is None
    Classifier.load(out, "int8")
    kept = state["ema"]["refinement.fc.weight"].half().float()
    torch.testing.assert_close(model.refinement.fc.weight, kept, rtol=0, atol=0)
    (found,) = Classifier.load(out, "fp32").classify([np.zeros((224, 224, 3), np.uint8)], [0.5])
    assert found.probabilities.shape == (CLASSES,)


@pytest.mark.parametrize("trained", [["layer4.1"], ["fc", "layer3"]])
def test_layers_that_are_not_named_stay(
    tmp_path: Path, photos: Path, start: Path, start_state: State, trained: list[str]
) -> None:
    config = naming(tmp_path, start, photos, steps=2, trained_layers=trained, base_learning_rate=1e-3)
    state = weights_of(classify.train(config))
    for part in ("model", "ema"):
        changed = {name for name in moved(start_state, state[part]) if name.startswith("refinement.")}
        named = tuple(f"refinement.{layer}." for layer in trained)
        assert {name for name in changed if not name.startswith(named)} == set()
        assert all(any(name.startswith(layer) for name in changed) for layer in named)
        assert "base.stem.weight" in moved(start_state, state[part])  # it has a rate here


def test_the_last_layer_is_solved_before_the_first_step(
    tmp_path: Path, photos: Path, start: Path, start_state: State
) -> None:
    settings = {
        "steps": 1,
        "learning_rate": 1e-9,
        "fresh_learning_rate": 1e-9,
        "combination_learning_rate": 1e-9,
    }
    kept = weights_of(classify.train(naming(tmp_path, start, photos, **settings)))["model"]
    torch.testing.assert_close(kept["refinement.fc.weight"], start_state["refinement.fc.weight"])
    (tmp_path / "fitted").mkdir()
    fitted = naming(tmp_path / "fitted", start, photos, fitted_views=6, **settings)
    solved = weights_of(classify.train(fitted))["model"]["refinement.fc.weight"]
    assert (solved - start_state["refinement.fc.weight"]).abs().max() > 1e-3


def test_a_last_layer_is_the_least_squares_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 12, generator=generator) + 2
    targets = torch.randn(200, 4, generator=generator)
    fit, layer = LinearFit(12, 4), nn.Linear(12, 4)
    with pytest.raises(ValueError, match="no images"):
        fit.solve(layer)
    for rows in torch.arange(200).split(64):
        fit.add(features[rows], targets[rows])
    fit.solve(layer, strength=0.0)
    extended = torch.cat([features, torch.ones(200, 1)], 1).double()
    wanted = torch.linalg.lstsq(extended, targets.double()).solution.float()
    torch.testing.assert_close(layer.weight.detach(), wanted[:-1].t(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bias.detach(), wanted[-1], rtol=1e-4, atol=1e-5)

    fit.solve(layer, strength=0.5)  # a ridge is least squares with further rows; the bias is free
    ridge = math.sqrt(200 * 0.5 * float(features.square().mean()))
    rows = torch.cat([extended, ridge * torch.eye(13, dtype=torch.float64)[:-1]])
    wanted = torch.linalg.lstsq(rows, torch.cat([targets, torch.zeros(12, 4)]).double()).solution.float()
    torch.testing.assert_close(layer.weight.detach(), wanted[:-1].t(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bias.detach(), wanted[-1], rtol=1e-4, atol=1e-5)


def test_its_own_start_is_the_exact_answer_and_stays(start: Path) -> None:
    model, fresh = start_classification(start, None, {})
    assert fresh == frozenset()
    x = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        expected = model.eval()(x).log_softmax(1)
    own = OwnStart(model)
    torch.testing.assert_close(own(x), expected)
    assert not any(parameter.requires_grad for parameter in own.parameters())


def test_mixed_images_are_made_of_two() -> None:
    x = torch.rand(8, 3, 20, 30)
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        assert torch.equal(mixed(x, 0.0, generator.manual_seed(seed)), x)
    kinds = set()
    for seed in range(20):
        before = x.clone()
        found = mixed(x, 1.0, generator.manual_seed(seed))
        assert torch.equal(x, before)
        assert found.shape == x.shape
        assert found.min() >= x.min()
        assert found.max() <= x.max()
        for index in range(len(x)):
            if torch.equal(found[index], x[index]):
                continue  # mixed with itself
            unchanged = float((found[index] == x[index]).float().mean())
            partners = [other for other in range(len(x)) if other != index]
            covered = max(
                float(((found[index] == x[index]) | (found[index] == x[other])).float().mean())
                for other in partners
            )
            kinds.add("covered" if covered == 1 else "blended" if unchanged < 0.01 else "neither")
            if covered == 1:
                assert unchanged > 0.3  # its own share stays the larger one or nearly so
    assert kinds == {"covered", "blended"}


def test_a_share_of_the_images_is_mixed() -> None:
    x = torch.rand(64, 1, 6, 6)
    generator = torch.Generator().manual_seed(1)
    found = [mixed(x, 0.35, generator) for _ in range(20)]
    share = np.mean([(one != x).flatten(1).any(1).float().mean().item() for one in found])
    assert share == pytest.approx(0.35, abs=0.04)


def test_batches_are_those_of_their_number(photos: Path) -> None:
    paths = sorted(photos.iterdir())
    whole, later = AugmentedBatches(paths, 2, seed=3), AugmentedBatches(paths, 2, seed=3, first=2)
    try:
        batches = [whole.next() for _ in range(4)]
        assert torch.equal(later.next(), batches[2])
        assert torch.equal(later.next(), batches[3])
        assert batches[0].shape == (2, 3, 224, 224)
        assert not torch.equal(batches[0], batches[1])
        assert 0 <= batches[0].min() <= batches[0].max() <= 1
    finally:
        whole.close()
        later.close()


def test_the_spread_is_chosen_by_the_answers(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    """Of the candidates, that whose answers at the three limits are nearest to the exact ones."""
    monkeypatch.setattr("pixeltier.models.training.spread.BATCH", 2)
    paths = sorted(photos.iterdir())
    model = classification(ClassificationShape(classes=CLASSES))
    best = choose_spread(model, paths)
    x = as_images(np.stack([read_classify_input(path) for path in paths]))
    with torch.no_grad():
        _, features, logits = model.base.all_features(base_input(x))
        unit = float(model.importance.doubt(logits).std())
        exact = model(x).log_softmax(1)
    assert best in [pytest.approx(unit * candidate, rel=1e-2) for candidate in CANDIDATES]

    def loss(spread: float) -> float:
        with torch.no_grad():
            model.importance.spread.fill_(spread)
            maps = model.window_logits(logits, features, (14, 14))
            limits = torch.quantile(maps.flatten(), torch.tensor([0.5, 0.7, 0.9]))
            answers = [model(x, maps, limit.expand(len(x))).log_softmax(1) for limit in limits]
        return sum(
            float(nn.functional.kl_div(answer, exact, reduction="sum", log_target=True)) for answer in answers
        )

    losses = [loss(unit * candidate) for candidate in CANDIDATES]
    assert loss(best) == pytest.approx(min(losses), rel=1e-3)
    assert max(losses) > min(losses)
    # Whatever the spread was before: weights that were calibrated to none can be calibrated again.
    with torch.no_grad():
        model.importance.spread.zero_()
    assert choose_spread(model, paths) == pytest.approx(best)
