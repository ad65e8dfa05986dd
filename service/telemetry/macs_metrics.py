"""Metrics of what images cost: MACs, active share, and both beside what calibration and the model card promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from pixeltier.service.catalogue import CurvePoint
from pixeltier.service.tasks import Task
from pixeltier.service.tiers.expectations import expect
from pixeltier.service.work.messages import Work

RATIO_BUCKETS = tuple(n / 10 for n in range(11))

MOST_SHARES = 1024
"""Expected shares to remember: clients choose thresholds, too."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """The children of one (model, tier): looking them up by label for each request costs more than counting."""

    dense: Counter
    executed: Counter
    expected: Counter
    saved: Histogram
    active: Histogram
    calibrated: Counter


class MacsMetrics:
    """By model and tier."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["model", "tier"]
        self._dense = Counter(
            "pixeltier_macs_dense", "MACs the dense network would have run.", labels, registry=registry
        )
        self._executed = Counter("pixeltier_macs_executed", "MACs that were run.", labels, registry=registry)
        self._expected = Counter(
            "pixeltier_macs_expected",
            "MACs that the model card's measured curve predicts at the thresholds used.",
            labels,
            registry=registry,
        )
        self._saved = Histogram(
            "pixeltier_request_macs_saved_ratio", "1 - executed / dense of each request.", labels,
            buckets=RATIO_BUCKETS, registry=registry,
        )  # fmt: skip
        self._active = Histogram(
            "pixeltier_request_active_share", "Share of the importance map that was computed.", labels,
            buckets=RATIO_BUCKETS, registry=registry,
        )  # fmt: skip
        self._calibrated = Counter(
            "pixeltier_active_share_calibrated",
            "Sum over requests of the active share that calibration promises: 1 - threshold.",
            labels,
            registry=registry,
        )
        self._costs: dict[tuple[Task, str], _Cost] = {}
        self._curves: Mapping[Task, Sequence[CurvePoint]] = {}
        self._expected_shares: dict[tuple[Task, float], float] = {}

    def create(self, task: Task, tier: str) -> None:
        """Let a label set come into being."""
        self._costs[task, tier] = self._cost(task, tier)

    def set_expectations(self, curves: Mapping[Task, Sequence[CurvePoint]]) -> None:
        """Give the measured curves of the model cards, against which live MACs are held."""
        self._curves = curves
        self._expected_shares.clear()

    def observe(self, task: Task, tier: str, work: Work) -> None:
        """Count one image."""
        cost = self._costs.get((task, tier)) or self._cost(task, tier)
        cost.dense.inc(work.macs_dense)
        cost.executed.inc(work.macs_executed)
        cost.expected.inc(work.macs_dense * self._expected_share(task, work.threshold))
        cost.saved.observe(work.macs_saved)
        cost.active.observe(work.active_share)
        cost.calibrated.inc(1.0 - work.threshold)

    def _cost(self, task: Task, tier: str) -> _Cost:
        families = (
            self._dense,
            self._executed,
            self._expected,
            self._saved,
            self._active,
            self._calibrated,
        )
        return _Cost(*(family.labels(task.value, tier) for family in families))  # type: ignore[arg-type]

    def _expected_share(self, task: Task, threshold: float) -> float:
        """Executed MACs over dense ones that the card predicts; 1 where it has no curve."""
        known = self._expected_shares.get((task, threshold))
        if known is not None:
            return known
        expected = expect(self._curves.get(task, ()), threshold)
        share = 1.0 if expected is None else 1.0 - expected.macs_saved
        if len(self._expected_shares) < MOST_SHARES:
            self._expected_shares[task, threshold] = share
        return share
