"""The loop that the blocking client's calls run in."""

import asyncio
import signal
import threading
import time

import pytest

from pixeltier.service.connection import background_loop


def test_results_and_errors_come_back() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    async def late() -> None:
        raise TimeoutError("of its own")

    assert background_loop.run(answer()) == 7
    with pytest.raises(TimeoutError, match="of its own"):
        background_loop.run(late())


def test_an_interrupt_that_reaches_another_thread_ends_the_wait() -> None:
    """The system may hand a signal to any thread, and Python acts on it in the main one."""
    ended = threading.Event()

    async def endless() -> None:
        kill = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        kill.start()
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        background_loop.run(endless())
    assert time.monotonic() - started < 10
    assert ended.wait(5)  # and the work is cancelled
