"""What signals do to the service beside SIGINT and SIGTERM, which uvicorn takes. docs/service.md has the table."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from types import FrameType

log = logging.getLogger("pixeltier.serve")

IGNORED = ("SIGUSR1", "SIGUSR2")
"""What log rotation and debuggers send to others; its default would end the process without a drain."""


def ignore() -> None:
    """Let no signal that means something to a running service end one that is starting, or has drained."""
    _ignore("SIGHUP", *IGNORED)


def install(reload: Callable[[], None] | None, drain: Callable[[int], None]) -> None:
    """Handle signals in the running event loop.

    Args:
        reload: reads the tier file again; None where there is none.
        drain: ends the service as Ctrl-C does.
    """
    _on("SIGHUP", reload or _nothing_to_reload)
    for name in IGNORED:
        _on(name, _ignored, name)
    if hasattr(signal, "SIGQUIT"):
        _on("SIGQUIT", drain, signal.SIGQUIT)


def ignore_in_worker() -> None:
    """Signals of the terminal reach the whole group; the front process decides when a worker ends."""
    _ignore("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", *IGNORED)


def _on(name: str, act: Callable[..., None], *arguments: object) -> None:
    """Have the loop act. Its own handlers would end with it, and the process by what comes after its drain."""
    loop = asyncio.get_running_loop()

    def heard(number: int, frame: FrameType | None) -> None:
        del number, frame
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(act, *arguments)

    if hasattr(signal, name):
        signal.signal(getattr(signal, name), heard)


def _ignore(*names: str) -> None:
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _nothing_to_reload() -> None:
    log.info("SIGHUP: there is no tier file to read again; PIXELTIER_TIERS_FILE names one")


def _ignored(name: str) -> None:
    log.info("signal ignored", extra={"signal": name})
