"""The figures of a replay: of each task and tier and of everything, with the table as it is and as it would be."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pixeltier.service.operations.prediction import quantile
from pixeltier.service.replay.arrivals import Arrival
from pixeltier.service.replay.efforts import EXACT, Effort, EffortTable
from pixeltier.service.replay.measurement import Measured, Pair, Subject, subject_of
from pixeltier.service.replay.queueing import Job, Played, play
from pixeltier.service.tasks import CUSTOM_TIER, Task
from pixeltier.service.worker.runner import Likeness


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the arrivals are played.

    Attributes:
        overhead_ms: what a request takes besides waiting and its worker.
        speed: how many times faster than recorded.
        deadline_ms: of every request, to count those that would miss it.
        time_factors: by task, how many times longer a worker takes than was measured.
    """

    workers: int
    overhead_ms: float
    speed: float = 1.0
    deadline_ms: float | None = None
    time_factors: Mapping[Task, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Percentiles":
        """Of at least one value."""
        ascending = sorted(values)
        return cls(*(quantile(ascending, share) for share in (0.5, 0.95, 0.99)))


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over requests; None where no request has such a figure."""

    agreement: float | None
    psnr_db: float | None
    ssim: float | None

    @classmethod
    def of(cls, found: Sequence[Likeness | None]) -> "Quality":
        """Of requests; None is one whose image was too large to compare."""
        known = [one for one in found if one is not None]
        return cls(
            agreement=_mean(None if one.agrees is None else float(one.agrees) for one in known),
            psnr_db=_mean(one.psnr_db for one in known),
            ssim=_mean(one.ssim for one in known),
        )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one table does to some requests.

    Attributes:
        utilisation: the share of all workers' time that these requests take.
        late: requests that miss the deadline, where one is given.
        to_exact: how alike answers are to those of threshold 0.
    """

    macs_saved: float
    latency_ms: Percentiles
    wait_ms: Percentiles
    utilisation: float
    late: int | None
    to_exact: Quality


@dataclass(frozen=True, slots=True)
class Compared:
    """Some requests under both tables; `between` says how alike both tables' answers are."""

    requests: int
    current: Figures
    changed: Figures
    between: Quality

    def document(self) -> dict[str, Any]:
        """As JSON values, with the difference of all figures."""
        current, changed = asdict(self.current), asdict(self.changed)
        return {
            "requests": self.requests,
            "current": current,
            "changed": changed,
            "difference": difference(current, changed),
            "between": asdict(self.between),
        }


def difference(before: Any, after: Any) -> Any:
    """Figure by figure; None where either lacks one."""
    if isinstance(before, Mapping):
        return {name: difference(value, after[name]) for name, value in before.items()}
    return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True)
class Side:
    """One table: each request's effort, and what became of it in the queue."""

    efforts: Sequence[Effort]
    played: Played


class Comparison:
    """A recording played with two tables."""

    def __init__(
        self,
        arrivals: Sequence[Arrival],
        tables: tuple[EffortTable, EffortTable],
        measured: Mapping[Subject, Measured],
        conditions: Conditions,
    ) -> None:
        """Play arrivals in order of time; `tables` are the current and the changed one."""
        self._arrivals = arrivals
        self._measured = [measured[subject_of(arrival)] for arrival in arrivals]
        self._conditions = conditions
        self._current_table = tables[0]
        self.current, self.changed = (self._side(table) for table in tables)

    def _side(self, table: EffortTable) -> Side:
        efforts = [table.effort(arrival) for arrival in self._arrivals]
        first, speed = self._arrivals[0].at, self._conditions.speed
        factors = self._conditions.time_factors
        jobs = [
            Job(
                1000.0 * (arrival.at - first) / speed,
                factors.get(arrival.task, 1.0) * found.runs[effort].worker_ms,
            )
            for arrival, found, effort in zip(self._arrivals, self._measured, efforts, strict=True)
        ]
        return Side(efforts, play(jobs, self._conditions.workers))

    def groups(self) -> dict[tuple[Task, str], Compared]:
        """By task and tier of the current table, in their orders."""
        places: dict[tuple[Task, str], list[int]] = {}
        for place, arrival in enumerate(self._arrivals):
            places.setdefault((arrival.task, self._current_table.tier(arrival)), []).append(place)
        names = [*self._current_table.table.names, CUSTOM_TIER]
        ordered = ((task, tier) for task in Task for tier in names)
        return {key: self._compared(places[key]) for key in ordered if key in places}

    def total(self) -> Compared:
        """Of all requests."""
        return self._compared(range(len(self._arrivals)))

    def _compared(self, places: Sequence[int]) -> Compared:
        return Compared(
            requests=len(places),
            current=self._figures(self.current, places),
            changed=self._figures(self.changed, places),
            between=self._quality(
                places, [(self.current.efforts[place], self.changed.efforts[place]) for place in places]
            ),
        )

    def _figures(self, side: Side, places: Sequence[int]) -> Figures:
        played, overhead_ms = side.played, self._conditions.overhead_ms
        waits_ms = [played.wait_ms(place) for place in places]
        latencies_ms = [
            wait_ms + played.jobs[place].worker_ms + overhead_ms
            for wait_ms, place in zip(waits_ms, places, strict=True)
        ]
        runs = [self._measured[place].runs[side.efforts[place]] for place in places]
        deadline_ms = self._conditions.deadline_ms
        return Figures(
            macs_saved=1.0 - sum(run.macs_executed for run in runs) / sum(run.macs_dense for run in runs),
            latency_ms=Percentiles.of(latencies_ms),
            wait_ms=Percentiles.of(waits_ms),
            utilisation=played.utilisation(places),
            late=None if deadline_ms is None else sum(one > deadline_ms for one in latencies_ms),
            to_exact=self._quality(places, [(EXACT, side.efforts[place]) for place in places]),
        )

    def _quality(self, places: Sequence[int], pairs: Sequence[Pair]) -> Quality:
        return Quality.of(
            [self._measured[place].likeness.get(pair) for place, pair in zip(places, pairs, strict=True)]
        )
