"""What a threshold would do to the images that came lately: arithmetic on their curves."""

import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pixeltier.models.outcome import CURVE_THRESHOLDS
from pixeltier.service.operations.recent import ENOUGH, SeenImage
from pixeltier.service.tiers.goals import Resolved

WorkerMs = Callable[[float, float], float]
"""Milliseconds in a worker of a job of so many MACs and pixels; `Pool.predict_ms` of one task."""

ENOUGH_TIMES = 8
"""Images that a prediction of time needs."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds in a worker."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class CostPrediction:
    """Over `images` images: `of` says whether they are the tier's own or all of the model's."""

    images: int
    of: Literal["tier", "model"]
    macs_saved: float
    active_share: float
    latency_ms: Latency | None


def predict(
    seen: Sequence[SeenImage], tier: str, resolved: Resolved, worker_ms: WorkerMs
) -> CostPrediction | None:
    """What a tier would save on the images seen lately, and how long they would take; None if there are none."""
    own = [image for image in seen if image.tier == tier]
    images = own if len(own) >= ENOUGH else list(seen)
    dense = sum(image.macs_dense for image in images)
    if not dense:
        return None
    thresholds = [effective_threshold(image, resolved) for image in images]
    executed = [macs_at(image, t) for image, t in zip(images, thresholds, strict=True)]
    return CostPrediction(
        images=len(images),
        of="tier" if images is own else "model",
        macs_saved=1.0 - sum(executed) / dense,
        active_share=statistics.fmean(
            active_share(image, t) for image, t in zip(images, thresholds, strict=True)
        ),
        latency_ms=_latency(images, executed, worker_ms),
    )


def macs_at(image: SeenImage, threshold: float) -> float:
    """MACs of an image at a threshold, between two points of its curve linearly."""
    return _between(image.macs_curve, threshold)


def active_share(image: SeenImage, threshold: float) -> float:
    """Share of the map's windows that reach a threshold, between two points of its curve linearly."""
    windows = image.active_curve[0]
    return _between(image.active_curve, threshold) / windows if windows else 0.0


def effective_threshold(image: SeenImage, resolved: Resolved) -> float:
    """The tier's threshold, raised as far as its cap on active cells needs for this image."""
    cap = resolved.max_active_share
    if cap is None or active_share(image, resolved.threshold) <= cap:
        return resolved.threshold
    wanted = cap * image.active_curve[0]
    upper = bisect_left(image.active_curve, -wanted, key=lambda active: -active)
    if upper == len(CURVE_THRESHOLDS):
        return 1.0
    high, low = image.active_curve[upper - 1], image.active_curve[upper]
    left, right = CURVE_THRESHOLDS[upper - 1], CURVE_THRESHOLDS[upper]
    return max(resolved.threshold, right + (left - right) * (wanted - low) / (high - low))


def _between(values: Sequence[float], threshold: float) -> float:
    """Linear interpolation of values at `CURVE_THRESHOLDS`."""
    right = min(max(1, bisect_left(CURVE_THRESHOLDS, threshold)), len(CURVE_THRESHOLDS) - 1)
    left, width = CURVE_THRESHOLDS[right - 1], CURVE_THRESHOLDS[right] - CURVE_THRESHOLDS[right - 1]
    share = min(1.0, max(0.0, (threshold - left) / width))
    return values[right - 1] + (values[right] - values[right - 1]) * share


def _latency(images: Sequence[SeenImage], executed: Sequence[float], worker_ms: WorkerMs) -> Latency | None:
    """Each image's own time, moved by what the service's latency model says of the difference in MACs."""
    if len(images) < ENOUGH_TIMES:
        return None
    took = sorted(
        max(
            image.fixed_ms,
            image.fixed_ms
            + image.model_ms
            + worker_ms(macs, image.pixels)
            - worker_ms(image.macs_executed, image.pixels),
        )
        for image, macs in zip(images, executed, strict=True)
    )
    return Latency(p50=quantile(took, 0.5), p95=quantile(took, 0.95))


def quantile(ascending: Sequence[float], share: float) -> float:
    """A quantile of ascending values, between neighbours linearly."""
    position = share * (len(ascending) - 1)
    low = int(position)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (position - low)
