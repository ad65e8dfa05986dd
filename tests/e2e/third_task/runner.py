"""Mean-colour jobs in a worker. A "network" of one multiply-add for each pixel and channel; a threshold skips rows."""

import time
from collections.abc import Sequence

import numpy as np

from pixeltier.models.budgets import CURVE_THRESHOLDS
from pixeltier.service.task_specs.mean_colour import MeanColourAnswer, MeanColourJob
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Answer, CompareAnswer, CompareJob, Rejected, Timings, Work
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
from pixeltier.service.worker.interface import Engine
from pixeltier.service.worker.runner import Runner, ms_since


class MeanColourRunner(Runner[MeanColourJob]):
    """See the module."""

    task = Task("mean-colour")

    def run(self, engine: Engine, jobs: Sequence[MeanColourJob]) -> list[Answer]:
        """See Runner."""
        return [_answer(job) for job in jobs]

    def compare(self, engine: Engine, job: CompareJob) -> CompareAnswer:
        """See Runner."""
        raise NotImplementedError("nobody asks the shadow for colours here")

    def check(self, engine: Engine) -> None:
        """See Runner."""


def _answer(job: MeanColourJob) -> Answer:
    started = time.perf_counter()
    try:
        decoded = decode(job.body, max_pixels=job.max_pixels)
    except ImageRejectedError as error:
        return Rejected(error.kind, error.detail)
    pixels = np.asarray(flatten(decoded), dtype=np.float64)
    kept = max(1, round((1 - job.threshold) * len(pixels)))
    colour = pixels[:kept].mean(axis=(0, 1)) * job.scale / 255
    work = Work(
        threshold=job.threshold,
        macs_dense=pixels.size,
        macs_executed=pixels[:kept].size,
        active_share=kept / len(pixels),
        pixels=decoded.pixels,
        timings=Timings(ms_since(started), 0.0, 0.0, 0.0),
        macs_curve=tuple(round((1 - threshold) * pixels.size) for threshold in CURVE_THRESHOLDS),
        importance_histogram=(1,) * 20,
    )
    return MeanColourAnswer(work=work, colour=tuple(colour))
