"""What runs in a worker replica: one worker, one thread, jobs in the order they come."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from pixeltier.service.telemetry import logs
from pixeltier.service.work.messages import Answer, Job, Ready
from pixeltier.service.worker import startup


class WorkerReplica:
    """A worker as a Ray Serve deployment's class; the models are loaded and proved before it counts as healthy."""

    def __init__(self, spec: startup.Spec, hang_timeout_s: float) -> None:
        startup.cap_threads(spec.threads)
        logs.configure(spec.log_format, spec.log_level)
        self._hang_timeout_s = hang_timeout_s
        self._began: float | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")
        self._runner, self._ready = self._executor.submit(startup.open_runner, spec).result()

    async def describe(self) -> Ready:
        """The warm worker's report; what a front asks before it sends the first job."""
        return self._ready

    async def execute(self, jobs: tuple[Job, ...]) -> list[Answer]:
        """Do jobs; a call that is cancelled before its turn never begins."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._do, jobs)

    def _do(self, jobs: tuple[Job, ...]) -> list[Answer]:
        self._began = time.monotonic()
        try:
            return self._runner.execute(jobs)
        finally:
            self._began = None

    def check_health(self) -> None:
        """Ray Serve asks every few seconds and replaces a replica that raises: one whose job hangs never ends else."""
        began = self._began
        if began is not None and time.monotonic() - began > self._hang_timeout_s:
            raise RuntimeError(f"a job has been running for more than {self._hang_timeout_s:g} s")
