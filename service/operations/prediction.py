"""What a threshold would do to the images that came lately: arithmetic on their MAC curves and histograms."""

import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
class Prediction:
    """Over `images` images: `of` says whether they are the tier's own or all of the model's."""

    images: int
    of: Literal["tier", "model"]
    macs_saved: float
    active_share: float
    latency_ms: Latency | None


def predict(
    seen: Sequence[SeenImage], tier: str, resolved: Resolved, worker_ms: WorkerMs
) -> Prediction | None:
    """What a tier would save on the images seen lately, and how long they would take; None if there are none."""
    own = [image for image in seen if image.tier == tier]
    images = own if len(own) >= ENOUGH else list(seen)
    dense = sum(image.macs_dense for image in images)
    if not dense:
        return None
    thresholds = [effective_threshold(image, resolved) for image in images]
    executed = [macs_at(image, t) for image, t in zip(images, thresholds, strict=True)]
    return Prediction(
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
    """Share of the map's windows that reach a threshold, within a bin of the histogram linearly."""
    total = sum(image.histogram)
    reach = (
        [sum(image.histogram[n:]) / total for n in range(len(image.histogram) + 1)] if total else [0.0, 0.0]
    )
    return _between(reach, threshold)


def effective_threshold(image: SeenImage, resolved: Resolved) -> float:
    """The tier's threshold, raised as far as its cap on active cells needs for this image."""
    cap = resolved.max_active_share
    if cap is None or active_share(image, resolved.threshold) <= cap:
        return resolved.threshold
    total = sum(image.histogram)
    bins = len(image.histogram)
    reach = [-sum(image.histogram[n:]) / total for n in range(bins + 1)]  # ascending
    upper = min(bins, bisect_left(reach, -cap))
    low, high = reach[upper - 1], reach[upper]
    share = (-cap - low) / (high - low) if high > low else 1.0
    return max(resolved.threshold, (upper - 1 + min(1.0, max(0.0, share))) / bins)


def _between(values: Sequence[float], threshold: float) -> float:
    """Linear interpolation of values at 0, 1/n, ..., 1."""
    position = min(1.0, max(0.0, threshold)) * (len(values) - 1)
    low = min(int(position), len(values) - 2)
    return values[low] + (values[low + 1] - values[low]) * (position - low)


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
