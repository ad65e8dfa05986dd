"""Prometheus metrics. They live in the front process only, and every label set exists from the start.

docs/metrics.md says what each is for; a test keeps the page and this module in step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pixeltier.service import __version__
from pixeltier.service.catalogue import CurvePoint
from pixeltier.service.problems import OUTCOMES
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import CUSTOM_TIER, NO_TIER, Task
from pixeltier.service.telemetry.inference_statistics import InferenceStatistics
from pixeltier.service.telemetry.latency_metrics import LatencyMetrics
from pixeltier.service.telemetry.operator_metrics import OperatorMetrics
from pixeltier.service.telemetry.record import STAGES, RequestRecord
from pixeltier.service.telemetry.resident_memory import resident_bytes
from pixeltier.service.tiers.expectations import expect
from pixeltier.service.tiers.store import Snapshot, TierStore
from pixeltier.service.work.messages import CompareAnswer, Job, Ready
from pixeltier.service.work.pool import Pool, RestartReason, WorkerState

HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RATIO_BUCKETS = tuple(n / 10 for n in range(11))
PIXEL_BUCKETS = tuple(float(4**n) for n in range(4, 14))
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

TASK_ROUTES = {spec.route: task for task, spec in SPECS.items()}
"""Routes whose every request counts for a model, even one that failed before it reached the route's code."""

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
"""Methods that are labels; any other is `other`, so that no client makes label sets."""

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Cost:
    """The children of one (model, tier): looking them up by label for each request costs more than counting."""

    dense: Counter
    executed: Counter
    expected: Counter
    saved: Histogram
    active: Histogram
    calibrated: Counter


class Metrics:
    """All metrics of a process, in a registry of its own. Also the pool's observer."""

    def __init__(self, tiers: TierStore) -> None:
        registry = self.registry = CollectorRegistry()
        self._http_requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._http_open = Gauge(
            "http_requests_in_progress", "Requests begun and not yet answered, uploads included.",
            registry=registry,
        )  # fmt: skip
        self._http_duration = Histogram(
            "http_request_duration_seconds",
            "From the request's head to the answer's end.",
            ["method", "route"],
            buckets=HTTP_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            "pixeltier_requests", "Requests by outcome: ok or a problem type.", ["model", "tier", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "pixeltier_stage_duration_seconds", "Time in each stage.", ["model", "stage"],
            buckets=STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._macs_dense = Counter(
            "pixeltier_macs_dense",
            "MACs the dense network would have run.",
            ["model", "tier"],
            registry=registry,
        )
        self._macs_executed = Counter(
            "pixeltier_macs_executed", "MACs that were run.", ["model", "tier"], registry=registry
        )
        self._macs_expected = Counter(
            "pixeltier_macs_expected",
            "MACs that the model card's measured curve predicts at the thresholds used.",
            ["model", "tier"],
            registry=registry,
        )
        self._saved = Histogram(
            "pixeltier_request_macs_saved_ratio", "1 - executed / dense of each request.", ["model", "tier"],
            buckets=RATIO_BUCKETS, registry=registry,
        )  # fmt: skip
        self._active = Histogram(
            "pixeltier_request_active_share", "Share of the importance map that was computed.",
            ["model", "tier"], buckets=RATIO_BUCKETS, registry=registry,
        )  # fmt: skip
        self._calibrated = Counter(
            "pixeltier_active_share_calibrated",
            "Sum over requests of the active share that calibration promises: 1 - threshold.",
            ["model", "tier"],
            registry=registry,
        )
        self._pixels = Histogram(
            "pixeltier_request_pixels", "Pixels of the input image.", ["model"], buckets=PIXEL_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._restarts = Counter(
            "pixeltier_worker_restarts", "Slots started again.", ["reason"], registry=registry
        )
        self._batch = Histogram(
            "pixeltier_batch_size",
            "Jobs that ran together.",
            ["model"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._thresholds = Gauge(
            "pixeltier_tier_threshold", "Threshold of each tier now.", ["model", "tier"], registry=registry
        )
        self._config_version = Gauge(
            "pixeltier_config_version", "Version of the tier table.", registry=registry
        )
        self._build = Gauge(
            "pixeltier_build_info",
            "Constant 1; versions as labels.",
            ["version", "torch", "isa"],
            registry=registry,
        )
        self._latency = LatencyMetrics(registry)
        self._operator = OperatorMetrics(registry)
        self.statistics = InferenceStatistics()
        ProcessCollector(registry=registry)
        self._costs: dict[tuple[Task, str], _Cost] = {}
        self._stage_children: dict[tuple[Task, str], Histogram] = {}
        self._curves: Mapping[Task, Sequence[CurvePoint]] = {}
        self._expected_shares: dict[tuple[Task, float], float] = {}
        self._tiers: tuple[str, ...] = ()
        self.set_tiers(tiers.snapshot)
        self._create_label_sets()

    def _create_label_sets(self) -> None:
        for reason in RestartReason:
            self._restarts.labels(reason.value)
        for task in Task:
            self._pixels.labels(task.value)
            self._batch.labels(task.value)
            for stage in STAGES:
                self._stage_children[task, stage] = self._stages.labels(task.value, stage)

    def set_tiers(self, snapshot: Snapshot) -> None:
        """Show the table in force; label sets of its tiers come into being."""
        self._tiers = snapshot.names
        self._config_version.set(snapshot.version)
        self._operator.set_tiers(snapshot)
        self._thresholds.clear()
        for task in Task:
            for tier in snapshot.table.tiers:
                self._thresholds.labels(task.value, tier.name).set(snapshot.threshold(tier.name, task))
            for name in (*snapshot.names, CUSTOM_TIER):
                self._costs[task, name] = self._cost(task, name)
            for name in (*snapshot.names, CUSTOM_TIER, NO_TIER):
                for outcome in OUTCOMES:
                    self._requests.labels(task.value, name, outcome)

    def _cost(self, task: Task, tier: str) -> _Cost:
        families = (
            self._macs_dense,
            self._macs_executed,
            self._macs_expected,
            self._saved,
            self._active,
            self._calibrated,
        )
        return _Cost(*(family.labels(task.value, tier) for family in families))  # type: ignore[arg-type]

    def set_expectations(self, curves: Mapping[Task, Sequence[CurvePoint]]) -> None:
        """Give the measured curves of the model cards, against which live MACs are held."""
        self._curves = curves
        self._expected_shares.clear()

    def set_routes(self, routes: Iterable[tuple[str, str, int]]) -> None:
        """Create the label sets of (method, route, status), as the OpenAPI document lists them."""
        for method, route, status in routes:
            self._http_requests.labels(method, route, str(status))
            self._http_duration.labels(method, route)

    def watch(self, pool: Pool) -> None:
        """Read the pool's gauges at every scrape."""
        self.registry.register(_PoolCollector(pool))

    def watch_brownout(self, level: Callable[[], float]) -> None:
        """Read the brownout's level at every scrape."""
        self._operator.watch(level)

    def config_attempt(self, result: str) -> None:
        """Count an attempt to change the tier table (`pixeltier.service.tiers.store.Observer`)."""
        self._operator.config_attempt(result)

    def shadow_ended(self, task: Task, result: str, answer: CompareAnswer | None) -> None:
        """Count a comparison of the shadow (`pixeltier.service.operations.shadow.Observer`)."""
        self._operator.shadow_ended(task, result, answer)

    def begun(self) -> None:
        """Count a request that arrived; `observe` ends it."""
        self._http_open.inc()

    def observe(self, record: RequestRecord, *, method: str, route: str, status: int) -> None:
        """Count one finished request."""
        shown = method if method in METHODS else "other"
        total_s = record.elapsed_ms / 1000.0
        self._http_open.dec()
        self._http_requests.labels(shown, route, str(status or 499)).inc()
        exemplar = {"trace_id": record.trace.trace_id} if record.traced and record.trace else None
        self._http_duration.labels(shown, route).observe(total_s, exemplar)
        task = record.task or TASK_ROUTES.get(route)
        if task is not None:
            for one in record.inferences:
                self._observe_inference(one, task)

    def _observe_inference(self, record: RequestRecord, task: Task) -> None:
        """Count one image."""
        tier = record.tier_effective
        outcome = "ok" if record.problem is None else record.problem.kind.type
        self._requests.labels(task.value, tier, outcome).inc()
        self.statistics.ended(task, record)
        work = record.work
        if work is None:
            return
        if record.tier != tier:
            self._operator.degraded(task, record.tier, tier)
        for stage, ms in record.stages().items():
            self._stage_children[task, stage].observe(ms / 1000.0)
        cost = self._costs.get((task, tier)) or self._cost(task, tier)
        cost.dense.inc(work.macs_dense)
        cost.executed.inc(work.macs_executed)
        cost.expected.inc(work.macs_dense * self._expected_share(task, work.threshold))
        cost.saved.observe(record.saved_ratio or 0.0)
        cost.active.observe(work.active_share)
        cost.calibrated.inc(1.0 - work.threshold)
        self._pixels.labels(task.value).observe(work.pixels)
        self._latency.observe(record, task)

    def _expected_share(self, task: Task, threshold: float) -> float:
        """Executed MACs over dense ones that the card predicts; 1 where it has no curve."""
        known = self._expected_shares.get((task, threshold))
        if known is not None:
            return known
        expected = expect(self._curves.get(task, ()), threshold)
        share = 1.0 if expected is None else 1.0 - expected.macs_saved
        if len(self._expected_shares) < 1024:  # clients choose thresholds too: remember only so many
            self._expected_shares[task, threshold] = share
        return share

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where asked for, else the text format."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    # ---- service.pool.interface.Observer -------------------------------------------------------------

    def worker_ready(self, ready: Ready) -> None:
        """Versions become known with the first warm worker."""
        self._build.labels(__version__, ready.torch, ready.isa).set(1)

    def worker_restarted(self, reason: RestartReason) -> None:
        """Count a restart."""
        self._restarts.labels(reason.value).inc()

    def batch_started(self, jobs: tuple[Job, ...]) -> None:
        """Count a batch."""
        self._batch.labels(jobs[0].task.value).observe(len(jobs))
        self.statistics.executed(jobs[0].task)


class _PoolCollector(Collector):
    """Gauges of the pool, read when scraped: they can never be stale."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        report = self._pool.report()
        yield GaugeMetricFamily(
            "pixeltier_ready", "1 while the service takes work, as /readyz says; else 0.", value=report.ready
        )
        yield GaugeMetricFamily("pixeltier_queue_depth", "Jobs that wait.", value=report.queue_depth)
        yield GaugeMetricFamily("pixeltier_queue_limit", "Jobs that may wait.", value=report.queue_limit)
        yield GaugeMetricFamily(
            "pixeltier_queue_wait_estimate_seconds",
            "What a job arriving now would wait.",
            value=report.wait_estimate_s,
        )
        states = GaugeMetricFamily("pixeltier_workers", "Worker slots by state.", labels=["state"])
        for state in WorkerState:
            states.add_metric([state.value], sum(worker.state is state for worker in report.workers))
        yield states
        memory = GaugeMetricFamily(
            "pixeltier_worker_resident_memory_bytes",
            "Resident memory of a slot's process.",
            labels=["worker"],
        )
        for worker in report.workers:
            memory.add_metric([worker.name], resident_bytes(worker.pid) if worker.pid else 0)
        yield memory
