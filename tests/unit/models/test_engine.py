"""The engine on shipped weights: every size, tiles without seams, tiers that fall in cost."""

import numpy as np
import pytest
from PIL import Image

from models import counting
from models.engine import Classifier, SuperResolver
from models.images import classify_input
from models.inference import tiles


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    return SuperResolver.load(precision="fp32")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(
        0, 256, (max(1, height // 6), max(1, width // 6), 3), dtype=np.uint8
    )
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


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


def test_cost_falls_with_the_threshold(resolver: SuperResolver) -> None:
    image = photo_like(64, 80)
    runs = [resolver.upscale(image, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    executed = [run.macs_executed for run in runs]
    assert executed == sorted(executed, reverse=True)
    assert runs[0].active_share == 1.0
    assert len(set(executed)) > 2


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_no_seam_between_tiles(
    resolver: SuperResolver, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo_like(150, 130, seed=4)
    whole = resolver.upscale(image, threshold)
    monkeypatch.setattr("models.engine.split", lambda *a, **k: tiles.split(*a, **k, tile=56))
    tiled = resolver.upscale(image, threshold)
    np.testing.assert_allclose(tiled.importance, whole.importance, atol=2e-3)
    difference = np.abs(tiled.image.astype(int) - whole.image.astype(int))
    assert difference.max() <= 1
    assert tiled.active_share == pytest.approx(whole.active_share, abs=0.02)
    assert tiled.macs_executed > whole.macs_executed  # the halo is counted


def test_a_batch_mixes_thresholds(classifier: Classifier) -> None:
    images = [classify_input(Image.fromarray(photo_like(90, 120, seed))) for seed in range(3)]
    together = classifier.classify(images, [0.0, 0.5, 0.9])
    for image, threshold, result in zip(images, [0.0, 0.5, 0.9], together, strict=True):
        (alone,) = classifier.classify([image], [threshold])
        assert result.macs_executed == alone.macs_executed
        np.testing.assert_allclose(result.probabilities, alone.probabilities, atol=2e-2)
    assert together[0].macs_executed > together[1].macs_executed > together[2].macs_executed


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
