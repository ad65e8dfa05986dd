"""The worker's end of the pipe: jobs come, answers go, and between two tiles each end hears of the other."""

import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from pixeltier.service.work.messages import Answer, Cancel, Job, Progress
from pixeltier.service.worker import frames
from pixeltier.service.worker.progress import JobCancelledError


class JobPipe:
    """Frames of jobs, counted from 1 in the order in which they come.

    Raises ClosedError, from every method, where the front process has hung up.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting: deque[list[Any]] = deque()
        self._cancelled: set[int] = set()
        self._frame = 0

    def next_jobs(self) -> tuple[Job, ...]:
        """Wait for the next frame of jobs."""
        while not self._waiting:
            self._receive()
        self._frame += 1
        return tuple(self._waiting.popleft())

    def answer(self, answers: Sequence[Answer]) -> None:
        """Send the answers to the frame that `next_jobs` gave last."""
        self._cancelled.discard(self._frame)
        frames.send(self._connection, answers)

    def advance(self, done: int, total: int) -> None:
        """Tell of an image of several tiles; see `pixeltier.service.worker.progress.Advance`.

        Raises:
            JobCancelledError: the front process waits for this frame no longer.
        """
        while select.select([self._connection], [], [], 0)[0]:
            self._receive()
        if self._frame in self._cancelled:
            raise JobCancelledError
        if total > 1:
            frames.send(self._connection, [Progress(done, total)])

    def _receive(self) -> None:
        items = frames.receive(self._connection)
        if isinstance(items[0], Cancel):
            if items[0].frame >= self._frame:  # what is answered already cannot be given up
                self._cancelled.add(items[0].frame)
        else:
            self._waiting.append(items)
