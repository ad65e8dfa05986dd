"""The shadow's job: one image at two thresholds, and how far apart the results are."""

from typing import TypeVar

import numpy as np

from pixeltier.models.budgets import UNLIMITED, Infeasible
from pixeltier.models.evaluation.metrics import luma, psnr, ssim
from pixeltier.models.images import classify_input
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import CompareAnswer, CompareJob, Rejected
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
from pixeltier.service.worker.interface import Classification, Engine, SuperResolution
from pixeltier.service.worker.transparency import visible_colours

Outcome = TypeVar("Outcome", Classification, SuperResolution)

MOST_PSNR_DB = 100.0
"""Stands for the infinite PSNR of equal images, so that means stay finite."""

SSIM_LEAST_SIDE = 11
"""SSIM's window: smaller results have none."""


def compare(engine: Engine, job: CompareJob) -> CompareAnswer | Rejected:
    """Run the image at the served and at the candidate threshold."""
    try:
        return _classify(engine, job) if job.task is Task.CLASSIFY else _super_resolve(engine, job)
    except ImageRejectedError as error:
        return Rejected(error.kind, error.detail)


def _classify(engine: Engine, job: CompareJob) -> CompareAnswer:
    image = classify_input(flatten(decode(job.body, max_pixels=job.max_pixels, reduce=True)))
    served, candidate = (
        _feasible(one)
        for one in engine.classify([image, image], [job.served, job.candidate], [UNLIMITED, UNLIMITED])
    )
    return CompareAnswer(
        agrees=bool(served.probabilities.argmax() == candidate.probabilities.argmax()),
        psnr_db=None,
        ssim=None,
        macs_dense=int(served.macs_dense),
        macs_served=int(served.macs_executed),
        macs_candidate=int(candidate.macs_executed),
    )


def _super_resolve(engine: Engine, job: CompareJob) -> CompareAnswer:
    pixels = np.array(visible_colours(decode(job.body, max_pixels=job.max_pixels)), dtype=np.uint8)
    served, candidate = (
        _feasible(engine.upscale(pixels, threshold, UNLIMITED)) for threshold in (job.served, job.candidate)
    )
    first, second = luma(served.image, shave=0), luma(candidate.image, shave=0)
    return CompareAnswer(
        agrees=None,
        psnr_db=min(MOST_PSNR_DB, psnr(first, second)),
        ssim=ssim(first, second) if min(first.shape) >= SSIM_LEAST_SIDE else None,
        macs_dense=int(served.macs_dense),
        macs_served=int(served.macs_executed),
        macs_candidate=int(candidate.macs_executed),
    )


def _feasible(outcome: Outcome | Infeasible) -> Outcome:
    if isinstance(outcome, Infeasible):
        raise RuntimeError("a budget that nobody set was missed")
    return outcome
