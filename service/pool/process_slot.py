"""A slot that is a spawned process: its crash costs a job, never the service."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from service.pool.interface import SlotDiedError
from service.worker import slot
from service.worker.messages import Answer, Job, Ready


class ProcessSlot:
    """A ProcessPoolExecutor of one worker: the standard library's pipes, pickling and crash detection."""

    def __init__(self, name: str, spec: slot.Spec) -> None:
        self.name = name
        self._spec = spec
        self._executor: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._pidfd: int | None = None
        self._callback: Callable[[], None] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process number."""
        return self._pid

    async def start(self) -> Ready:
        """Spawn the process, then load and warm the engine in it."""
        self._forget()
        executor = self._executor = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context(
                "spawn"
            ),  # fork would copy the event loop's threads' locks
            initializer=slot.prepare,
            initargs=(self._spec,),
        )
        try:
            # Spawning blocks for some milliseconds, which the event loop has better use for.
            first = await asyncio.to_thread(executor.submit, os.getpid)
            self._pid = await asyncio.wrap_future(first)
            self._watch(self._pid)
            return await asyncio.wrap_future(executor.submit(slot.warm, self._spec))
        except BrokenProcessPool as error:
            raise SlotDiedError(str(error)) from error

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        """Send the jobs through the pipe."""
        if self._executor is None:
            raise SlotDiedError
        try:
            future = asyncio.wrap_future(self._executor.submit(slot.execute, jobs))
        except (BrokenProcessPool, RuntimeError) as error:
            raise SlotDiedError(str(error)) from error
        answer = asyncio.ensure_future(_translate(future))
        answer.add_done_callback(_seen)  # a flight behind one that crashed is never asked for its own error
        return answer

    def on_death(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell."""
        self._callback = callback

    def kill(self) -> None:
        """SIGKILL: a hung process may not listen to less."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._forget()

    async def stop(self, timeout_s: float) -> None:
        """Close the pipe, wait for the process, kill it after the timeout."""
        executor, pid = self._executor, self._pid
        self._unwatch()
        if executor is None:
            return
        ending = asyncio.ensure_future(asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True))
        done, _ = await asyncio.wait({ending}, timeout=timeout_s)
        if not done and pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await asyncio.wait({ending}, timeout=5.0)
        self._executor = self._pid = None

    def _forget(self) -> None:
        self._unwatch()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._pid = None

    def _watch(self, pid: int) -> None:
        """Hear of the process's end even while it is idle, where the system has process descriptors."""
        if not hasattr(os, "pidfd_open"):
            return
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    def _unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _died(self) -> None:
        self._unwatch()
        if self._callback is not None:
            self._callback()


def _seen(future: asyncio.Future[list[Answer]]) -> None:
    if not future.cancelled():
        future.exception()


async def _translate(future: asyncio.Future[list[Answer]]) -> list[Answer]:
    try:
        return await future
    except BrokenProcessPool as error:
        raise SlotDiedError(str(error)) from error
