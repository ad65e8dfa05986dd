"""A worker of a front's pool that is whichever replica Ray Serve picks."""

import asyncio
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from pixeltier.service.work.messages import Answer, Job, Ready
from pixeltier.service.work.pool import WorkerDiedError

LOST = (RayActorError, RayServeException)
"""What says that a call's replica is gone, or that there is none: the jobs are whole and may be tried again."""


class ServeWorker:
    """Implements `pixeltier.service.work.pool.Worker` over a deployment handle.

    The pool before it stays what it is on one machine: its queue, priorities, deadlines and accounts of crashes. A
    replica that dies with jobs in it is a worker that died: the pool gives each of them its one retry, and Ray Serve
    sends it to a replica that lives.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._under_way: set[asyncio.Future[list[Answer]]] = set()
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """None: the worker may be on another machine, and another one at every call."""
        return None

    async def start(self) -> Ready:
        """Wait until some replica answers."""
        try:
            ready: Ready = await self._handle.describe.remote()
        except LOST as error:
            raise WorkerDiedError(str(error)) from error
        return ready

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        """Send the jobs to a replica, after those submitted before: the pool counts on the order."""
        answer = asyncio.ensure_future(self._execute(jobs))
        self._under_way.add(answer)
        answer.add_done_callback(self._seen)
        return answer

    async def _execute(self, jobs: tuple[Job, ...]) -> list[Answer]:
        async with self._turn:
            call = self._handle.execute.remote(jobs)
            try:
                answers: list[Answer] = await call
            except LOST as error:
                raise WorkerDiedError(str(error)) from error
            except asyncio.CancelledError:
                call.cancel()
                raise
            return answers

    def _seen(self, future: asyncio.Future[list[Answer]]) -> None:
        self._under_way.discard(future)
        if not future.cancelled():
            future.exception()  # a batch behind one that was lost is never asked for its own error

    def on_death(self, callback: Callable[[], None]) -> None:
        """A replica's death shows in the calls to it: there is nothing else to hear."""

    def on_progress(self, callback: Callable[[int, int], None]) -> None:
        """A call to a replica has one answer: nothing is heard before it."""

    def cancel(self, answer: asyncio.Future[list[Answer]]) -> None:
        """A replica finishes what it has begun."""

    def kill(self) -> None:
        """Give up what is under way; the replica belongs to Ray Serve and goes on."""
        for answer in list(self._under_way):
            answer.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Leave; nothing here owns a process."""
        del timeout_s
        self.kill()
