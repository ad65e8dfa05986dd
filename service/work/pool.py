"""What a pool promises, whatever runs below it: processes in production, threads in tests."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Answer, Job, Ready


class PoolError(Exception):
    """A job was not done. Its subclasses say why."""


class QueueFullError(PoolError):
    """No place in the queue, or no hope to be served in time; `retry_after_s` is the estimate."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class NotReadyError(PoolError):
    """Starting, draining, or crashed too often."""

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(PoolError):
    """The job's deadline passed, or can no longer be met."""


class LatencyInfeasibleError(PoolError):
    """The image takes longer than its latency budget at any threshold, and if nobody else were there."""

    def __init__(self, least_ms: float) -> None:
        super().__init__(f"the cheapest computation of this image takes about {least_ms:.1f} ms here")
        self.least_ms = least_ms


class WorkerCrashedError(PoolError):
    """The job's worker died, and so did the one that tried again."""


class WorkerDiedError(Exception):
    """Raised by a worker: its process is gone and whatever it held with it."""


class NotStartedError(Exception):
    """Raised by a worker that could not be made ready; the message is the reason."""


class StartError(Exception):
    """The service ended because no worker could be started; the message says why."""


class WorkerState(StrEnum):
    """States of a worker; the values are metric labels."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    BACKOFF = "backoff"
    STOPPED = "stopped"


class RestartReason(StrEnum):
    """Why a worker was started again; the values are metric labels."""

    CRASH = "crash"
    HANG = "hang"
    MEMORY = "memory"
    START_FAILED = "start_failed"


class Worker(Protocol):
    """One worker: does one list of jobs at a time, in the order given."""

    @property
    def pid(self) -> int | None:
        """The worker's process, while there is one of its own."""

    async def start(self) -> Ready:
        """Bring the worker up and warm it; may be called again after it died.

        Raises:
            NotStartedError: the worker says or shows why; and whatever else goes wrong.
        """

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        """Hand jobs over; the future, or this call, raises WorkerDiedError where the worker is gone."""

    def on_death(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the event loop when the worker dies, idle or not."""

    def on_progress(self, callback: Callable[[int, int], None]) -> None:
        """Have `callback` called in the event loop with the tiles done, and all tiles, of the job at work."""

    def cancel(self, answer: asyncio.Future[list[Answer]]) -> None:
        """Have the jobs behind a future of `submit` given up as soon as the worker can; it is `Cancelled` then."""

    def kill(self) -> None:
        """End the worker at once."""

    async def stop(self, timeout_s: float) -> None:
        """End the worker after its job, or at once after the timeout."""


@dataclass(frozen=True, slots=True)
class Request:
    """A job and how it wants to be scheduled.

    Attributes:
        tier: the tier's name, one of few: it keys the estimate of the time a job takes.
        deadline: `time.monotonic()` after which the answer is worthless.
        urgency: 0 (first) to 7 (last), 3 is usual; as in RFC 9218.
        pixels: of the image where its header was readable, else None.
        max_latency_ms: a target for the time from `began` to the answer; the threshold is raised to meet it.
        background: nobody waits for it: it is done now, by an idle worker, or refused with QueueFullError.
        progress: told the tiles done, and all tiles, of an image that has several.
        at_dispatch: gives job and tier anew when they go to a worker, so that nothing decided earlier is outdated.
        began: `time.monotonic()` when the request came.
    """

    job: Job
    tier: str
    deadline: float
    urgency: int = 3
    pixels: int | None = None
    max_latency_ms: float | None = None
    background: bool = False
    progress: "Callable[[int, int], None] | None" = None
    at_dispatch: "Callable[[], tuple[Job, str]] | None" = None
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Done:
    """An answer, and what waiting for it took.

    `predicted_ms` is what the latency model said of `worker_ms`, given the MACs, before it learned of it; None where
    there is no answer to predict.
    """

    answer: Answer
    queue_ms: float
    worker_ms: float
    predicted_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker, for metrics and readiness."""

    name: str
    state: WorkerState
    pid: int | None


@dataclass(frozen=True, slots=True)
class PoolReport:
    """The pool now. `wait_estimate_s` is what a job arriving now would wait."""

    queue_depth: int
    queue_limit: int
    wait_estimate_s: float
    workers: tuple[WorkerReport, ...]
    ready: bool
    why_not: str
    draining: bool


class PoolObserver(Protocol):
    """Hears of the pool's events; the metrics do."""

    def worker_ready(self, ready: Ready) -> None:
        """A worker finished its warm-up."""

    def worker_restarted(self, reason: RestartReason) -> None:
        """A worker is being started again."""

    def batch_started(self, jobs: tuple[Job, ...]) -> None:
        """Jobs went to a worker together."""


class Pool(Protocol):
    """What the routes need."""

    async def start(self) -> None:
        """Begin to bring the workers up; returns at once."""

    async def run(self, request: Request) -> Done:
        """Have a job done. Raises PoolError. Cancelling the call gives a queued job's place free, and has a worker give
        up a job of several tiles.
        """

    def begin_drain(self) -> None:
        """Report not ready from now on; what comes is still served until `stop`."""

    async def stop(self, timeout_s: float) -> None:
        """Accept no more, finish what was accepted within the timeout, end the workers."""

    def predict_ms(self, task: Task, macs: float, pixels: float) -> float:
        """What a job of so many MACs takes in a worker, by what was learned of those before it."""

    def report(self) -> PoolReport:
        """The state now."""

    @property
    def start_failure(self) -> str | None:
        """Why no worker will ever be ready; None while that is not known. The service should then end."""
