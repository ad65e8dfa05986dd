"""The dry-run's arithmetic: MACs, active share, caps and time of images seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.models.budgets import active_windows
from pixeltier.models.outcome import CURVE_THRESHOLDS
from pixeltier.service.operations.prediction import (
    active_share,
    effective_threshold,
    macs_at,
    predict,
    quantile,
)
from pixeltier.service.operations.recent import ENOUGH, SeenImage
from pixeltier.service.tiers.goals import Resolved

DENSE = 1000


def _image(
    importance: np.ndarray, tier: str = "fast", threshold: float = 0.5, model_ms: float = 10.0
) -> SeenImage:
    def executed(t: float) -> int:
        return int(DENSE * (0.05 + 0.95 * float((importance >= t).mean())))

    return SeenImage(
        tier=tier,
        macs_dense=DENSE,
        macs_executed=executed(threshold),
        macs_curve=tuple(executed(t) for t in CURVE_THRESHOLDS),
        active_curve=active_windows(importance.astype(np.float32)),
        pixels=100,
        fixed_ms=2.0,
        model_ms=model_ms,
    )


def _images(count: int, **more: str) -> list[SeenImage]:
    chance = np.random.default_rng(3)
    return [_image(chance.beta(1 + n % 3, 2, 600), **more) for n in range(count)]


def _no_time(macs: float, pixels: float) -> float:
    return 0.0


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_between_its_points_the_curve_is_within_them(seed: int, threshold: float) -> None:
    importance = np.random.default_rng(seed).uniform(0, 1, 400)
    image = _image(importance)
    true = float((importance >= threshold).mean())
    assert active_share(image, threshold) == pytest.approx(true, abs=0.06)
    assert macs_at(image, threshold) / DENSE == pytest.approx(0.05 + 0.95 * true, abs=0.06)
    assert macs_at(image, 0.0) == DENSE


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.01, 1))
def test_a_cap_raises_the_threshold_just_enough(seed: int, threshold: float, cap: float) -> None:
    image = _image(np.random.default_rng(seed).beta(2, 1, 400))
    found = effective_threshold(image, Resolved(threshold, cap))
    assert found >= threshold
    assert active_share(image, found) <= cap + 1e-9
    if found > threshold:
        assert active_share(image, found) == pytest.approx(cap, abs=1e-9)


def test_own_images_speak_where_there_are_enough() -> None:
    others = [_image(np.zeros(100), tier="exact") for _ in range(50)]
    few, enough = _images(ENOUGH - 1), _images(ENOUGH)
    found = predict([*others, *few], "fast", Resolved(0.5), _no_time)
    assert found is not None
    assert (found.of, found.images) == ("model", 50 + len(few))
    found = predict([*others, *enough], "fast", Resolved(0.5), _no_time)
    assert found is not None
    assert (found.of, found.images) == ("tier", ENOUGH)
    assert predict([], "fast", Resolved(0.5), _no_time) is None


def test_the_sum_over_images_is_much_closer_than_any_image() -> None:
    chance = np.random.default_rng(5)
    maps = [chance.beta(1 + n % 3, 2, 196) for n in range(64)]
    images = [_image(one) for one in maps]
    for threshold in (0.02, 0.13, 0.37, 0.52, 0.88, 0.97):
        true = sum(_image(one, threshold=threshold).macs_executed for one in maps) / (DENSE * len(maps))
        found = predict(images, "fast", Resolved(threshold), _no_time)
        assert found is not None
        assert found.macs_saved == pytest.approx(1 - true, abs=0.02)


def test_time_moves_by_what_the_latency_model_says_of_the_difference() -> None:
    images = _images(40)

    def worker_ms(macs: float, pixels: float) -> float:
        return 1.0 + macs / 100 + pixels / 100

    now = predict(images, "fast", Resolved(0.5), worker_ms)
    later = predict(images, "fast", Resolved(1.0), worker_ms)
    assert now is not None
    assert later is not None
    assert now.latency_ms is not None
    assert later.latency_ms is not None
    assert now.latency_ms.p50 == pytest.approx(12.0)
    saved = (later.macs_saved - now.macs_saved) * DENSE / 100
    assert later.latency_ms.p50 == pytest.approx(12.0 - saved, abs=0.3)
    few = predict(images[:3], "fast", Resolved(0.5), worker_ms)
    assert few is not None
    assert few.latency_ms is None


@pytest.mark.parametrize("threshold", [0.91, 0.95, 0.985, 0.993, 0.999])
def test_near_one_photos_that_the_base_answers_alone_are_seen_as_such(threshold: float) -> None:
    """A classifier leaves a sure photo's whole map below the threshold: a coarse curve would still refine it."""
    chance = np.random.default_rng(7)
    maps = [np.clip(chance.uniform(0.8, 1) - chance.uniform(0, 0.02, 196), 0, 1) for _ in range(200)]
    true = sum(_image(one, threshold=threshold).macs_executed for one in maps) / (DENSE * len(maps))
    found = predict([_image(one) for one in maps], "fast", Resolved(threshold), _no_time)
    assert found is not None
    assert found.macs_saved == pytest.approx(1 - true, abs=0.015)


def test_quantiles() -> None:
    assert quantile([3.0], 0.95) == 3.0
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.95) == pytest.approx(9.5)
