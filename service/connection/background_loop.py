"""An event loop in a thread of its own: what is cancelled there ends at once, which blocking sockets cannot.

A timeout of a blocking socket is one of each read: a body that drips outlives it. All blocking clients share the loop.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_WAKE_S = 0.25
"""A signal that reaches another thread, or this one just before it waits, is seen when the wait ends, not before."""

_lock = threading.Lock()
_running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads: an executor's would hold up the program's end until the resolver gives up."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """As socket.getaddrinfo."""
        found: asyncio.Future[Any] = self.create_future()

        def settle(settled: Callable[[Any], None], value: Any) -> None:
            if not found.done():
                settled(value)

        def look_up() -> None:
            try:
                addresses = socket.getaddrinfo(host, port, **hints)
            except Exception as error:
                self.call_soon_threadsafe(settle, found.set_exception, error)
            else:
                self.call_soon_threadsafe(settle, found.set_result, addresses)

        threading.Thread(target=look_up, daemon=True).start()
        return await found


def _loop() -> asyncio.AbstractEventLoop:
    global _running  # noqa: PLW0603 - one a process
    with _lock:
        if _running is None:
            loop = _Loop()
            thread = threading.Thread(target=loop.run_forever, name="pixeltier-client", daemon=True)
            thread.start()
            _running = loop, thread
        return _running[0]


def _forget() -> None:
    """In a forked child: the loop is here, its thread is not, and the lock may be held by nobody."""
    global _lock, _running
    _lock, _running = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the shared loop and wait for it; whatever interrupts the wait cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop())
    try:
        while True:
            try:
                return future.result(_WAKE_S)
            except TimeoutError:
                if future.done():  # the coroutine's own
                    raise
    except BaseException:
        future.cancel()
        raise
