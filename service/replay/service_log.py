"""The service's own log: each line of a request tells when it came, what for, how large its image was."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from pixeltier.service.problems import Problem
from pixeltier.service.replay.arrivals import Arrival, Recording, ReplayError, at_line, json_object
from pixeltier.service.tasks import CUSTOM_TIER, Task
from pixeltier.service.tiers.schema import Threshold

EVENTS = frozenset({"request", "job"})
ACCEPTED = 202
"""What is answered so has a line as a job when its image is done."""

ANSWERED = "ok"
IN_VAIN = frozenset({Problem.OVERLOADED.value.type, Problem.DEADLINE_EXCEEDED.value.type})
"""Outcomes of requests that were right, only too many."""

Milliseconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

IN_WORKER = ("decode", "importance", "infer", "encode")


class RequestLine(BaseModel):
    """What `RequestRecord.log_fields` and the formatter write, as far as it is replayed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    time: AwareDatetime
    model: Task
    outcome: str
    ms: dict[str, Milliseconds]
    tier: str | None = None
    threshold: Threshold | None = None
    images: PositiveInt = 1
    images_failed: NonNegativeInt = 0
    pixels: PositiveInt | None = None

    @property
    def began(self) -> float:
        """When the request came: its line is written at its end."""
        return self.time.timestamp() - self.ms["total"] / 1000.0

    @property
    def worker_ms(self) -> float | None:
        """What the worker took for its only image."""
        if self.outcome != ANSWERED or self.images > 1 or not {"queue", *IN_WORKER} <= self.ms.keys():
            return None
        return sum(self.ms[name] for name in IN_WORKER)

    @property
    def overhead_ms(self) -> float | None:
        """What the request took besides waiting and its worker."""
        if self.worker_ms is None:
            return None
        return max(0.0, self.ms["total"] - self.ms["queue"] - self.worker_ms)

    @property
    def unfit(self) -> str | None:
        """Why the request cannot be replayed, if so."""
        if self.outcome != ANSWERED and self.outcome not in IN_VAIN:
            return self.outcome
        if self.tier is None:
            return "no tier in the log"
        if self.tier == CUSTOM_TIER and self.threshold is None:
            return "no threshold in the log"
        return None

    def arrivals(self, line: int) -> Iterator[Arrival]:
        """One for each image that was computed, all of the same size; of a refused request as many as it held."""
        done = self.images - self.images_failed
        pixels = round(self.pixels / done) if self.pixels and done > 0 else None
        threshold = self.threshold if self.tier == CUSTOM_TIER else None
        for _ in range(done if self.outcome == ANSWERED else self.images):
            yield Arrival(
                self.began,
                self.model,
                self.tier,
                threshold,
                line,
                pixels=pixels,
                served_at=self.threshold,
                worker_ms=self.worker_ms,
            )


def read_log(path: Path, lines: Iterable[tuple[int, str]]) -> Recording:
    """The requests of a log; lines of other events are passed over.

    Raises:
        ReplayError: with the line; or no request is in it.
    """
    arrivals: list[Arrival] = []
    overheads: list[float] = []
    latencies_ms: list[float] = []
    left_out: Counter[str] = Counter()
    for number, request in _requests(path, lines):
        if (reason := request.unfit) is not None:
            left_out[reason] += 1
            continue
        arrivals += request.arrivals(number)
        if request.outcome == ANSWERED:
            latencies_ms.append(request.ms["total"])
        if (overhead_ms := request.overhead_ms) is not None:
            overheads.append(overhead_ms)
    if not arrivals:
        raise ReplayError(f"{path}: no request that could be replayed in this log")
    overhead = statistics.median(overheads) if overheads else None
    arrivals.sort(key=lambda one: one.at)
    return Recording(arrivals, overhead, latencies_ms, dict(left_out))


def _requests(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, RequestLine]]:
    for number, text in lines:
        if not text.strip():
            continue
        fields = json_object(path, number, text)
        if fields.get("event") not in EVENTS or "model" not in fields or fields.get("status") == ACCEPTED:
            continue
        try:
            request = RequestLine.model_validate(fields)
        except ValidationError as error:
            raise at_line(path, number, error) from error
        if "total" not in request.ms:
            raise at_line(path, number, "ms: the request's total is missing")
        yield number, request
