"""Shadow: a share of answered requests is run again at a candidate threshold while nobody waits, and compared."""

import logging
import random
import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.tasks import Task
from pixeltier.service.telemetry.record import Sample
from pixeltier.service.tiers.store import TierStore
from pixeltier.service.work import pool
from pixeltier.service.work.messages import CompareAnswer, CompareJob

log = logging.getLogger("pixeltier.shadow")

KEPT = 512
"""Comparisons of a model that are remembered."""

PATIENCE_S = 60.0

TIER = "shadow"
"""What comparisons are called among the estimates of how long jobs take."""


class ShadowObserver(Protocol):
    """Hears of comparisons; the metrics do."""

    def shadow_ended(self, task: Task, result: str, answer: CompareAnswer | None) -> None:
        """A sampled comparison ended as one of `COMPARISON_RESULTS`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One finished comparison."""

    candidate: float
    answer: CompareAnswer


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the comparisons with one candidate threshold; None where a model has no such figure."""

    candidate: float
    comparisons: int
    agreement: float | None
    psnr_db: float | None
    ssim: float | None
    macs_saved_served: float
    macs_saved_candidate: float


class Shadow:
    """Chooses requests, has them compared, remembers what came out."""

    def __init__(
        self,
        store: TierStore,
        workers: pool.Pool,
        observer: ShadowObserver,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._pool = workers
        self._observer = observer
        self._chance = chance or random.Random()  # noqa: S311  (a sample, no secret)
        self._done: dict[Task, deque[Comparison]] = {task: deque(maxlen=KEPT) for task in Task}
        self._running = False

    def candidate(self, task: Task, pixels: int | None) -> float | None:
        """The threshold to compare a request with, if it is among the sample."""
        rules = self._store.snapshot.table.shadow
        threshold = rules.thresholds.of(task)
        if threshold is None or not rules.share or (pixels or 0) > SPECS[task].compared_pixels:
            return None
        return threshold if self._chance.random() < rules.share else None

    async def compare(self, sample: Sample) -> None:
        """Compare one request, now or never: a busy service skips it, and no image waits in memory."""
        if self._running:
            self._observer.shadow_ended(sample.task, "skipped", None)
            return
        self._running = True
        try:
            most = SPECS[sample.task].compared_pixels
            job = CompareJob(sample.task, sample.body, sample.served, sample.candidate, most)
            deadline = time.monotonic() + PATIENCE_S
            done = await self._pool.run(
                pool.Request(job, TIER, deadline, urgency=7, pixels=sample.pixels, background=True)
            )
        except pool.QueueFullError:
            self._observer.shadow_ended(sample.task, "skipped", None)
        except pool.PoolError as error:
            log.warning("a shadow comparison failed", extra={"why": str(error)})
            self._observer.shadow_ended(sample.task, "failed", None)
        else:
            self._account(sample, done)
        finally:
            self._running = False

    def _account(self, sample: Sample, done: pool.Done) -> None:
        answer = done.answer
        if not isinstance(answer, CompareAnswer):
            log.warning("a shadow comparison failed", extra={"why": repr(answer)[:2000]})
            self._observer.shadow_ended(sample.task, "failed", None)
            return
        self._done[sample.task].append(Comparison(sample.candidate, answer))
        self._observer.shadow_ended(sample.task, "done", answer)

    def summary(self, task: Task, candidate: float) -> Summary | None:
        """What the comparisons with a candidate came to; None if there were none."""
        found = [one.answer for one in self._done[task] if abs(one.candidate - candidate) < 1e-9]
        if not found:
            return None
        dense = sum(one.macs_dense for one in found)
        return Summary(
            candidate=candidate,
            comparisons=len(found),
            agreement=_mean([float(one.agrees) for one in found if one.agrees is not None]),
            psnr_db=_mean([one.psnr_db for one in found if one.psnr_db is not None]),
            ssim=_mean([one.ssim for one in found if one.ssim is not None]),
            macs_saved_served=1 - sum(one.macs_served for one in found) / dense,
            macs_saved_candidate=1 - sum(one.macs_candidate for one in found) / dense,
        )


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None
