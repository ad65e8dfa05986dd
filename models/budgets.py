"""What an image will cost at any threshold, counted exactly from its importance map before any heavy layer runs.

MACs fall with the threshold in steps, one at each value of the map. The counts here and those the kernels report
are the same numbers (docs/counting.md); a budget is met by the lowest threshold whose count is within it.
"""

import functools
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models import counting
from models.inference import bands

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

CURVE_THRESHOLDS = tuple(n / 20 for n in range(21))
"""Where `curve` samples the MACs of an image."""

HISTOGRAM_BINS = 20


@dataclass(frozen=True, slots=True)
class Budget:
    """The most MACs that an image may take; None is no limit. Of two limits the tighter one holds.

    `ratio` is of the dense network's MACs on the same image, `macs` is absolute.
    """

    ratio: float | None = None
    macs: int | None = None

    def limit(self, dense: int) -> int | None:
        """The limit in MACs for an image whose dense network takes `dense`."""
        limits = [] if self.macs is None else [self.macs]
        if self.ratio is not None:
            limits.append(int(self.ratio * dense))
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No threshold meets the budget: at 1 the image still takes `macs_least`."""

    macs_least: int
    macs_dense: int


class MacsCount(Protocol):
    """An image's executed MACs as a function of the threshold; never rises with it."""

    @property
    def values(self) -> Floats:
        """The thresholds, ascending, just above which the count may fall."""

    def at(self, thresholds: Floats) -> Counts:
        """MACs at each of some thresholds."""


class ActiveSum:
    """The sum of the weights of those values that reach a threshold; NaN reaches none, as in `native.ops.plan`."""

    def __init__(self, values: Floats, weights: Counts) -> None:
        known = np.where(np.isnan(values), -np.inf, values).astype(np.float32)
        order = np.argsort(known)
        self.values: Floats = known[order]
        self._reach = np.zeros(len(order) + 1, dtype=np.int64)
        self._reach[:-1] = np.cumsum(weights[order][::-1])[::-1]

    @property
    def highest(self) -> np.float32:
        """The largest value; -inf of none."""
        return self.values[-1] if len(self.values) else np.float32(-np.inf)

    def at(self, thresholds: Floats) -> Counts:
        """The sum at each of some thresholds."""
        sums: Counts = self._reach[np.searchsorted(self.values, thresholds, side="left")]
        return sums


class ClassifyMacs:
    """Executed MACs of ResNet-18 on one image.

    Args:
        windows: float32 [ceil(height / window), ceil(width / window)]; the stages as fine as them repeat them.
        coarser: the score maps of the later stages, which average windows (`models.networks.resnet18`).
        height, width: the stem's output grid.
        always: MACs that no threshold saves.
    """

    def __init__(
        self,
        windows: Floats,
        coarser: Sequence[Floats],
        height: int,
        width: int,
        window: int,
        always: int,
    ) -> None:
        stages = len(counting.resnet18_stage_sizes(1, 1))
        first = stages - len(coarser)
        # One sum of MACs serves all stages that share the windows: each window weighs what its cells cost.
        self._fine = ActiveSum(windows.ravel(), _window_macs(height, width, window, first))
        self._best_cells = sum(counting.resnet18_cell(stage) for stage in range(first))
        self._coarse = [
            (counting.resnet18_cell(first + index), ActiveSum(scores.ravel(), np.ones(scores.size, np.int64)))
            for index, scores in enumerate(coarser)
        ]
        self._always = always

    @property
    def values(self) -> Floats:
        """See MacsCount."""
        return np.unique(np.concatenate([self._fine.values, *(stage.values for _, stage in self._coarse)]))

    def at(self, thresholds: Floats) -> Counts:
        """See MacsCount. The best cell of each stage is always active."""
        fine = np.where(thresholds <= self._fine.highest, self._fine.at(thresholds), self._best_cells)
        total: Counts = self._always + fine
        for cell, stage in self._coarse:
            total += cell * np.maximum(1, stage.at(thresholds))
        return total


@functools.lru_cache(maxsize=16)
def _window_macs(height: int, width: int, window: int, stages: int) -> Counts:
    """MACs of the active cells that each window of a map stands for in the first stages, flat."""
    rows, columns = -(-height // window), -(-width // window)
    total = np.zeros((rows, columns), dtype=np.int64)
    for stage in range(stages):
        cells = window >> stage
        total += counting.resnet18_cell(stage) * np.outer(
            _overlap(rows, cells, 0, height), _overlap(columns, cells, 0, width)
        )
        height, width = (height + 1) // 2, (width + 1) // 2
    return total.ravel()


@dataclass(frozen=True, slots=True)
class CellMacs:
    """MACs of one low-resolution cell of SRResNet: every cell's, an active cell's before the tail, one in the tail."""

    always: int
    body: int
    tail: int


class TileMacs:
    """Executed MACs of SRResNet on one tile.

    Args:
        importance: float32 [ceil(height / window), ceil(width / window)], of the tile with its halo.
        height, width: the tile's cells.
    """

    def __init__(self, importance: Floats, height: int, width: int, window: int, macs: CellMacs) -> None:
        self._macs = macs
        self._cells = height * width
        self._importance = importance
        self._columns = _overlap(importance.shape[1], window, 0, width)
        self._rows = (window, height)
        self._active = self._sum_of_rows(0, height)
        self._bands = (
            [
                (self._sum_of_rows(band.top, band.bottom).highest, self._sum_of_rows(band.first, band.last))
                for band in bands.bands(height, width)
            ]
            if bands.needed(self._cells)
            else []
        )

    @property
    def values(self) -> Floats:
        """See MacsCount."""
        return self._active.values

    def at(self, thresholds: Floats) -> Counts:
        """See MacsCount. A tail that runs in bands computes the rows of their halos twice."""
        active = self._active.at(thresholds)
        tail = active.copy()
        if self._bands:
            banded = np.zeros_like(active)
            for highest, reached in self._bands:
                banded += np.where(thresholds <= highest, reached.at(thresholds), 0)
            tail = np.where(bands.needed(active), banded, active)
        return self._cells * self._macs.always + active * self._macs.body + tail * self._macs.tail

    def _sum_of_rows(self, first: int, last: int) -> ActiveSum:
        window, height = self._rows
        rows = _overlap(self._importance.shape[0], window, first, min(last, height))
        touched = rows > 0
        weights = np.outer(rows[touched], self._columns)
        return ActiveSum(self._importance[touched].ravel(), weights.ravel())


class SumOfMacs:
    """Executed MACs of several tiles at one threshold, and what runs besides."""

    def __init__(self, parts: Iterable[MacsCount], besides: int = 0) -> None:
        self._parts = tuple(parts)
        self._besides = besides

    @property
    def values(self) -> Floats:
        """See MacsCount."""
        return np.unique(np.concatenate([part.values for part in self._parts]))

    def at(self, thresholds: Floats) -> Counts:
        """See MacsCount."""
        total = np.full(len(thresholds), self._besides, dtype=np.int64)
        for part in self._parts:
            total += part.at(thresholds)
        return total


def threshold_within(count: MacsCount, floor: float, limit: int | None) -> float | None:
    """The lowest threshold in [floor, 1] at which an image takes no more than `limit` MACs.

    Between two neighbouring values of the map every threshold gives the same mask; the lowest of them, the
    float32 after the lower value, stands for all. A limit of None, or one that `floor` meets, gives `floor` itself.

    Returns:
        The threshold; None where even 1 takes more.
    """
    if limit is None or _one(count, floor) <= limit:
        return floor
    after = np.nextafter(count.values, np.float32(np.inf), dtype=np.float32)
    after = after[(after > np.float32(floor)) & (after <= 1)]
    found = bisect_left(after, True, key=lambda threshold: _one(count, threshold) <= limit)
    return float(after[found]) if found < len(after) else None


def least(count: MacsCount) -> int:
    """MACs at threshold 1."""
    return _one(count, 1.0)


def curve(count: MacsCount) -> tuple[int, ...]:
    """MACs at `CURVE_THRESHOLDS`."""
    return tuple(count.at(np.array(CURVE_THRESHOLDS, dtype=np.float32)).tolist())


def histogram(importance: Floats) -> tuple[int, ...]:
    """How many windows of a map lie in each twentieth of [0, 1]; a value of 1 is in the last one."""
    bins = np.minimum((importance.ravel() * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    return tuple(np.bincount(np.maximum(bins, 0), minlength=HISTOGRAM_BINS).tolist())


def _one(count: MacsCount, threshold: float) -> int:
    return int(count.at(np.array([threshold], dtype=np.float32))[0])


def _overlap(windows: int, window: int, first: int, last: int) -> Counts:
    """How many of the cells [first, last) each of a row of windows holds."""
    edges = window * np.arange(windows + 1, dtype=np.int64)
    inside = np.clip(edges, first, last)
    return inside[1:] - inside[:-1]
