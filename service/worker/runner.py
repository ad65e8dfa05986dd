"""What a worker must know of a task, and what all tasks share of it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Generic, TypeVar

import numpy as np

from pixeltier.models.outcome import Infeasible, Outcome
from pixeltier.models.results import Floats
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import (
    Answer,
    CompareAnswer,
    CompareJob,
    ImportanceMap,
    RequestAnswer,
    RequestJob,
    Work,
)
from pixeltier.service.worker.interface import Engine
from pixeltier.service.worker.progress import Advance

Job = TypeVar("Job", bound=RequestJob)
OwnAnswer = TypeVar("OwnAnswer", bound=RequestAnswer)
Result = TypeVar("Result", bound=Outcome)


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two answers for one image are; see CompareAnswer."""

    agrees: bool | None = None
    psnr_db: float | None = None
    ssim: float | None = None


class Runner(ABC, Generic[Job, OwnAnswer]):
    """One task in a worker. A subclass does its jobs; `runners.RUNNERS` lists them."""

    task: ClassVar[Task]

    @abstractmethod
    def run(self, engine: Engine, jobs: Sequence[Job], advance: Advance) -> list[Answer]:
        """Decode, infer, encode, each stage timed; a rejected image is an answer. Several jobs only where the task's
        description says `batched`.

        Raises:
            JobCancelledError: by `advance`, which a task calls whose jobs come in parts.
        """

    @abstractmethod
    def compare(self, engine: Engine, job: CompareJob) -> CompareAnswer:
        """Run an image at the served and at the candidate threshold.

        Raises:
            ImageRejectedError: the image is at fault.
        """

    @abstractmethod
    def likeness(self, first: OwnAnswer, second: OwnAnswer) -> Likeness:
        """How alike two answers for one image are, that of super-resolution as PNG."""

    @abstractmethod
    def check(self, engine: Engine) -> None:
        """Prove on a synthetic image, sparse and exact, that the model works; also pays every first-call cost.

        Raises:
            RuntimeError: says which number is wrong.
        """


def work_of(outcome: Outcome, pixels: int, *, decode_ms: float, encode_ms: float) -> Work:
    """What an image cost, without its arrays."""
    found = {field.name: getattr(outcome, field.name) for field in fields(Outcome)}
    return Work(**found, pixels=pixels, decode_ms=decode_ms, encode_ms=encode_ms)


def importance_of(values: Floats) -> ImportanceMap:
    """A map as plain numbers."""
    height, width = values.shape
    # Nine decimals keep float32 values apart: whoever compares them to a threshold finds the cells that ran.
    rounded = np.round(values.astype(np.float64), 9).tolist()
    return ImportanceMap(int(height), int(width), rounded)


def feasible(outcome: Result | Infeasible) -> Result:
    """The outcome of a job without a budget, which cannot be missed."""
    if isinstance(outcome, Infeasible):
        raise RuntimeError("a budget that nobody set was missed")
    return outcome


def ms_since(started: float) -> float:
    """Milliseconds since a `time.perf_counter()`."""
    return (time.perf_counter() - started) * 1000.0


def ramp() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A synthetic photo, uint8 [224, 224, 3]."""
    side = np.linspace(0, 255, 224, dtype=np.uint8)
    return np.stack(
        [np.tile(side, (224, 1)), np.tile(side[:, None], (1, 224)), np.full((224, 224), 128, np.uint8)], 2
    )
