"""A worker and the jobs that are in it."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from pixeltier.service.pool.queue import Entry
from pixeltier.service.work.messages import Answer
from pixeltier.service.work.pool import RestartReason, Worker, WorkerState


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that are in a worker together."""

    entries: list[Entry]
    future: asyncio.Future[list[Answer]]
    cost_ms: float
    started: float


@dataclass(slots=True, eq=False)
class PooledWorker:
    """A worker and what it holds."""

    name: str
    handle: Worker
    state: WorkerState = WorkerState.STARTING
    batches: deque[Batch] = field(default_factory=deque)
    lost: asyncio.Future[RestartReason] | None = None
    """Resolved with the reason when the worker must be started again."""
    watchdog: asyncio.TimerHandle | None = None
    crashes: int = 0
    trouble: str = ""
    """Why the last start failed."""
    was_warm: bool = False
    worked: bool = False
    """Whether it did a job since it was started."""

    @property
    def serving(self) -> bool:
        """Whether the worker is warm and nothing is known against it."""
        return (
            self.lost is not None
            and not self.lost.done()
            and self.state in {WorkerState.IDLE, WorkerState.BUSY}
        )

    def lose(self, reason: RestartReason) -> None:
        """Have the worker started again; the first reason counts."""
        if self.lost is not None and not self.lost.done():
            self.lost.set_result(reason)


def fail(entry: Entry, error: BaseException) -> None:
    """End a job with an error, unless it has ended."""
    if not entry.future.done():
        entry.future.set_exception(error)
        entry.future.exception()  # an abandoned job's error is nobody's surprise
