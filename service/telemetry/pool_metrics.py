"""Metrics of queue and workers."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pixeltier.service import __version__
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.resident_memory import resident_bytes
from pixeltier.service.work.messages import Ready
from pixeltier.service.work.pool import Pool, RestartReason, WorkerState

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class PoolMetrics:
    """What workers report, counted as it comes; gauges are read when scraped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restarts = Counter(
            "pixeltier_worker_restarts", "Workers started again.", ["reason"], registry=registry
        )
        self._batch = Histogram(
            "pixeltier_batch_size",
            "Jobs that ran together.",
            ["model"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._build = Gauge(
            "pixeltier_build_info",
            "Constant 1; versions as labels.",
            ["version", "torch", "isa"],
            registry=registry,
        )
        for reason in RestartReason:
            self._restarts.labels(reason.value)
        for task in Task:
            self._batch.labels(task.value)

    def worker_ready(self, ready: Ready) -> None:
        """Versions become known with the first warm worker."""
        self._build.labels(__version__, ready.torch, ready.isa).set(1)

    def worker_restarted(self, reason: RestartReason) -> None:
        """Count a restart."""
        self._restarts.labels(reason.value).inc()

    def batch_started(self, task: Task, jobs: int) -> None:
        """Count a batch."""
        self._batch.labels(task.value).observe(jobs)


class PoolCollector(Collector):
    """Gauges of the pool, read when scraped: they can never be stale."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
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
        states = GaugeMetricFamily("pixeltier_workers", "Workers by state.", labels=["state"])
        for state in WorkerState:
            states.add_metric([state.value], sum(worker.state is state for worker in report.workers))
        yield states
        memory = GaugeMetricFamily(
            "pixeltier_worker_resident_memory_bytes",
            "Resident memory of a worker's process.",
            labels=["worker"],
        )
        for worker in report.workers:
            memory.add_metric([worker.name], resident_bytes(worker.pid) if worker.pid else 0)
        yield memory
