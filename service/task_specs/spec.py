"""The description of a task: what is asked, what a job and its answer are, what is known of it before the first job."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel

from pixeltier.models.outcome import CostLimits
from pixeltier.service.catalogue import Catalogue
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.task_specs.tensor import Tensor, TensorShape
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import ImportanceMap, RequestAnswer, RequestJob

Parameters = TypeVar("Parameters", bound=BaseModel)
Answer = TypeVar("Answer", bound=RequestAnswer)

IMPORTANCE = TensorShape("importance", "FP32", (-1, -1))
"""The output that every task has where a request includes it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job of any task holds."""

    body: bytes
    threshold: float
    importance: bool
    limits: CostLimits


@dataclass(frozen=True, slots=True)
class Prior:
    """First guesses of how long a job takes, in milliseconds. Rather too short than too long: what is refused teaches
    nothing.

    Attributes:
        empty_ms, unit_ms: before the image is decoded, at no pixels and at 256 x 256.
        job_ms, gmac_ms, megapixel_ms: once its MACs are known: for a job, 1e9 MACs, and 1e6 pixels.
    """

    empty_ms: float
    unit_ms: float
    job_ms: float
    gmac_ms: float
    megapixel_ms: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What an operator may demand of a tier instead of a threshold: a bound on a metric of the model card's curve.

    Attributes:
        relative: whether it bounds the loss against threshold 0, not the metric itself.
        most: the largest bound that makes sense.
    """

    metric: str
    description: str
    relative: bool = True
    most: float = 1.0


class TaskSpec(ABC, Generic[Parameters, Answer]):
    """One task. A subclass describes it; `registry.SPECS` lists them.

    Attributes:
        parameters: what only this task is asked, with defaults; every task's own are in `service.api.parameters`.
        result: the JSON of an answer, besides what every answer says.
        outputs: tensors of the Open Inference Protocol, `importance` aside.
        classified: the output that its classification extension applies to.
        per_pixel: whether a job's time grows with the image's pixels.
        batched: whether jobs may run together.
        compared_pixels: the largest image that the shadow compares.
        goals: by the names that the tier table gives them.
    """

    task: ClassVar[Task]
    summary: ClassVar[str]
    description: ClassVar[str]
    result: ClassVar[type[BaseModel]]
    outputs: ClassVar[tuple[TensorShape, ...]]
    classified: ClassVar[str | None] = None
    prior: ClassVar[Prior]
    per_pixel: ClassVar[bool]
    batched: ClassVar[bool]
    compared_pixels: ClassVar[int]
    goals: ClassVar[Mapping[str, Goal]]

    @property
    @abstractmethod
    def parameters(self) -> type[Parameters]:
        """See the class."""

    @property
    def route(self) -> str:
        """Where `/v1` serves it."""
        return f"/v1/{self.task.value}"

    @abstractmethod
    def max_pixels(self, settings: Settings) -> int:
        """The largest image that is taken."""

    @abstractmethod
    def job(self, asked: Asked, parameters: Parameters, settings: Settings) -> RequestJob:
        """What a worker is given."""

    def answer_bytes_most(self, pixels: int) -> int:
        """What the answer to an image of so many pixels may take, in any form; enough for one without an image."""
        del pixels
        return 256 * 1024

    @abstractmethod
    def document(self, answer: Answer, catalogue: Catalogue) -> BaseModel:
        """The answer as `result`."""

    @abstractmethod
    def tensors(self, answer: Answer, parameters: Parameters, catalogue: Catalogue) -> list[Tensor]:
        """The answer as `outputs`."""

    def naming(self, parameters: Parameters, classes: int) -> Parameters:
        """The parameters of a job whose answer names at least so many classes."""
        del classes
        return parameters

    def classification(self, answer: Answer, count: int, catalogue: Catalogue) -> Sequence[str]:
        """The best classes as `value:index:label`; none where the task has no `classified` output."""
        del answer, count, catalogue
        return ()


def importance_tensor(shown: ImportanceMap) -> Tensor:
    """A map as the output `importance`."""
    values = [value for row in shown.values for value in row]
    return Tensor(IMPORTANCE.name, IMPORTANCE.datatype, [shown.height, shown.width], values)
