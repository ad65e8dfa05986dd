"""Metrics of what operators do: changes of the tier table, degraded answers, the brownout's level, the shadow."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pixeltier.service.tasks import Task
from pixeltier.service.tiers.falls import steps
from pixeltier.service.tiers.store import ATTEMPTS, Snapshot
from pixeltier.service.work.messages import CompareAnswer

COMPARISON_RESULTS = ("done", "skipped", "failed")
"""How a sampled request's comparison ends: skipped where a worker was not idle."""

PSNR_BUCKETS = (20, 25, 30, 35, 40, 45, 50, 60, 80, 100)
SSIM_BUCKETS = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)


class OperatorMetrics:
    """Registers and keeps them; part of `pixeltier.service.telemetry.metrics.Metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "pixeltier_config_reloads", "Attempts to change the tier table, by how they ended.", ["result"],
            registry=registry,
        )  # fmt: skip
        self._degradations = Counter(
            "pixeltier_degradations",
            "Requests answered from a faster tier than they asked for.",
            ["model", "from_tier", "to_tier"],
            registry=registry,
        )
        self._level = Gauge(
            "pixeltier_brownout_level", "Steps that requests which may fall are answered below their tier.",
            registry=registry,
        )  # fmt: skip
        self._comparisons = Counter(
            "pixeltier_shadow_comparisons", "Requests sampled for the shadow, by how that ended.",
            ["model", "result"], registry=registry,
        )  # fmt: skip
        self._agreements = Counter(
            "pixeltier_shadow_agreements",
            "Comparisons whose first class was the same at both thresholds.",
            registry=registry,
        )
        self._psnr = Histogram(
            "pixeltier_shadow_psnr_db", "PSNR between served and candidate result (luma); 100 for equal ones.",
            buckets=PSNR_BUCKETS, registry=registry,
        )  # fmt: skip
        self._ssim = Histogram(
            "pixeltier_shadow_ssim", "SSIM between served and candidate result (luma).",
            buckets=SSIM_BUCKETS, registry=registry,
        )  # fmt: skip
        self._dense, self._served, self._candidate = (
            Counter(f"pixeltier_shadow_macs_{name}", help_, ["model"], registry=registry)
            for name, help_ in (
                ("dense", "MACs of the dense network on the compared images."),
                ("served", "MACs of the compared images at the thresholds they were served at."),
                ("candidate", "MACs of the compared images at the candidate thresholds."),
            )
        )
        for result in ATTEMPTS:
            self._attempts.labels(result)
        for task in Task:
            for result in COMPARISON_RESULTS:
                self._comparisons.labels(task.value, result)
            for family in (self._dense, self._served, self._candidate):
                family.labels(task.value)

    def set_tiers(self, snapshot: Snapshot) -> None:
        """Create the label sets of every fall that the table allows."""
        table = snapshot.table
        for place, tier in enumerate(table.tiers):
            for lower in table.tiers[place + 1 : place + 1 + steps(table, tier)]:
                for task in Task:
                    self._degradations.labels(task.value, tier.name, lower.name)

    def watch(self, level: Callable[[], float]) -> None:
        """Show the brownout's level at every scrape."""
        self._level.set_function(level)

    def config_attempt(self, result: str) -> None:
        """Count an attempt to change the table."""
        self._attempts.labels(result).inc()

    def degraded(self, task: Task, from_tier: str, to_tier: str) -> None:
        """Count a request that a faster tier answered."""
        self._degradations.labels(task.value, from_tier, to_tier).inc()

    def shadow_ended(self, task: Task, result: str, answer: CompareAnswer | None) -> None:
        """Count a sampled comparison, and what it found."""
        self._comparisons.labels(task.value, result).inc()
        if answer is None:
            return
        self._dense.labels(task.value).inc(answer.macs_dense)
        self._served.labels(task.value).inc(answer.macs_served)
        self._candidate.labels(task.value).inc(answer.macs_candidate)
        if answer.agrees:
            self._agreements.inc()
        if answer.psnr_db is not None:
            self._psnr.observe(answer.psnr_db)
        if answer.ssim is not None:
            self._ssim.observe(answer.ssim)
