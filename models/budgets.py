"""What an image will cost at any threshold, counted exactly from its importance map before any heavy layer runs.

MACs fall with the threshold in steps, one at each value of the map. The counts here and those the kernels report
are the same numbers (docs/counting.md); a budget is met by the lowest threshold whose count is within it.
"""

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pixeltier.models.inference import bands
from pixeltier.models.outcome import CURVE_THRESHOLDS, CostLimits, Infeasible

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


class Count(Protocol):
    """Executed MACs, or active cells, as a function of the threshold; never rises with it."""

    @property
    def values(self) -> Floats:
        """The thresholds, ascending, just above which the count may fall."""

    def at(self, thresholds: Floats) -> Counts:
        """The count at each of some thresholds."""


@dataclass(frozen=True, slots=True)
class ImageCost:
    """What an image would cost at any threshold, before it is computed; `count_cells` counts its active cells."""

    macs: Count
    macs_dense: int
    count_cells: Callable[[], Count]
    cells: int

    def threshold(self, limits: CostLimits, floor: float) -> float | None:
        """The lowest threshold from `floor` on that keeps within the limits, None where there is none."""
        found: float | None = floor
        if limits.target_macs is not None:
            found = threshold_within(self.macs, floor, limits.target_macs)
        if limits.active_share is not None and found is not None:
            found = threshold_within(self.count_cells(), found, int(limits.active_share * self.cells))
        if found is None:
            found = 1.0
        if limits.macs_ratio is None:
            return found
        return threshold_within(self.macs, found, int(limits.macs_ratio * self.macs_dense))

    def infeasible(self) -> Infeasible:
        """What to say where no threshold meets the budget."""
        return Infeasible(_one(self.macs, 1.0), self.macs_dense)


class ActiveSum:
    """The weights of the values that reach a threshold, summed; NaN reaches none, as in `pixeltier.native.ops.plan`."""

    def __init__(self, values: Floats, weights: Counts) -> None:
        known = np.where(np.isnan(values), -np.inf, values).astype(np.float32)
        order = np.argsort(known)
        self._values: Floats = known[order]
        self._reach = np.zeros(len(order) + 1, dtype=np.int64)
        self._reach[:-1] = np.cumsum(weights[order][::-1])[::-1]

    @property
    def values(self) -> Floats:
        """See Count."""
        return self._values

    @property
    def highest(self) -> np.float32:
        """The largest value; -inf of none."""
        return self._values[-1] if len(self._values) else np.float32(-np.inf)

    def at(self, thresholds: Floats) -> Counts:
        """See Count."""
        sums: Counts = self._reach[np.searchsorted(self._values, thresholds, side="left")]
        return sums


class ClassifyCount:
    """A count over ResNet-18's active cells of one image.

    Args:
        windows: float32 [ceil(height / window), ceil(width / window)]; the stages as fine as them repeat them.
        coarser: the score maps of the later stages, which average windows (`pixeltier.models.networks.resnet18`).
        height, width: the stem's output grid.
        cell: what an active cell of each of the four stages counts.
        always: what comes on top at any threshold.
        once: what comes on top where any window is active.
        keep_best: the best cell of each stage is always active.
    """

    def __init__(
        self,
        windows: Floats,
        coarser: Sequence[Floats],
        height: int,
        width: int,
        window: int,
        cell: tuple[int, ...],
        always: int,
        once: int = 0,
        keep_best: bool = False,
    ) -> None:
        first = len(cell) - len(coarser)
        # One sum serves all stages that share the windows: each window weighs what its cells count.
        self._fine = ActiveSum(windows.ravel(), _window_weights(height, width, window, cell[:first]))
        self._best_cells = sum(cell[:first])
        self._coarse = [
            (weight, ActiveSum(scores.ravel(), np.ones(scores.size, np.int64)))
            for weight, scores in zip(cell[first:], coarser, strict=True)
        ]
        self._always = always
        self._once = once
        self._keep_best = keep_best

    @property
    def values(self) -> Floats:
        """See Count."""
        return np.unique(np.concatenate([self._fine.values, *(stage.values for _, stage in self._coarse)]))

    def at(self, thresholds: Floats) -> Counts:
        """See Count."""
        any_active = thresholds <= self._fine.highest
        total = self._fine.at(thresholds)
        if self._keep_best:
            total = np.where(any_active, total, self._best_cells)
            any_active = np.ones_like(any_active)
        total = self._always + np.where(any_active, self._once, 0) + total
        for weight, stage in self._coarse:
            active = stage.at(thresholds)
            if self._keep_best:
                active = np.maximum(1, active)
            # An average of equal windows may round to just above them: an image without windows is not refined.
            total += weight * np.where(any_active, active, 0)
        result: Counts = total
        return result


@functools.lru_cache(maxsize=16)
def _window_weights(height: int, width: int, window: int, cell: tuple[int, ...]) -> Counts:
    """What the active cells that each window of a map stands for count in the first stages, flat."""
    rows, columns = -(-height // window), -(-width // window)
    total = np.zeros((rows, columns), dtype=np.int64)
    for stage, weight in enumerate(cell):
        side = window >> stage
        total += weight * np.outer(_overlap(rows, side, 0, height), _overlap(columns, side, 0, width))
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
        self._window = window
        self._width = width
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
        """See Count."""
        return self._active.values

    def at(self, thresholds: Floats) -> Counts:
        """See Count. A tail that runs in bands computes the rows of their halos twice."""
        active = self._active.at(thresholds)
        tail = active.copy()
        if self._bands:
            banded = np.zeros_like(active)
            for highest, reached in self._bands:
                banded += np.where(thresholds <= highest, reached.at(thresholds), 0)
            tail = np.where(bands.needed(active), banded, active)
        return self._cells * self._macs.always + active * self._macs.body + tail * self._macs.tail

    def _sum_of_rows(self, first: int, last: int) -> ActiveSum:
        return active_cells(self._importance, self._window, (first, last), (0, self._width))


def active_cells(
    importance: Floats, window: int, rows: tuple[int, int], columns: tuple[int, int]
) -> ActiveSum:
    """The active ones of the cells in a rectangle, given as first and past-the-last row and column."""
    down = _overlap(importance.shape[0], window, *rows)
    across = _overlap(importance.shape[1], window, *columns)
    touched = np.ix_(down > 0, across > 0)
    return ActiveSum(importance[touched].ravel(), np.outer(down[down > 0], across[across > 0]).ravel())


class SumOfCounts:
    """The counts of several tiles at one threshold, and what comes on top at any."""

    def __init__(self, parts: Iterable[Count], besides: int = 0) -> None:
        self._parts = tuple(parts)
        self._besides = besides

    @property
    def values(self) -> Floats:
        """See Count."""
        return np.unique(np.concatenate([part.values for part in self._parts]))

    def at(self, thresholds: Floats) -> Counts:
        """See Count."""
        total = np.full(len(thresholds), self._besides, dtype=np.int64)
        for part in self._parts:
            total += part.at(thresholds)
        return total


def threshold_within(count: Count, floor: float, limit: int) -> float | None:
    """The lowest threshold in [floor, 1] at which a count is no more than `limit`.

    Between two neighbouring values of the map every threshold gives the same mask; the lowest of them, the
    float32 after the lower value, stands for all. A limit that `floor` meets gives `floor` itself.

    Returns:
        The threshold; None where even 1 gives more.
    """
    if _one(count, floor) <= limit:
        return floor
    after = np.nextafter(count.values, np.float32(np.inf), dtype=np.float32)
    after = after[(after > np.float32(floor)) & (after <= 1)]
    found = bisect_left(after, True, key=lambda threshold: _one(count, threshold) <= limit)
    return float(after[found]) if found < len(after) else None


def curve(count: Count) -> tuple[int, ...]:
    """The count at `CURVE_THRESHOLDS`."""
    return tuple(count.at(np.array(CURVE_THRESHOLDS, dtype=np.float32)).tolist())


def active_windows(importance: Floats) -> tuple[int, ...]:
    """Windows of a map that are active at `CURVE_THRESHOLDS`."""
    return curve(ActiveSum(importance.ravel(), np.ones(importance.size, np.int64)))


def _one(count: Count, threshold: float) -> int:
    return int(count.at(np.array([threshold], dtype=np.float32))[0])


def _overlap(windows: int, window: int, first: int, last: int) -> Counts:
    """How many of the cells [first, last) each of a row of windows holds."""
    edges = window * np.arange(windows + 1, dtype=np.int64)
    inside = np.clip(edges, first, last)
    return inside[1:] - inside[:-1]
