"""Mean-colour jobs in a worker. A "network" of one multiply-add for each pixel and channel; a threshold skips rows."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pixeltier.models.outcome import CURVE_THRESHOLDS
from pixeltier.service.task_specs.mean_colour import MeanColourAnswer, MeanColourJob
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import Answer, CompareAnswer, CompareJob, Rejected, Work
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
from pixeltier.service.worker.interface import Engine
from pixeltier.service.worker.progress import Advance
from pixeltier.service.worker.runner import Likeness, Runner, ms_since


class MeanColourRunner(Runner[MeanColourJob, MeanColourAnswer]):
    """See the module."""

    task = Task("mean-colour")

    def run(self, engine: Engine, jobs: Sequence[MeanColourJob], advance: Advance) -> list[Answer]:
        """See Runner."""
        return [_answer(job) for job in jobs]

    def compare(self, engine: Engine, job: CompareJob) -> CompareAnswer:
        """See Runner; the colours agree where no channel differs by more than one level."""
        pixels = np.asarray(flatten(decode(job.body, max_pixels=job.max_pixels)), dtype=np.float64)
        (served, first), (candidate, second) = (_mean(pixels, one) for one in (job.served, job.candidate))
        return CompareAnswer(
            agrees=bool(np.abs(first - second).max() <= 1),
            psnr_db=None,
            ssim=None,
            macs_dense=pixels.size,
            macs_served=served,
            macs_candidate=candidate,
        )

    def likeness(self, first: MeanColourAnswer, second: MeanColourAnswer) -> Likeness:
        """See Runner."""
        return Likeness(agrees=first.colour == second.colour)

    def check(self, engine: Engine) -> None:
        """See Runner."""


def _answer(job: MeanColourJob) -> Answer:
    started = time.perf_counter()
    try:
        decoded = decode(job.body, max_pixels=job.max_pixels)
    except ImageRejectedError as error:
        return Rejected(error.kind, error.detail)
    pixels = np.asarray(flatten(decoded), dtype=np.float64)
    executed, mean = _mean(pixels, job.threshold)
    work = Work(
        threshold=job.threshold,
        macs_dense=pixels.size,
        macs_executed=executed,
        active_share=executed / pixels.size,
        pixels=decoded.pixels,
        decode_ms=ms_since(started),
        importance_ms=0.0,
        infer_ms=0.0,
        encode_ms=0.0,
        macs_curve=tuple(round((1 - threshold) * pixels.size) for threshold in CURVE_THRESHOLDS),
        active_curve=(1,) * len(CURVE_THRESHOLDS),
    )
    return MeanColourAnswer(work=work, colour=tuple(mean * job.scale / 255))


def _mean(pixels: npt.NDArray[np.float64], threshold: float) -> tuple[int, npt.NDArray[np.float64]]:
    """Multiply-adds, and the mean colour of the rows that they reach."""
    kept = pixels[: max(1, round((1 - threshold) * len(pixels)))]
    return kept.size, kept.mean(axis=(0, 1))
