"""What a threshold is expected to save and cost, read off a model card's measured curve."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pixeltier.service.catalogue import CurvePoint


@dataclass(frozen=True, slots=True)
class Expected:
    """Averages over the calibration images: share of MACs saved, and the quality metrics of the card."""

    macs_saved: float
    metrics: dict[str, float]


def expect(curve: Sequence[CurvePoint], threshold: float) -> Expected | None:
    """Interpolate the curve at a threshold, linearly between neighbours, flat beyond its ends.

    A metric appears only where both neighbours have it. None for a card without a curve.
    """
    points = sorted(curve, key=lambda point: point.threshold)
    if not points:
        return None
    right = bisect_right([point.threshold for point in points], threshold)
    low, high = points[max(0, right - 1)], points[min(right, len(points) - 1)]
    span = high.threshold - low.threshold
    share = min(1.0, max(0.0, (threshold - low.threshold) / span)) if span > 0 else 0.0
    return Expected(
        macs_saved=_between(low.macs_saved, high.macs_saved, share),
        metrics={
            name: _between(low.metrics[name], high.metrics[name], share)
            for name in low.metrics
            if name in high.metrics
        },
    )


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
