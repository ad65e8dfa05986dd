"""A pool can be stopped at any moment, also in the very turn of the event loop in which a worker becomes ready."""

import asyncio
from collections.abc import Callable

import pytest

from pixeltier.service.pool.dispatcher import Dispatcher
from pixeltier.service.pool.limits import PoolLimits
from pixeltier.service.work.messages import Answer, Job, Ready
from pixeltier.service.work.pool import NotStartedError, RestartReason

READY = Ready(pid=1, torch="2.13.0", isa="avx2", threads=1, warm_up_ms=1.0)
TURNS = range(8)
"""Turns of the event loop between what happens to a worker and the stop."""


class HeldWorker:
    """A worker that starts when the test says so."""

    pid = None

    def __init__(self) -> None:
        self.starting: asyncio.Future[Ready] | None = None
        self.die: Callable[[], None] = lambda: None

    async def start(self) -> Ready:
        self.starting = asyncio.get_running_loop().create_future()
        return await self.starting

    def submit(self, jobs: tuple[Job, ...]) -> asyncio.Future[list[Answer]]:
        raise AssertionError("no job is given in these tests")

    def on_death(self, callback: Callable[[], None]) -> None:
        self.die = callback

    def on_progress(self, callback: Callable[[int, int], None]) -> None:
        pass

    def cancel(self, answer: asyncio.Future[list[Answer]]) -> None:
        pass

    def kill(self) -> None:
        pass

    async def stop(self, timeout_s: float) -> None:
        pass


class Silent:
    def worker_ready(self, ready: Ready) -> None:
        pass

    def worker_restarted(self, reason: RestartReason) -> None:
        pass

    def batch_started(self, jobs: tuple[Job, ...]) -> None:
        pass


def _nothing(worker: HeldWorker) -> None:
    """The worker goes on starting."""


def _become_ready(worker: HeldWorker) -> None:
    assert worker.starting is not None
    worker.starting.set_result(READY)


def _fail(worker: HeldWorker) -> None:
    assert worker.starting is not None
    worker.starting.set_exception(NotStartedError("no"))


def _die(worker: HeldWorker) -> None:
    _become_ready(worker)
    worker.die()


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("happens", [_nothing, _become_ready, _fail, _die])
async def test_stop_ends_whatever_just_happened_to_a_worker(
    happens: Callable[[HeldWorker], None], turns: int
) -> None:
    worker = HeldWorker()
    pool = Dispatcher([("0", worker)], PoolLimits(restart_backoff_s=60.0), Silent())
    await pool.start()
    await asyncio.sleep(0.01)
    happens(worker)
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await pool.stop(1.0)
    assert len(asyncio.all_tasks()) == 1, "none but the test's own"
