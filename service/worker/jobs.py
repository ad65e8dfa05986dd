"""The jobs a worker does: decode, infer, encode, each stage timed."""

import time

import numpy as np

from pixeltier.models import budgets
from pixeltier.models.budgets import Budget
from pixeltier.models.images import classify_input
from pixeltier.service.tasks import SCALE
from pixeltier.service.work.messages import (
    Answer,
    ClassifyAnswer,
    ClassifyJob,
    CompareJob,
    CostLimits,
    ImportanceMap,
    Infeasible,
    Job,
    Rejected,
    SuperResolveAnswer,
    SuperResolveJob,
    Timings,
    Work,
)
from pixeltier.service.worker.compare import compare
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
from pixeltier.service.worker.encode import check_output, encode
from pixeltier.service.worker.interface import Engine, Floats, Outcome
from pixeltier.service.worker.transparency import visible_colours


def do(engine: Engine, jobs: tuple[Job, ...]) -> list[Answer]:
    """Do jobs; a rejected image is an answer. Several jobs are classify jobs and run as one batch."""
    if len(jobs) == 1 and isinstance(jobs[0], CompareJob):
        return [compare(engine, jobs[0])]
    if len(jobs) == 1 and isinstance(jobs[0], SuperResolveJob):
        try:
            return [_super_resolve(engine, jobs[0])]
        except ImageRejectedError as error:
            return [Rejected(error.kind, error.detail)]
    return _classify(engine, tuple(job for job in jobs if isinstance(job, ClassifyJob)))


def _classify(engine: Engine, jobs: tuple[ClassifyJob, ...]) -> list[Answer]:
    answers: list[Answer | None] = [None] * len(jobs)
    images, pixels, decode_ms, places = [], [], [], []
    for place, job in enumerate(jobs):
        started = time.perf_counter()
        try:
            decoded = decode(job.body, max_pixels=job.max_pixels, reduce=True)
            images.append(classify_input(flatten(decoded)))
        except ImageRejectedError as error:
            answers[place] = Rejected(error.kind, error.detail)
            continue
        pixels.append(decoded.pixels)
        places.append(place)
        decode_ms.append(_since(started))
    wanted = [jobs[place] for place in places]
    thresholds, limits = [job.threshold for job in wanted], [_budget(job.limits) for job in wanted]
    results = engine.classify(images, thresholds, limits) if images else []
    for result, place, decoded_pixels, took in zip(results, places, pixels, decode_ms, strict=True):
        started = time.perf_counter()
        job = jobs[place]
        if isinstance(result, budgets.Infeasible):
            answers[place] = Infeasible(result.macs_least, result.macs_dense)
            continue
        order = np.argsort(-result.probabilities, kind="stable")[: job.top_k]
        predictions = [(int(n), float(result.probabilities[n])) for n in order]
        importance = _importance(result.importance) if job.importance else None
        work = _work(result, decoded_pixels, decode_ms=took, encode_ms=_since(started))
        answers[place] = ClassifyAnswer(work, predictions, importance)
    return [answer for answer in answers if answer is not None]


def _super_resolve(engine: Engine, job: SuperResolveJob) -> Answer:
    started = time.perf_counter()
    decoded = decode(job.body, max_pixels=job.max_pixels)
    width, height = decoded.rgb.size
    check_output(SCALE * width, SCALE * height, job.format, job.max_output_pixels)
    pixels = np.array(visible_colours(decoded), dtype=np.uint8)  # a copy: torch warns of read-only views
    decode_ms = _since(started)
    result = engine.upscale(pixels, job.threshold, _budget(job.limits))
    if isinstance(result, budgets.Infeasible):
        return Infeasible(result.macs_least, result.macs_dense)
    started = time.perf_counter()
    if result.image.shape != (SCALE * height, SCALE * width, 3):
        raise RuntimeError(f"{width}x{height} came back as {result.image.shape}")
    body = encode(result.image, decoded, job.format, job.quality)
    importance = _importance(result.importance) if job.importance else None
    work = _work(result, decoded.pixels, decode_ms=decode_ms, encode_ms=_since(started))
    return SuperResolveAnswer(work, body, job.format, SCALE * width, SCALE * height, importance)


def _work(outcome: Outcome, pixels: int, *, decode_ms: float, encode_ms: float) -> Work:
    return Work(
        threshold=float(outcome.threshold),
        macs_dense=int(outcome.macs_dense),
        macs_executed=int(outcome.macs_executed),
        active_share=float(outcome.active_share),
        pixels=pixels,
        timings=Timings(decode_ms, float(outcome.importance_ms), float(outcome.infer_ms), encode_ms),
        macs_curve=outcome.macs_curve,
        importance_histogram=budgets.histogram(outcome.importance),
    )


def _budget(limits: CostLimits) -> Budget:
    return Budget(limits.macs_ratio, limits.target_macs, limits.active_share)


def _importance(values: Floats) -> ImportanceMap:
    height, width = values.shape
    # Nine decimals keep float32 values apart: whoever compares them to a threshold finds the cells that ran.
    rounded = np.round(values.astype(np.float64), 9).tolist()
    return ImportanceMap(int(height), int(width), rounded)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
