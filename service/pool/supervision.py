"""The life of workers: started, watched, started again; until none is worth another try."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from pixeltier.service.pool.limits import PoolLimits
from pixeltier.service.pool.pooled_worker import PooledWorker
from pixeltier.service.pool.scheduling import Scheduler
from pixeltier.service.work.pool import NotStartedError, PoolObserver, RestartReason, WorkerState

log = logging.getLogger("pixeltier.pool")


class Supervisor:
    """Tends every worker in a task of its own, and gives the scheduler those that are warm."""

    def __init__(
        self,
        workers: Sequence[PooledWorker],
        limits: PoolLimits,
        observer: PoolObserver,
        scheduler: Scheduler,
    ) -> None:
        self._workers = workers
        self._limits = limits
        self._observer = observer
        self._scheduler = scheduler
        self._tasks: list[asyncio.Task[None]] = []
        self.start_failure: str | None = None
        """Why no worker could be started, once it was given up."""
        for worker in workers:
            worker.handle.on_death(partial(worker.lose, RestartReason.CRASH))

    def start(self) -> None:
        """Begin to tend."""
        self._tasks = [asyncio.create_task(self._tend(worker), name=worker.name) for worker in self._workers]

    async def stop(self) -> None:
        """Tend no more; the workers run on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def why_not_ready(self) -> str:
        """Why no job can be taken, empty where it can."""
        if self.start_failure is not None:
            return "no worker could be started; the log says why"
        warm = [worker for worker in self._workers if worker.state in {WorkerState.IDLE, WorkerState.BUSY}]
        if not warm and not any(worker.was_warm for worker in self._workers):
            return "the workers are warming up"
        if not warm and all(worker.crashes >= self._limits.crash_limit for worker in self._workers):
            return "the workers crashed too often"
        # While workers restart after a crash jobs still queue: a restart takes less than most deadlines.
        return ""

    async def _tend(self, worker: PooledWorker) -> None:
        """Start the worker, serve from it, start it again whenever it ends, until no worker is worth another try."""
        while self.start_failure is None:
            lost = worker.lost = asyncio.get_running_loop().create_future()
            reason = await self._start(worker)
            if reason is None:
                reason = await self._serve(worker, lost)
            self._observer.worker_restarted(reason)
            if reason is RestartReason.MEMORY:
                worker.state = WorkerState.STARTING
                await worker.handle.stop(5.0)
                continue
            worker.crashes += 1
            worker.handle.kill()
            worker.state = WorkerState.BACKOFF
            self._give_up_on_starting()
            pause = self._limits.restart_backoff_s * 2.0 ** min(20, worker.crashes - 1)
            await asyncio.sleep(min(pause, self._limits.restart_backoff_limit_s))

    async def _start(self, worker: PooledWorker) -> RestartReason | None:
        worker.state = WorkerState.STARTING
        try:
            async with asyncio.timeout(self._limits.start_timeout_s):
                ready = await worker.handle.start()
        except Exception as error:
            late = isinstance(error, TimeoutError)
            limit_s = self._limits.start_timeout_s
            worker.trouble = f"not warm after {limit_s:g} s (start_timeout_s)" if late else _reason(error)
            log.exception("worker did not start", extra={"worker": worker.name, "error": worker.trouble})
            return RestartReason.START_FAILED
        worker.state = WorkerState.IDLE
        worker.was_warm, worker.worked = True, False
        self._observer.worker_ready(ready)
        log.info(
            "worker ready",
            extra={"worker": worker.name, "pid": ready.pid, "warm_up_ms": round(ready.warm_up_ms)},
        )
        return None

    def _give_up_on_starting(self) -> None:
        """End the tries once every worker had its number of them and none was ever ready.

        While one worker serves, or has served, the others are tried for ever: what stops them may pass.
        """
        limit = self._limits.start_attempts
        if limit is None or any(worker.was_warm or worker.crashes < limit for worker in self._workers):
            return
        reasons = list(dict.fromkeys(worker.trouble for worker in self._workers))
        self.start_failure = f"no worker could be started in {limit} attempts: " + "; ".join(reasons)
        log.critical("no worker can be started", extra={"attempts": limit, "reasons": reasons})

    async def _serve(self, worker: PooledWorker, lost: asyncio.Future[RestartReason]) -> RestartReason:
        """Let the worker have jobs until it must be started again; says why."""
        self._scheduler.offer(worker)
        try:
            reason = await lost
        finally:
            if worker.watchdog is not None:
                worker.watchdog.cancel()
        self._scheduler.collect(worker)  # what was answered before the end
        if reason is not RestartReason.MEMORY:
            log.error(
                "worker lost", extra={"worker": worker.name, "reason": str(reason), "pid": worker.handle.pid}
            )
        self._scheduler.return_jobs(worker)
        return reason


def _reason(error: Exception) -> str:
    """An error in one line."""
    text = str(error) if isinstance(error, NotStartedError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
