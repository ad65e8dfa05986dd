"""Classification: what an image shows."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pixeltier.service.catalogue import Catalogue
from pixeltier.service.configuration.settings import Settings
from pixeltier.service.task_specs.spec import Asked, Goal, Prior, TaskSpec
from pixeltier.service.task_specs.tensor import Tensor, TensorShape
from pixeltier.service.tasks import Task
from pixeltier.service.work.messages import ClassifyAnswer, ClassifyJob

CLASSES = 1000


class ClassifyParameters(BaseModel):
    """What a classification is asked."""

    model_config = ConfigDict(frozen=True)

    top_k: Annotated[int, Field(ge=1, le=CLASSES, description="How many classes to name.")] = 5


class PredictedClass(BaseModel):
    """One class."""

    index: int = Field(description="ImageNet-1k class number.", examples=[281])
    label: str = Field(examples=["tabby"])
    probability: float = Field(examples=[0.53])


class ClassifyResult(BaseModel):
    """What a classification found."""

    predictions: list[PredictedClass] = Field(description="Best first.")


class ClassifySpec(TaskSpec[ClassifyParameters, ClassifyAnswer]):
    """See the module."""

    task = Task.CLASSIFY
    summary = "Name what an image shows"
    description = "Classify an image into the 1000 classes of ImageNet, at a tier or a threshold."
    parameters = ClassifyParameters
    result = ClassifyResult
    outputs = (
        TensorShape("labels", "BYTES", (1, -1)),
        TensorShape("indices", "INT32", (1, -1)),
        TensorShape("probabilities", "FP32", (1, -1)),
    )
    classified = "probabilities"
    prior = Prior(empty_ms=10.0, unit_ms=10.0, job_ms=0.5, gmac_ms=2.0, megapixel_ms=5.0)
    per_pixel = False  # every image is classified at one size; decoding is little beside it
    batched = True
    compared_pixels = 50_000_000
    goals: ClassVar = {
        "max_top1_drop": Goal("top1", "Goal: lose at most this much top-1."),
        "max_top5_drop": Goal("top5", "Goal: lose at most this much top-5."),
        "min_agreement": Goal(
            "agreement", "Goal: give the exact tier's first class at least this often.", relative=False
        ),
    }

    def max_pixels(self, settings: Settings) -> int:
        """See TaskSpec."""
        return settings.classify_max_pixels

    def job(self, asked: Asked, parameters: ClassifyParameters, settings: Settings) -> ClassifyJob:
        """See TaskSpec."""
        return ClassifyJob(
            body=asked.body,
            threshold=asked.threshold,
            top_k=parameters.top_k,
            importance=asked.importance,
            max_pixels=self.max_pixels(settings),
            limits=asked.limits,
        )

    def document(self, answer: ClassifyAnswer, catalogue: Catalogue) -> ClassifyResult:
        """See TaskSpec."""
        return ClassifyResult(
            predictions=[
                PredictedClass(index=index, label=catalogue.label(index), probability=probability)
                for index, probability in answer.predictions
            ]
        )

    def tensors(
        self, answer: ClassifyAnswer, parameters: ClassifyParameters, catalogue: Catalogue
    ) -> list[Tensor]:
        """See TaskSpec."""
        best = answer.predictions[: parameters.top_k]
        columns: tuple[Sequence[Any], ...] = (
            [catalogue.label(index) for index, _ in best],
            [index for index, _ in best],
            [probability for _, probability in best],
        )
        return [
            Tensor(output.name, output.datatype, [1, len(best)], values)
            for output, values in zip(self.outputs, columns, strict=True)
        ]

    def naming(self, parameters: ClassifyParameters, classes: int) -> ClassifyParameters:
        """See TaskSpec."""
        return ClassifyParameters(top_k=min(CLASSES, max(parameters.top_k, classes)))

    def classification(self, answer: ClassifyAnswer, count: int, catalogue: Catalogue) -> list[str]:
        """See TaskSpec."""
        return [f"{value:f}:{index}:{catalogue.label(index)}" for index, value in answer.predictions[:count]]
