"""One request that is answered later."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pixeltier.service.jobs.result import StoredResponse
from pixeltier.service.problems import ProblemError
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import RequestRecord


class JobState(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


@dataclass(slots=True, eq=False)
class Job:
    """A job; whoever learns of it writes it here, and whoever waits for a change hears of it.

    `owner`: the name of the key that may ask for it, None where knowing its id is enough. `tiles`: those done and all,
    of an image that has several. `room`: bytes that are set aside for its result, then those that it takes.
    """

    id: str
    task: Task
    owner: str | None
    record: RequestRecord
    room: int
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: JobState = JobState.QUEUED
    tiles: tuple[int, int] | None = None
    problem: ProblemError | None = None
    result: StoredResponse | None = None
    expires: datetime | None = None
    work: asyncio.Future[Any] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the next change; another one stands here from then on."""

    @property
    def over(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.state in OVER

    def dispatched(self) -> None:
        """It goes to a worker."""
        self._become(JobState.RUNNING)

    def progressed(self, done: int, total: int) -> None:
        """So many tiles are done."""
        if self.tiles == (done, total):
            return
        self.tiles = done, total
        self._become(JobState.RUNNING)

    def succeed(self, result: StoredResponse) -> None:
        """Its result is there."""
        if self.state is JobState.CANCELLED:
            result.close()
            return
        self.result, self.room, self.work = result, result.size, None  # the work holds the answer in memory
        self._become(JobState.SUCCEEDED)

    def fail(self, problem: ProblemError) -> None:
        """There will be no result."""
        if self.state is JobState.CANCELLED:
            return
        self.problem, self.room, self.work = problem, 0, None
        self._become(JobState.FAILED)

    def cancel(self) -> None:
        """Nobody wants it any more: end its work, give its space back."""
        if self.work is not None:
            self.work.cancel()
        if self.result is not None:
            self.result.close()
        self.room = 0
        self._become(JobState.CANCELLED)

    def _become(self, state: JobState) -> None:
        self.state = state
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
