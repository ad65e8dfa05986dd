"""What an image may cost and what it did cost, as plain numbers.

Free of torch and numpy, so that the front process can hold what a worker reports.
"""

from dataclasses import dataclass

CURVE_THRESHOLDS = (*(n / 20 for n in range(19)), 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 0.9975, 1.0)
"""Where the curves of an image are sampled: closer near 1, where a classifier leaves whole images to its base."""


@dataclass(frozen=True, slots=True)
class CostLimits:
    """The most that an image may cost; None is no limit, and of several limits the tightest one holds.

    Attributes:
        macs_ratio: of the dense network's MACs on the same image. Never exceeded: an image that takes more even at
            threshold 1 is `Infeasible`.
        target_macs: MACs; an image that takes more at threshold 1 runs at 1.
        active_share: of the image's cells; likewise.
    """

    macs_ratio: float | None = None
    target_macs: int | None = None
    active_share: float | None = None

    def __bool__(self) -> bool:
        return self != UNLIMITED


UNLIMITED = CostLimits()


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No threshold meets the limits: at 1 the image still takes `macs_least`."""

    macs_least: int
    macs_dense: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What any inference reports.

    Attributes:
        active_share: of the image's cells.
        macs_curve: what the image takes at each of `CURVE_THRESHOLDS`.
        active_curve: windows of its importance map that are active there.
        importance_ms, infer_ms: until every threshold was known, and from then on.
    """

    threshold: float
    macs_dense: int
    macs_executed: int
    active_share: float
    macs_curve: tuple[int, ...]
    active_curve: tuple[int, ...]
    importance_ms: float
    infer_ms: float

    @property
    def macs_saved(self) -> float:
        """1 - executed / dense; slightly negative where base and importance come on top of every cell."""
        return 1 - self.macs_executed / self.macs_dense
