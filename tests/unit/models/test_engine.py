"""The engine: every size, crops without seams, a pixel's reach, tiers that fall in cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixeltier.models import counting
from pixeltier.models.checkpoints import load_super_resolution
from pixeltier.models.engine import Classifier, SuperResolver
from pixeltier.models.images import classify_input
from pixeltier.models.inference import tiles
from pixeltier.models.inference.backend import CpuBackend
from pixeltier.models.inference.super_resolution import SparseSuperResolution
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.outcome import UNLIMITED, Infeasible
from tests.unit.models.networks import as_images, composed, photo_like, super_resolution


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 7), (31, 1), (17, 40)])
@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_output_is_exactly_four_times_as_large(
    resolver: SuperResolver, size: tuple[int, int], threshold: float
) -> None:
    result = resolver.upscale(photo_like(*size), threshold)
    assert result.image.shape == (4 * size[0], 4 * size[1], 3)
    assert result.macs_dense == size[0] * size[1] * counting.srresnet_dense()
    assert result.importance.shape == (-(-size[0] // 4), -(-size[1] // 4))
    assert 0 <= result.importance.min() <= result.importance.max() <= 1


def test_the_image_is_the_networks(weights: Path, resolver: SuperResolver) -> None:
    """Bytes of the whole way, against plain torch."""
    model, _ = load_super_resolution(weights)
    pixels = photo_like(21, 18, 3)
    x = as_images(pixels[None])
    for threshold, expected in (
        (0.0, model(x)),
        (1.0, model.base(x)[1]),
    ):
        wanted = composed(x, expected.detach())[0].int().numpy()
        found = resolver.upscale(pixels, threshold).image
        assert np.abs(found - wanted).max() <= 1
        assert wanted.std() > 20


def test_cost_falls_with_the_threshold(resolver: SuperResolver) -> None:
    image = photo_like(64, 80)
    runs = [resolver.upscale(image, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    executed = [run.macs_executed for run in runs]
    assert executed == sorted(executed, reverse=True)
    assert len(set(executed)) == 5
    assert (runs[0].active_share, runs[-1].active_share) == (1.0, 0.0)
    always = resolver._network.base_macs + resolver._network.importance_macs
    assert executed[-1] == 64 * 80 * always


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
def test_no_seam_between_tiles(
    resolver: SuperResolver, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo_like(150, 130, seed=4)
    whole = resolver.upscale(image, threshold)
    monkeypatch.setattr("pixeltier.models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=56))
    tiled = resolver.upscale(image, threshold)
    np.testing.assert_allclose(tiled.importance, whole.importance, atol=2e-3)
    difference = np.abs(tiled.image.astype(int) - whole.image.astype(int))
    assert difference.max() <= 1
    assert tiled.active_share == pytest.approx(whole.active_share, abs=0.02)
    assert tiled.macs_executed > whole.macs_executed  # the halo is counted


@pytest.mark.parametrize("window", [1, 4, 8])
def test_a_pixel_reaches_as_far_as_the_halo_says(window: int) -> None:
    """One pixel of a line changes, and the limit is such that the farthest window that it moves turns active."""
    shape = SuperResolutionShape(base_channels=4, base_blocks=1, channels=4, blocks=1, window=window)
    halo = SparseSuperResolution(super_resolution(shape), CpuBackend(torch.float32)).halo
    width, reach = 161, 0
    for seed in range(40):
        model = super_resolution(shape, seed).double()
        place = width // 2 + seed % window
        x = torch.rand(1, 3, 1, width, dtype=torch.float64)
        other = x.clone()
        other[..., place] = 1 - other[..., place]
        with torch.inference_mode():
            before, after = (model.window_logits(model.base.features(image)) for image in (x, other))
            farthest = int((before != after).flatten().nonzero()[-1])
            limit = (before + after).flatten()[farthest] / 2
            moved = model(x, before >= limit) != model(other, after >= limit)
        columns = moved.any(dim=(0, 1, 2)).nonzero()[:, 0] // 4
        reach = max(reach, place - int(columns.min()), int(columns.max()) - place)
    assert halo - window < reach <= halo


def pixels_of(kind: str) -> np.ndarray:
    if kind == "checker":
        return np.ascontiguousarray(
            255 * (np.indices((32, 32)).sum(0) % 2).astype(np.uint8)[..., None].repeat(3, 2)
        )
    return photo_like(40, 30)[..., :1].repeat(3, 2)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kind", ["checker", "photo"])
def test_gray_stays_gray_and_its_mean_stays(resolver: SuperResolver, kind: str, threshold: float) -> None:
    pixels = pixels_of(kind)
    image = resolver.upscale(pixels, threshold).image
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image[..., 0], image[..., 2])
    assert abs(image.mean() - pixels.mean()) < 2


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95])
def test_flat_colour_stays_flat(resolver: SuperResolver, threshold: float) -> None:
    pixels = np.full((40, 64, 3), (0, 0, 255), np.uint8)
    pixels[12:28, 44:60] = (250, 240, 20)
    image = resolver.upscale(pixels, threshold).image.astype(int)
    assert np.abs(image[:, : 4 * 36] - (0, 0, 255)).max() <= 1


def test_a_batch_mixes_thresholds(classifier: Classifier) -> None:
    images = [classify_input(Image.fromarray(photo_like(90, 120, seed))) for seed in range(3)]
    together = classifier.classify(images, [0.0, 0.5, 1.0])
    for image, threshold, result in zip(images, [0.0, 0.5, 1.0], together, strict=True):
        (alone,) = classifier.classify([image], [threshold])
        assert result.macs_executed == alone.macs_executed
        np.testing.assert_allclose(result.probabilities, alone.probabilities, atol=1e-4)
    assert together[0].macs_executed > together[1].macs_executed >= together[2].macs_executed


def test_a_budget_without_limits_is_always_met(classifier: Classifier) -> None:
    images = [photo_like(224, 224, seed) for seed in range(2)]
    for result in classifier.classify_within(images, [1.0, 0.0], [UNLIMITED] * 2):
        assert not isinstance(result, Infeasible)
        assert result.probabilities.sum() == pytest.approx(1, abs=1e-4)
        assert all(np.isfinite(getattr(result, field.name)).all() for field in dataclasses.fields(result))


def test_batches_must_fit(classifier: Classifier) -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    with pytest.raises(ValueError, match="one threshold"):
        classifier.classify([image], [0.0, 0.1])
    with pytest.raises(ValueError, match="one size"):
        classifier.classify([image, image[:100]], [0.0, 0.1])


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 3), (224, 224), (2000, 100)])
def test_classifier_input_is_the_centre(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 200, 30))
    seen = classify_input(image)
    assert seen.shape == (224, 224, 3)
    assert seen.reshape(-1, 3).tolist()[0] == [10, 200, 30]
