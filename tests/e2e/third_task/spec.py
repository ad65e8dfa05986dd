"""Mean colour: what an image looks like from far away."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from pixeltier.service.catalogue import Catalogue
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.task_specs.spec import Asked, Goal, Prior, TaskSpec
from pixeltier.service.task_specs.tensor import Tensor, TensorShape
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import RequestAnswer, RequestJob


class MeanColourParameters(BaseModel):
    """What is asked."""

    scale: Annotated[int, Field(ge=1, le=255, description="What white is.")] = 255


@dataclass(frozen=True, kw_only=True)
class MeanColourJob(RequestJob):
    """What a worker is given."""

    task = Task("mean-colour")

    scale: int


@dataclass(frozen=True, kw_only=True)
class MeanColourAnswer(RequestAnswer):
    """What it gives back: red, green, blue."""

    colour: tuple[float, ...]


class MeanColourResult(BaseModel):
    """The JSON of the answer."""

    colour: list[float]


class MeanColourSpec(TaskSpec[MeanColourParameters, MeanColourAnswer]):
    """See the module."""

    task = Task("mean-colour")
    summary = "Tell an image's mean colour"
    description = "The mean of each channel."
    parameters = MeanColourParameters
    result = MeanColourResult
    outputs = (TensorShape("colour", "FP32", (1, 3)),)
    prior = Prior(empty_ms=1.0, unit_ms=1.0, job_ms=0.5, gmac_ms=1.0, megapixel_ms=5.0)
    per_pixel = True
    batched = False
    compared_pixels = 1 << 20
    goals: ClassVar = {"max_colour_error": Goal("colour", "Goal: be wrong by at most this much.")}

    def max_pixels(self, settings: Settings) -> int:
        """See TaskSpec."""
        return settings.classify_max_pixels

    def job(self, asked: Asked, parameters: MeanColourParameters, settings: Settings) -> MeanColourJob:
        """See TaskSpec."""
        return MeanColourJob(
            body=asked.body,
            threshold=asked.threshold,
            max_pixels=self.max_pixels(settings),
            importance=asked.importance,
            limits=asked.limits,
            scale=parameters.scale,
        )

    def document(self, answer: MeanColourAnswer, catalogue: Catalogue) -> MeanColourResult:
        """See TaskSpec."""
        del catalogue
        return MeanColourResult(colour=list(answer.colour))

    def tensors(
        self, answer: MeanColourAnswer, parameters: MeanColourParameters, catalogue: Catalogue
    ) -> list[Tensor]:
        """See TaskSpec."""
        del parameters, catalogue
        return [Tensor("colour", "FP32", [1, 3], list(answer.colour))]
