"""A worker that is a thread of this process: for tests, and for containers too small for a second process."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pixeltier.service.work.messages import Answer, Job, Ready
from pixeltier.service.work.pool import WorkerDiedError
from pixeltier.service.worker import startup


class ThreadWorker:
    """Same interface as ProcessWorker, no isolation: a crash of native code takes the service with it."""

    def __init__(self, name: str, spec: startup.Spec) -> None:
        self.name = name
        self._spec = spec
        self._executor: ThreadPoolExecutor | None = None
        self._runner: startup.JobRunner | None = None

    @property
    def pid(self) -> int | None:
        """None: the thread has no process of its own."""
        return None

    async def start(self) -> Ready:
        """Load the engine in the thread."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self.name)
        self._runner, ready = await asyncio.get_running_loop().run_in_executor(
            self._executor, startup.open_runner, self._spec
        )
        return ready

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        """Run the jobs in the thread."""
        if self._executor is None or self._runner is None:
            raise WorkerDiedError
        return asyncio.get_running_loop().run_in_executor(self._executor, self._runner.execute, jobs)

    def on_death(self, callback: Callable[[], None]) -> None:
        """A thread does not die alone: nothing to hear."""

    def kill(self) -> None:
        """Abandon the thread: Python cannot end it."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._runner = None

    async def stop(self, timeout_s: float) -> None:
        """Let the thread end; its queued jobs are cancelled."""
        del timeout_s
        self.kill()
