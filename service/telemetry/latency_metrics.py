"""Metrics of the latency model: what it predicted beside what happened, and how latency budgets ended."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord

ERROR_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

RESULTS = ("met", "missed")


class LatencyMetrics:
    """Of every answer, since the model predicts every one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        error = Histogram(
            "pixeltier_latency_model_error_seconds",
            "How far the latency model's prediction of the time in the worker was off, either way.",
            ["model"],
            buckets=ERROR_BUCKETS,
            registry=registry,
        )
        predicted = Counter(
            "pixeltier_latency_model_predicted_seconds",
            "Sum over answers of the time in the worker that the latency model predicted.",
            ["model"],
            registry=registry,
        )
        actual = Counter(
            "pixeltier_latency_model_actual_seconds",
            "Sum over the same answers of the time in the worker that they took.",
            ["model"],
            registry=registry,
        )
        targets = Counter(
            "pixeltier_latency_targets",
            "Answers to requests with max_latency_ms, by whether they came in that time.",
            ["model", "result"],
            registry=registry,
        )
        self._error = {task: error.labels(task.value) for task in Task}
        self._predicted = {task: predicted.labels(task.value) for task in Task}
        self._actual = {task: actual.labels(task.value) for task in Task}
        self._targets = {
            (task, result): targets.labels(task.value, result) for task in Task for result in RESULTS
        }

    def observe(self, record: RequestRecord, task: Task) -> None:
        """Count an answer."""
        predicted_ms, worker_ms = record.predicted_worker_ms, record.worker_ms
        if predicted_ms is None or worker_ms is None:
            return
        self._error[task].observe(abs(predicted_ms - worker_ms) / 1000.0)
        self._predicted[task].inc(predicted_ms / 1000.0)
        self._actual[task].inc(worker_ms / 1000.0)
        if record.max_latency_ms is not None:
            met = record.elapsed_ms <= record.max_latency_ms
            self._targets[task, "met" if met else "missed"].inc()
