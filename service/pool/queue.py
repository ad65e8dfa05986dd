"""The bounded admission queue: earliest virtual deadline first."""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field

from pixeltier.service.work.pool import Done, Request

URGENCY_STEP_S = 2.0
"""A job of one urgency level less waits at most this much longer: priority with aging, in one static key."""

HORIZON_S = 10.0
"""Deadlines further away than this rank as if they were here, so that a long deadline does not starve."""

USUAL_URGENCY = 3


@dataclass(slots=True, eq=False)
class Entry:
    """A request between admission and answer."""

    request: Request
    enqueued: float
    cost_ms: float
    future: asyncio.Future[Done]
    attempts: int = 0
    queued: bool = False
    alone: bool = False
    submitted: float = 0.0
    rank: float = field(init=False)

    def __post_init__(self) -> None:
        horizon = min(self.request.deadline, self.enqueued + HORIZON_S)
        self.rank = horizon + (self.request.urgency - USUAL_URGENCY) * URGENCY_STEP_S


class AdmissionQueue:
    """A heap with removal. Its limit binds `full` only: a retried job always finds its place again."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cost_ms = 0.0
        self._heap: list[tuple[float, int, Entry]] = []
        self._depth = 0
        self._order = itertools.count()

    def __len__(self) -> int:
        return self._depth

    @property
    def full(self) -> bool:
        """Whether a new job must be turned away."""
        return self._depth >= self.limit

    def push(self, entry: Entry) -> None:
        """Put a job in its place."""
        entry.queued = True
        self._depth += 1
        self.cost_ms += entry.cost_ms
        heapq.heappush(self._heap, (entry.rank, next(self._order), entry))

    def pop(self) -> Entry | None:
        """Take the first job, or None."""
        while self._heap:
            entry = heapq.heappop(self._heap)[2]
            if entry.queued:
                self._leave(entry)
                return entry
        return None

    def peek(self) -> Entry | None:
        """Look at the first job, or None."""
        while self._heap and not self._heap[0][2].queued:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def discard(self, entry: Entry) -> None:
        """Give a job's place free, if it still has one."""
        if entry.queued:
            self._leave(entry)
        if len(self._heap) > 2 * self._depth + self.limit:  # the dropped ones are swept before they pile up
            self._heap = [item for item in self._heap if item[2].queued]
            heapq.heapify(self._heap)

    def _leave(self, entry: Entry) -> None:
        entry.queued = False
        self._depth -= 1
        self.cost_ms = max(0.0, self.cost_ms - entry.cost_ms) if self._depth else 0.0
