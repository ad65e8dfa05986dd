"""Every image run in this process, as a worker would, at every effort that is needed, and the answers compared."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pixeltier.service.configuration.settings import Settings
from pixeltier.service.pool.wiring import worker_spec
from pixeltier.service.replay.arrivals import Arrival, ReplayError
from pixeltier.service.replay.efforts import EXACT, Effort, EffortTable
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.task_specs.spec import Asked
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Failed, Rejected, RequestAnswer, RequestJob
from pixeltier.service.worker.runner import Likeness
from pixeltier.service.worker.runners import RUNNERS
from pixeltier.service.worker.startup import JobRunner, open_runner

Subject = tuple[Path, Task]
Pair = tuple[Effort, Effort]


@dataclass(slots=True)
class Wanted:
    """What is to be known of an image: efforts that requests make, and pairs of them that are compared."""

    efforts: set[Effort] = field(default_factory=set)
    pairs: set[Pair] = field(default_factory=set)

    def add(self, current: Effort, changed: Effort) -> None:
        """A request's two efforts."""
        self.efforts |= {current, changed}
        self.pairs |= {(EXACT, current), (EXACT, changed), (current, changed)}


@dataclass(frozen=True, slots=True)
class Run:
    """What an effort cost: MACs, and milliseconds in the worker from decoding to encoding."""

    worker_ms: float
    macs_dense: int
    macs_executed: int


@dataclass(frozen=True, slots=True)
class Measured:
    """An image's runs by effort, and how alike answers are; no pair of an image too large to be compared."""

    runs: Mapping[Effort, Run]
    likeness: Mapping[Pair, Likeness]


def wanted_of(
    arrivals: Iterable[Arrival], current: EffortTable, changed: EffortTable
) -> dict[Subject, Wanted]:
    """What must be measured, in the order of the first need.

    Raises:
        ReplayError: a table lacks a tier that is asked for.
    """
    found: dict[Subject, Wanted] = {}
    for arrival in arrivals:
        found.setdefault(subject_of(arrival), Wanted()).add(current.effort(arrival), changed.effort(arrival))
    return found


def subject_of(arrival: Arrival) -> Subject:
    """The image and task of an arrival."""
    if arrival.image is None:
        raise ReplayError(f"line {arrival.line}: no image was found for this request")
    return arrival.image, arrival.task


def measure_all(
    wanted: Mapping[Subject, Wanted], settings: Settings, repeats: int
) -> Iterator[tuple[Subject, Measured]]:
    """Run every image as the service's worker would; raises ReplayError, see `Bench.measure`."""
    spec = worker_spec(settings, settings.shape().threads, device=settings.devices()[0])
    bench = Bench(open_runner(spec)[0], settings, repeats)
    for subject, needed in wanted.items():
        yield subject, bench.measure(subject, needed)


class Bench:
    """A worker's half of the service in this process."""

    def __init__(self, runner: JobRunner, settings: Settings, repeats: int) -> None:
        """Take a warm runner; each effort runs `repeats` times and counts with the median of its times."""
        self._runner = runner
        self._settings = settings
        self._repeats = repeats

    def measure(self, subject: Subject, wanted: Wanted) -> Measured:
        """Run one image at all efforts, which take turns.

        Raises:
            ReplayError: the image is refused, or the model failed on it.
        """
        image, task = subject
        body = image.read_bytes()
        jobs = {effort: self._job(body, task, effort) for effort in _ordered(wanted)}
        answers: dict[Effort, RequestAnswer] = {}
        times: dict[int, list[float]] = {}
        for turn in range(self._repeats):
            for effort, job in jobs.items():
                if turn == 0 or effort in wanted.efforts:
                    answer = answers[effort] = self._answer(image, job)
                    times.setdefault(answer.work.macs_executed, []).append(_worker_ms(answer))
        return Measured(_runs(answers, times), _likeness(task, wanted, answers))

    def _job(self, body: bytes, task: Task, effort: Effort) -> RequestJob:
        spec = SPECS[task]
        asked = Asked(body, effort.threshold, importance=False, limits=effort.limits)
        job: RequestJob = spec.job(asked, spec.parameters(), self._settings)
        return job

    def _answer(self, image: Path, job: RequestJob) -> RequestAnswer:
        (answer,) = self._runner.execute((job,))
        if isinstance(answer, RequestAnswer):
            return answer
        if isinstance(answer, Rejected):
            raise ReplayError(f"{image}: {answer.detail}")
        why = answer.traceback.strip().splitlines()[-1] if isinstance(answer, Failed) else str(answer)
        raise ReplayError(f"{image}: {job.task} failed: {why}")


def _ordered(wanted: Wanted) -> list[Effort]:
    """Exact first: what it is compared with, and it pays what the first run of a size costs."""
    rest = wanted.efforts - {EXACT}
    return [EXACT, *sorted(rest, key=lambda one: (one.threshold, one.max_active_share or 0.0))]


def _worker_ms(answer: RequestAnswer) -> float:
    work = answer.work
    return work.decode_ms + work.importance_ms + work.infer_ms + work.encode_ms


def _runs(answers: Mapping[Effort, RequestAnswer], times: Mapping[int, list[float]]) -> dict[Effort, Run]:
    """Efforts with equal MACs computed the same windows, masks being nested: they share their times."""
    return {
        effort: Run(
            statistics.median(times[answer.work.macs_executed]),
            answer.work.macs_dense,
            answer.work.macs_executed,
        )
        for effort, answer in answers.items()
    }


def _likeness(task: Task, wanted: Wanted, answers: Mapping[Effort, RequestAnswer]) -> dict[Pair, Likeness]:
    if answers[EXACT].work.pixels > SPECS[task].compared_pixels:
        return {}
    return {pair: RUNNERS[task].likeness(answers[pair[0]], answers[pair[1]]) for pair in wanted.pairs}
