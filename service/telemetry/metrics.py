"""Prometheus metrics. They live in the front process only, and every label set exists from the start.

docs/metrics.md says what each is for; a test keeps the page and this module in step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from pixeltier.service.catalogue import CurvePoint
from pixeltier.service.problems import OUTCOMES
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import CUSTOM_TIER, NO_TIER, Task
from pixeltier.service.telemetry.http_metrics import HttpMetrics
from pixeltier.service.telemetry.inference_statistics import InferenceStatistics
from pixeltier.service.telemetry.job_metrics import JobCollector, JobReport
from pixeltier.service.telemetry.latency_metrics import LatencyMetrics
from pixeltier.service.telemetry.macs_metrics import MacsMetrics
from pixeltier.service.telemetry.operator_metrics import OperatorMetrics
from pixeltier.service.telemetry.pool_metrics import PoolCollector, PoolMetrics
from pixeltier.service.telemetry.record import STAGES, RequestRecord
from pixeltier.service.tiers.store import Snapshot, TierStore
from pixeltier.service.work.messages import CompareAnswer, Job, Ready
from pixeltier.service.work.pool import Pool, RestartReason

STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
PIXEL_BUCKETS = tuple(float(4**n) for n in range(4, 14))

TASK_ROUTES = {spec.route: task for task, spec in SPECS.items()}
"""Routes whose every request counts for a model, even one that failed before it reached the route's code."""

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of a process, in a registry of its own. Also the pool's observer."""

    def __init__(self, tiers: TierStore) -> None:
        registry = self.registry = CollectorRegistry()
        self._http = HttpMetrics(registry)
        self._macs = MacsMetrics(registry)
        self._pool = PoolMetrics(registry)
        self._latency = LatencyMetrics(registry)
        self._operator = OperatorMetrics(registry)
        self._requests = Counter(
            "pixeltier_requests", "Requests by outcome: ok or a problem type.", ["model", "tier", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "pixeltier_stage_duration_seconds", "Time in each stage.", ["model", "stage"],
            buckets=STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._pixels = Histogram(
            "pixeltier_request_pixels", "Pixels of the input image.", ["model"], buckets=PIXEL_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._thresholds = Gauge(
            "pixeltier_tier_threshold", "Threshold of each tier now.", ["model", "tier"], registry=registry
        )
        self._config_version = Gauge(
            "pixeltier_config_version", "Version of the tier table.", registry=registry
        )
        self.statistics = InferenceStatistics()
        ProcessCollector(registry=registry)
        self._stage_children: dict[tuple[Task, str], Histogram] = {}
        self._tiers: tuple[str, ...] = ()
        self.set_tiers(tiers.snapshot)
        self._create_label_sets()

    def _create_label_sets(self) -> None:
        for task in Task:
            self._pixels.labels(task.value)
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
                self._macs.create(task, name)
            for name in (*snapshot.names, CUSTOM_TIER, NO_TIER):
                for outcome in OUTCOMES:
                    self._requests.labels(task.value, name, outcome)

    def set_expectations(self, curves: Mapping[Task, Sequence[CurvePoint]]) -> None:
        """Give the measured curves of the model cards, against which live MACs are held."""
        self._macs.set_expectations(curves)

    def set_routes(self, routes: Iterable[tuple[str, str, int]]) -> None:
        """Create the label sets of (method, route, status), as the OpenAPI document lists them."""
        self._http.set_routes(routes)

    def watch(self, pool: Pool) -> None:
        """Read the pool's gauges at every scrape."""
        self.registry.register(PoolCollector(pool))

    def watch_brownout(self, level: Callable[[], float]) -> None:
        """Read the brownout's level at every scrape."""
        self._operator.watch(level)

    def watch_jobs(self, report: Callable[[], JobReport]) -> None:
        """Read the gauges of asynchronous jobs at every scrape."""
        self.registry.register(JobCollector(report))

    def config_attempt(self, result: str) -> None:
        """Count an attempt to change the tier table (`pixeltier.service.tiers.store.TierObserver`)."""
        self._operator.config_attempt(result)

    def shadow_ended(self, task: Task, result: str, answer: CompareAnswer | None) -> None:
        """Count a comparison of the shadow (`pixeltier.service.operations.shadow.ShadowObserver`)."""
        self._operator.shadow_ended(task, result, answer)

    def begun(self) -> None:
        """Count a request that arrived; `observe` ends it."""
        self._http.begun()

    def observe(self, record: RequestRecord, *, method: str, route: str, status: int) -> None:
        """Count one finished request."""
        trace_id = record.trace.trace_id if record.traced and record.trace else None
        self._http.ended(method, route, status, record.elapsed_ms / 1000.0, trace_id)
        task = record.task or TASK_ROUTES.get(route)
        if task is not None:
            self.observe_inferences(record, task)

    def observe_inferences(self, record: RequestRecord, task: Task) -> None:
        """Count a request's images."""
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
        self._macs.observe(task, tier, work)
        self._pixels.labels(task.value).observe(work.pixels)
        self._latency.observe(record, task)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where asked for, else the text format."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    # ---- pixeltier.service.work.pool.PoolObserver ----------------------------------------------------

    def worker_ready(self, ready: Ready) -> None:
        """Versions become known with the first warm worker."""
        self._pool.worker_ready(ready)

    def worker_restarted(self, reason: RestartReason) -> None:
        """Count a restart."""
        self._pool.worker_restarted(reason)

    def batch_started(self, jobs: tuple[Job, ...]) -> None:
        """Count a batch."""
        self._pool.batch_started(jobs[0].task, len(jobs))
        self.statistics.executed(jobs[0].task)
