"""Super-resolve jobs in a worker."""

import io
import time
from collections.abc import Sequence
from itertools import product

import numpy as np
from PIL import Image

from pixeltier.models.evaluation.metrics import luma, psnr, ssim
from pixeltier.models.outcome import UNLIMITED, Infeasible
from pixeltier.models.results import Pixels
from pixeltier.service.tasks import SCALE, Task
from pixeltier.service.work.messages import (
    Answer,
    CompareAnswer,
    CompareJob,
    Rejected,
    SuperResolveAnswer,
    SuperResolveJob,
)
from pixeltier.service.worker.decode import ImageRejectedError, decode
from pixeltier.service.worker.encode import check_output, encode, output_size
from pixeltier.service.worker.input_quality import was_compressed
from pixeltier.service.worker.interface import Engine
from pixeltier.service.worker.progress import Advance
from pixeltier.service.worker.runner import (
    Likeness,
    Runner,
    feasible,
    importance_of,
    ms_since,
    ramp,
    work_of,
)
from pixeltier.service.worker.transparency import visible_colours

MOST_PSNR_DB = 100.0
"""Stands for the infinite PSNR of equal images, so that means stay finite."""

SSIM_LEAST_SIDE = 11
"""SSIM's window: smaller results have none."""

CHECK_SIZES = ((24, 32), (64, 64))


class SuperResolveRunner(Runner[SuperResolveJob, SuperResolveAnswer]):
    """See the module."""

    task = Task.SUPER_RESOLVE

    def run(self, engine: Engine, jobs: Sequence[SuperResolveJob], advance: Advance) -> list[Answer]:
        """See Runner."""
        return [self._answer(engine, job, advance) for job in jobs]

    def _answer(self, engine: Engine, job: SuperResolveJob, advance: Advance) -> Answer:
        try:
            return self._enlarge(engine, job, advance)
        except ImageRejectedError as error:
            return Rejected(error.kind, error.detail)

    def _enlarge(self, engine: Engine, job: SuperResolveJob, advance: Advance) -> Answer:
        started = time.perf_counter()
        decoded = decode(job.body, max_pixels=job.max_pixels)
        width, height = decoded.rgb.size
        size = output_size(decoded.rgb.size, job.target)
        check_output(*size, job.format, job.max_output_pixels)
        pixels = np.array(visible_colours(decoded), dtype=np.uint8)  # a copy: torch warns of read-only views
        decode_ms = ms_since(started)
        compressed = engine.knows_compressed and _is_compressed(job)
        result = engine.upscale(pixels, job.threshold, job.limits, compressed=compressed, advance=advance)
        if isinstance(result, Infeasible):
            return result
        started = time.perf_counter()
        if result.image.shape != (SCALE * height, SCALE * width, 3):
            raise RuntimeError(f"{width}x{height} came back as {result.image.shape}")
        body = encode(result.image, decoded, size, job.format, job.quality)
        importance = importance_of(result.importance) if job.importance else None
        work = work_of(result, decoded.pixels, decode_ms=decode_ms, encode_ms=ms_since(started))
        return SuperResolveAnswer(
            work=work,
            importance=importance,
            body=body,
            quality_of_input="compressed" if compressed else "clean",
            format=job.format,
            width=size[0],
            height=size[1],
        )

    def compare(self, engine: Engine, job: CompareJob) -> CompareAnswer:
        """See Runner."""
        pixels = np.array(visible_colours(decode(job.body, max_pixels=job.max_pixels)), dtype=np.uint8)
        compressed = engine.knows_compressed and was_compressed(job.body)
        served, candidate = (
            feasible(engine.upscale(pixels, threshold, UNLIMITED, compressed=compressed))
            for threshold in (job.served, job.candidate)
        )
        alike = _likeness(served.image, candidate.image)
        return CompareAnswer(
            agrees=None,
            psnr_db=alike.psnr_db,
            ssim=alike.ssim,
            macs_dense=int(served.macs_dense),
            macs_served=int(served.macs_executed),
            macs_candidate=int(candidate.macs_executed),
        )

    def likeness(self, first: SuperResolveAnswer, second: SuperResolveAnswer) -> Likeness:
        """See Runner."""
        return _likeness(_pixels(first.body), _pixels(second.body))

    def check(self, engine: Engine) -> None:
        """See Runner."""
        photo = ramp()
        weights = (False, True) if engine.knows_compressed else (False,)
        for (height, width), threshold, compressed in product(CHECK_SIZES, (0.0, 0.5), weights):
            part = np.ascontiguousarray(photo[:height, :width])
            enlarged = feasible(engine.upscale(part, threshold, UNLIMITED, compressed=compressed))
            if enlarged.image.shape != (SCALE * height, SCALE * width, 3):
                raise RuntimeError(
                    f"self-check: super-resolve of {height}x{width} gives {enlarged.image.shape}"
                )
            # A sane model keeps the mean: broken kernels and weights do not.
            drift = abs(float(enlarged.image.mean()) - float(part.mean()))
            if drift > 24.0:
                raise RuntimeError(
                    f"self-check: super-resolve at {threshold} moves the mean by {drift:.0f} of 255"
                )


def _likeness(first: Pixels, second: Pixels) -> Likeness:
    """Of two enlarged images."""
    a, b = luma(first, shave=0), luma(second, shave=0)
    return Likeness(
        psnr_db=min(MOST_PSNR_DB, psnr(a, b)),
        ssim=ssim(a, b) if min(a.shape) >= SSIM_LEAST_SIDE else None,
    )


def _pixels(body: bytes) -> Pixels:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGB"))


def _is_compressed(job: SuperResolveJob) -> bool:
    if job.quality_of_input is None:
        return was_compressed(job.body)
    return job.quality_of_input == "compressed"
