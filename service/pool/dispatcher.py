"""The pool: one bounded queue before its workers, exact accounts of who crashed, nothing accepted lost."""

import asyncio
import time
from collections.abc import Sequence

from pixeltier.service.pool.limits import PoolLimits
from pixeltier.service.pool.pooled_worker import PooledWorker, fail
from pixeltier.service.pool.scheduling import Scheduler
from pixeltier.service.pool.supervision import Supervisor
from pixeltier.service.tasks import Task
from pixeltier.service.work.pool import (
    DeadlineExceededError,
    Done,
    NotReadyError,
    PoolObserver,
    PoolReport,
    Request,
    Worker,
    WorkerReport,
    WorkerState,
)

START_RETRY_S = 2.0
"""What Retry-After says while the workers are warming up."""


class Dispatcher:
    """Implements `pixeltier.service.work.pool.Pool` over any workers."""

    def __init__(
        self, workers: Sequence[tuple[str, Worker]], limits: PoolLimits, observer: PoolObserver
    ) -> None:
        self._workers = [PooledWorker(name, handle) for name, handle in workers]
        self._scheduler = Scheduler(self._workers, limits, observer)
        self._supervisor = Supervisor(self._workers, limits, observer, self._scheduler)
        self._draining = False
        self._stopped = False

    async def start(self) -> None:
        """Start the workers; they are warm later."""
        self._supervisor.start()

    async def run(self, request: Request) -> Done:
        """Queue the job and wait for its answer; see `Pool.run`."""
        if self._stopped:
            raise NotReadyError("the service is stopping", START_RETRY_S)
        if (why := self._why_not_ready()) and not self._draining:
            raise NotReadyError(why, START_RETRY_S)
        entry = self._scheduler.admit(request)
        try:
            async with asyncio.timeout_at(_loop_time(request.deadline)):
                return await entry.future
        except TimeoutError:
            where = "in the queue" if entry.queued else "at work"
            raise DeadlineExceededError(f"the deadline passed while the job was {where}") from None
        finally:
            # The client may be gone or its time over: a queued job's place is free again at once.
            self._scheduler.discard(entry)

    def predict_ms(self, task: Task, macs: float, pixels: float) -> float:
        """By the latency model; see `Pool.predict_ms`."""
        return self._scheduler.predict_ms(task, macs, pixels)

    def begin_drain(self) -> None:
        """Not ready from now on."""
        self._draining = True

    async def stop(self, timeout_s: float) -> None:
        """Finish what was accepted, bounded, then end everything."""
        self._draining = self._stopped = True
        end = time.monotonic() + timeout_s
        while self._at_work() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await self._supervisor.stop()
        for entry in [
            entry for worker in self._workers for batch in worker.batches for entry in batch.entries
        ]:
            fail(entry, NotReadyError("the service stopped before the job was done", START_RETRY_S))
        for entry in self._scheduler.take_rest():
            fail(entry, NotReadyError("the service stopped before the job began", START_RETRY_S))
        await asyncio.gather(
            *(worker.handle.stop(max(1.0, end - time.monotonic())) for worker in self._workers)
        )
        for worker in self._workers:
            worker.state = WorkerState.STOPPED
            worker.batches.clear()

    @property
    def start_failure(self) -> str | None:
        """See `Pool.start_failure`."""
        return self._supervisor.start_failure

    def report(self) -> PoolReport:
        """The state now."""
        why_not = self._why_not_ready()
        return PoolReport(
            queue_depth=self._scheduler.queue_depth,
            queue_limit=self._scheduler.queue_limit,
            wait_estimate_s=self._scheduler.wait_ms() / 1000.0,
            workers=tuple(
                WorkerReport(worker.name, worker.state, worker.handle.pid) for worker in self._workers
            ),
            ready=not why_not,
            why_not=why_not,
            draining=self._draining,
        )

    def _at_work(self) -> bool:
        return bool(self._scheduler.queue_depth or any(worker.batches for worker in self._workers))

    def _why_not_ready(self) -> str:
        return "the service is draining" if self._draining else self._supervisor.why_not_ready()


def _loop_time(monotonic: float) -> float:
    """A time of the monotonic clock as one of the running loop's."""
    return asyncio.get_running_loop().time() + (monotonic - time.monotonic())
