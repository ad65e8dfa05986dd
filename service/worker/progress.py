"""How far a job has come, and its end where nobody waits for it. Free of torch and numpy."""

from collections.abc import Callable

Advance = Callable[[int, int], None]
"""Told how many of an image's tiles are done, of how many; raises JobCancelledError where nobody waits any longer."""


class JobCancelledError(Exception):
    """Nobody waits for the job any longer."""


def unwatched(done: int, total: int) -> None:
    """An `Advance` for those who wait to the end."""
    del done, total
