"""Cumulative counts and durations of each model, as the Open Inference Protocol's statistics extension tells them.

Fed from the same records as the Prometheus metrics, so that both agree.
"""

import time
from dataclasses import dataclass, field

from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord

_NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Duration:
    """How often, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ms: float) -> None:
        """Count one that took so many milliseconds."""
        self.count += 1
        self.ns += round(ms * _NS_PER_MS)


@dataclass(slots=True)
class ModelStatistics:
    """Of one model, since the process started."""

    last_inference_ms: int = 0
    """When a request for the model last ended, in milliseconds since the epoch; 0 before the first."""

    executions: int = 0
    """Batches that ran, comparisons of the shadow included."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def ended(self, record: RequestRecord) -> None:
        """Count a finished request."""
        self.last_inference_ms = time.time_ns() // _NS_PER_MS
        (self.success if record.problem is None else self.fail).add(record.elapsed_ms)
        if record.work is None:
            return
        self.queue.add(record.queue_ms or 0.0)
        self.compute_input.add(record.work.decode_ms)
        self.compute_infer.add(record.work.importance_ms + record.work.infer_ms)
        self.compute_output.add(record.work.encode_ms)


class InferenceStatistics:
    """Of all models."""

    def __init__(self) -> None:
        self.of = {task: ModelStatistics() for task in Task}

    def ended(self, task: Task, record: RequestRecord) -> None:
        """Count a finished request."""
        self.of[task].ended(record)

    def executed(self, task: Task) -> None:
        """Count a batch."""
        self.of[task].executions += 1
