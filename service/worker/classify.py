"""Classify jobs in a worker."""

import time
from collections.abc import Sequence

import numpy as np

from pixeltier.models.images import classify_input
from pixeltier.models.outcome import UNLIMITED, Infeasible
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import (
    Answer,
    ClassifyAnswer,
    ClassifyJob,
    CompareAnswer,
    CompareJob,
    Rejected,
)
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
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


class ClassifyRunner(Runner[ClassifyJob, ClassifyAnswer]):
    """See the module."""

    task = Task.CLASSIFY

    def run(self, engine: Engine, jobs: Sequence[ClassifyJob], advance: Advance) -> list[Answer]:
        """See Runner; the jobs run as one batch, which has no parts."""
        del advance
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
            decode_ms.append(ms_since(started))
        wanted = [jobs[place] for place in places]
        thresholds, limits = [job.threshold for job in wanted], [job.limits for job in wanted]
        results = engine.classify(images, thresholds, limits) if images else []
        for result, place, decoded_pixels, took in zip(results, places, pixels, decode_ms, strict=True):
            started = time.perf_counter()
            job = jobs[place]
            if isinstance(result, Infeasible):
                answers[place] = result
                continue
            order = np.argsort(-result.probabilities, kind="stable")[: job.top_k]
            predictions = [(int(n), float(result.probabilities[n])) for n in order]
            importance = importance_of(result.importance) if job.importance else None
            work = work_of(result, decoded_pixels, decode_ms=took, encode_ms=ms_since(started))
            answers[place] = ClassifyAnswer(work=work, importance=importance, predictions=predictions)
        return [answer for answer in answers if answer is not None]

    def compare(self, engine: Engine, job: CompareJob) -> CompareAnswer:
        """See Runner."""
        image = classify_input(flatten(decode(job.body, max_pixels=job.max_pixels, reduce=True)))
        served, candidate = (
            feasible(one)
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

    def likeness(self, first: ClassifyAnswer, second: ClassifyAnswer) -> Likeness:
        """See Runner."""
        return Likeness(agrees=first.predictions[0][0] == second.predictions[0][0])

    def check(self, engine: Engine) -> None:
        """See Runner."""
        for threshold in (0.0, 0.5):
            result = feasible(engine.classify([ramp()], [threshold], [UNLIMITED])[0])
            total = float(result.probabilities.sum())
            if not np.isfinite(result.probabilities).all() or abs(total - 1.0) > 1e-2:
                raise RuntimeError(
                    f"self-check: classify at {threshold} gives probabilities that sum to {total}"
                )
