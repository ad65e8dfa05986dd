"""A worker that is a thread of this process: for tests, and for containers too small for a second process."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pixeltier.service.work.messages import Answer, Job, Ready
from pixeltier.service.work.pool import WorkerDiedError
from pixeltier.service.worker import startup
from pixeltier.service.worker.progress import JobCancelledError


class ThreadWorker:
    """Same interface as ProcessWorker, no isolation: a crash of native code takes the service with it."""

    def __init__(self, name: str, spec: startup.Spec) -> None:
        self.name = name
        self._spec = spec
        self._executor: ThreadPoolExecutor | None = None
        self._runner: startup.JobRunner | None = None
        self._given_up: dict[asyncio.Future[list[Answer]], threading.Event] = {}
        self._progress: Callable[[int, int], None] | None = None

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
        loop, given_up = asyncio.get_running_loop(), threading.Event()

        def advance(done: int, total: int) -> None:
            if given_up.is_set():
                raise JobCancelledError
            if total > 1 and self._progress is not None:
                loop.call_soon_threadsafe(self._progress, done, total)

        answer = loop.run_in_executor(self._executor, self._runner.execute, jobs, advance)
        self._given_up[answer] = given_up
        answer.add_done_callback(self._given_up.pop)
        return answer

    def cancel(self, answer: asyncio.Future[list[Answer]]) -> None:
        """Tell the thread, which looks between two tiles."""
        if answer in self._given_up:
            self._given_up[answer].set()

    def on_progress(self, callback: Callable[[int, int], None]) -> None:
        """Remember whom to tell."""
        self._progress = callback

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
