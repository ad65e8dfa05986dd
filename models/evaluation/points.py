"""What an evaluation found: scores of each image, means over all of them, differences to the exact tier.

A difference is paired: both results come from the same images, so what makes one image harder than another drops
out. Its interval is the percentile bootstrap (Efron, 1979; Efron & Tibshirani, 1993, chapter 13) over images.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pixeltier.models.cards import Difference

Scores = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

RESAMPLES = 2000
SEED = 1
COVERAGE = 0.95
NOT_COMPARED = frozenset({"agreement"})
"""Metrics that are a comparison with the exact tier themselves."""


@dataclass(frozen=True, slots=True)
class Point:
    """One way to compute, image by image: `scores` has each metric's values [images]."""

    name: str | None
    threshold: float | None
    macs_executed: Counts
    macs_dense: Counts
    scores: Mapping[str, Scores]


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the images; `macs_saved` is of the total, not a mean of ratios, and None where it is not known.

    `milliseconds`: of one image, where they were measured.
    """

    name: str | None
    threshold: float | None
    macs_saved: float | None
    metrics: dict[str, float]
    to_exact: dict[str, Difference] = field(default_factory=dict)
    source: str = ""
    milliseconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Metrics beside the name, differences below `to_exact`."""
        return {
            "name": self.name,
            "threshold": self.threshold,
            "macs_saved": self.macs_saved,
            **self.metrics,
            "to_exact": {name: difference.model_dump() for name, difference in self.to_exact.items()},
            **({"source": self.source} if self.source else {}),
            **({} if self.milliseconds is None else {"milliseconds": round(self.milliseconds, 3)}),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The learned curve, the oracle's (empty unless asked for), and what they are compared with."""

    images: int
    learned: list[Row]
    oracle: list[Row]
    rivals: list[Row]


def rows(points: Iterable[Point], exact: Point) -> list[Row]:
    """Means of each point, with differences to the exact one wherever it is another."""
    return [_row(point, exact) for point in points]


def paired_bootstrap(differences: Scores) -> Difference:
    """The mean of paired differences [images] and its 95 % interval; the same resamples for every call."""
    mean = float(differences.mean())
    chosen = np.random.default_rng(SEED).integers(
        len(differences), size=(RESAMPLES, len(differences)), dtype=np.int32
    )
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(differences[chosen].mean(axis=1), [tail, 1 - tail])
    return Difference(value=mean, low=float(low), high=float(high))


def stacked(values: Sequence[Mapping[str, float]]) -> dict[str, Scores]:
    """Scores of each image to one array a metric."""
    return {name: np.array([value[name] for value in values], dtype=np.float64) for name in values[0]}


def _row(point: Point, exact: Point) -> Row:
    compared = (
        {} if point.threshold == 0 else {n: s for n, s in point.scores.items() if n not in NOT_COMPARED}
    )
    return Row(
        name=point.name,
        threshold=point.threshold,
        macs_saved=1 - int(point.macs_executed.sum()) / int(point.macs_dense.sum()),
        metrics={name: float(scores.mean()) for name, scores in point.scores.items()},
        to_exact={name: paired_bootstrap(scores - exact.scores[name]) for name, scores in compared.items()},
    )
