"""What came by lately, in memory: costs of images for the dry-run, outcomes of requests for the live view.

Of an image only numbers are kept: its MACs and active windows at some thresholds, its time. Never pixels.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Work

LONGEST_WINDOW_S = 600
MOST_REQUESTS = 50_000
"""Requests the live view remembers at most; under more load its window is shorter."""

ENOUGH = 32
"""Images of a tier's own that speak for it; with fewer all images of the model do."""


@dataclass(frozen=True, slots=True)
class SeenImage:
    """One image's costs.

    Attributes:
        tier: the tier that was asked for.
        macs_curve, active_curve: MACs, and active windows, at `pixeltier.models.outcome.CURVE_THRESHOLDS`.
        fixed_ms: decoding and encoding, which no threshold changes; `model_ms`: the rest, at `macs_executed`.
    """

    tier: str
    macs_dense: int
    macs_executed: int
    macs_curve: tuple[int, ...]
    active_curve: tuple[int, ...]
    pixels: int
    fixed_ms: float
    model_ms: float

    @classmethod
    def of(cls, tier: str, work: Work) -> "SeenImage":
        """From a worker's report."""
        return cls(
            tier=tier,
            macs_dense=work.macs_dense,
            macs_executed=work.macs_executed,
            macs_curve=work.macs_curve,
            active_curve=work.active_curve,
            pixels=work.pixels,
            fixed_ms=work.decode_ms + work.encode_ms,
            model_ms=work.importance_ms + work.infer_ms,
        )


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One finished request of a model."""

    at: float
    task: Task
    tier: str
    tier_effective: str
    ok: bool
    total_ms: float
    macs_dense: int
    macs_executed: int


class Recent:
    """Bounded memory of both."""

    def __init__(self, images: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._images: dict[Task, deque[SeenImage]] = {task: deque(maxlen=images) for task in Task}
        self._requests: deque[SeenRequest] = deque(maxlen=MOST_REQUESTS)
        self._clock = clock

    def add_image(self, task: Task, tier: str, work: Work) -> None:
        """Remember what an image cost."""
        self._images[task].append(SeenImage.of(tier, work))

    def add_request(
        self, task: Task, tier: str, tier_effective: str, *, ok: bool, total_ms: float, work: Work | None
    ) -> None:
        """Remember how a request ended."""
        dense, executed = (work.macs_dense, work.macs_executed) if work is not None else (0, 0)
        now = self._clock()
        while self._requests and self._requests[0].at < now - LONGEST_WINDOW_S:
            self._requests.popleft()
        self._requests.append(SeenRequest(now, task, tier, tier_effective, ok, total_ms, dense, executed))

    def images(self, task: Task) -> list[SeenImage]:
        """The last images of a model."""
        return list(self._images[task])

    def requests(self, seconds: float) -> list[SeenRequest]:
        """The requests that finished within the last seconds."""
        since = self._clock() - seconds
        return [one for one in self._requests if one.at >= since]
