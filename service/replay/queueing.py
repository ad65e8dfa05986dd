"""The queue before some workers, played without a clock: who waits how long, and how busy the workers are.

A model of `pixeltier.service.pool` for requests of one urgency and one timeout: the earliest deadline is then the
earliest arrival, and a worker that falls idle takes the next one. Nothing is refused, and jobs run one by one.
"""

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """A job that arrives, in milliseconds from any beginning, and how long a worker takes for it."""

    arrival_ms: float
    worker_ms: float


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the jobs.

    Attributes:
        starts_ms: when each began in a worker, in the order of the jobs.
        span_ms: from the first arrival to the last end.
        longest_queue: the most jobs that waited at once.
    """

    jobs: Sequence[Job]
    workers: int
    starts_ms: list[float]
    span_ms: float
    longest_queue: int

    def wait_ms(self, place: int) -> float:
        """How long a job waited."""
        return self.starts_ms[place] - self.jobs[place].arrival_ms

    def utilisation(self, places: Sequence[int]) -> float:
        """The share of the workers' time that these jobs took."""
        busy_ms = sum(self.jobs[place].worker_ms for place in places)
        return busy_ms / (self.workers * self.span_ms) if self.span_ms else 0.0


def play(jobs: Sequence[Job], workers: int) -> Played:
    """Let jobs, ordered by arrival, go through workers, first come, first served."""
    if workers < 1:
        raise ValueError("at least one worker is needed")
    free_ms = [float("-inf")] * workers
    starts_ms: list[float] = []
    last_ms, longest = float("-inf"), 0
    for place, job in enumerate(jobs):
        start_ms = max(job.arrival_ms, free_ms[0])
        heapq.heapreplace(free_ms, start_ms + job.worker_ms)
        starts_ms.append(start_ms)
        last_ms = max(last_ms, start_ms + job.worker_ms)
        # Jobs begin in their order: those that wait now are the last ones.
        longest = max(longest, place + 1 - bisect_right(starts_ms, job.arrival_ms))
    span_ms = last_ms - jobs[0].arrival_ms if jobs else 0.0
    return Played(jobs, workers, starts_ms, span_ms, longest)
