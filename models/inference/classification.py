"""The classifier on native kernels: the base on every image, the refinement on those that have an active window."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixeltier.models import counting
from pixeltier.models.cards import FeatureRanges
from pixeltier.models.inference.dense import frozen_copy
from pixeltier.models.inference.efficientnet_lite import BaseAnswer, NativeEfficientNetLite, float_layers
from pixeltier.models.inference.resnet18 import RefinementRun, SparseResNet18
from pixeltier.models.networks.classification import (
    DOUBT_CLASSES,
    DOUBT_HIDDEN,
    Classification,
    ClassificationShape,
    Combination,
    window_grid,
)
from pixeltier.models.networks.efficientnet_lite import HEAD_CHANNELS
from pixeltier.models.quantization import output_unit, quantize


class ClassificationCosts:
    """MACs of the classifier by the counting rule."""

    def __init__(self, model: Classification) -> None:
        self.shape = model.shape
        self._base = model.base.shape

    def base_macs(self, height: int, width: int) -> int:
        """What every image of this size takes: the base and its importance map."""
        cells = -(-height // 32) * -(-width // 32)
        evidence = counting.class_evidence(
            cells, HEAD_CHANNELS, self._base.classes, DOUBT_CLASSES, DOUBT_HIDDEN
        )
        return self._base.macs(height, width) + evidence

    def image_macs(self, height: int, width: int) -> int:
        """What the refinement takes beside its active cells, where an image has any."""
        context = self.shape.refinement.context_channels
        return counting.resnet18_image(height, width, self.shape.classes, context)

    def dense_macs(self, height: int, width: int) -> int:
        """The reference: the plain ResNet-18."""
        return counting.resnet18_dense(height, width, self.shape.classes)


@dataclass(frozen=True, slots=True)
class RefinementPlan:
    """Which images of a batch are refined, and where.

    places: their numbers; importance: float32 [M, 1, h, w] and thresholds: [M], of these images.
    """

    batch: int
    places: list[int]
    importance: Tensor
    thresholds: Tensor

    @classmethod
    def of(cls, importance: Tensor, thresholds: Tensor, refine_all: bool) -> "RefinementPlan":
        """The images that have an active window, or all."""
        active = (importance.flatten(1) >= thresholds[:, None]).any(1)
        places = [index for index, needed in enumerate(active.tolist()) if needed or refine_all]
        return cls(len(importance), places, importance[places], thresholds[places])

    def select(self, values: Tensor) -> Tensor:
        """The refined images' part of a tensor [N, ...]."""
        return values if len(self.places) == self.batch else values[self.places]

    def rows_of(self, rows: Tensor) -> Tensor:
        """Their part of rows [N * cells + 1, C], with the zero row."""
        if len(self.places) == self.batch:
            return rows
        kept = rows[:-1].view(self.batch, -1, rows.shape[1])[self.places].flatten(0, 1)
        return F.pad(kept, (0, 0, 0, 1))


class SparseClassification(ClassificationCosts):
    """Inference of a trained `Classification` on the processor; equal to it within rounding at every threshold.

    Args:
        dtype: of the refinement.
        int8: ranges of the base's features, for a base in int8.
    """

    def __init__(self, model: Classification, dtype: torch.dtype, int8: FeatureRanges | None = None) -> None:
        super().__init__(model)
        block = model.base.shape.context_block
        self._base_network = (
            NativeEfficientNetLite(float_layers(model.base), block, dtype)
            if int8 is None
            else NativeEfficientNetLite(quantize(model.base, int8), block, dtype, output_unit(int8, block))
        )
        self._importance = frozen_copy(model.importance, torch.float32)
        self._classes = model.base.fc.weight.detach()
        keep_best = not model.shape.base_answers
        self._refinement = SparseResNet18(model.refinement, dtype, model.shape.window, keep_best)
        self._combination = frozen_copy(model.combination, torch.float32)

    def base(self, pixels: Tensor) -> BaseAnswer:
        """The base on uint8 RGB [N, H, W, 3]."""
        return self._base_network(pixels)

    @torch.inference_mode()
    def window_logits(self, answer: BaseAnswer, height: int, width: int) -> Tensor:
        """float32 [N, 1, h, w] of images of height x width."""
        grid = window_grid(height, width, self.shape.window)
        logits: Tensor = self._importance(answer.logits, answer.features, self._classes, grid)
        return logits

    def refine(self, pixels: Tensor, answer: BaseAnswer, plan: RefinementPlan) -> RefinementRun:
        """The refinement of the images of a plan."""
        context = plan.rows_of(answer.context) if self.shape.context else None
        return self._refinement(plan.select(pixels), context, plan.importance, plan.thresholds)

    @torch.inference_mode()
    def combine(self, answer: BaseAnswer, plan: RefinementPlan, run: RefinementRun | None) -> Tensor:
        """Logits of all images, float32 [N, classes]: the base's own where nothing was refined."""
        return combined(self.shape, self._combination, answer.logits, plan, run)


def combined(
    shape: ClassificationShape,
    combination: Combination,
    base: Tensor,
    plan: RefinementPlan,
    run: RefinementRun | None,
) -> Tensor:
    """The base's logits [N, classes] and those of the images that were refined as one answer, float32 [N, classes]."""
    share, refined = base.new_zeros(len(base)), base
    if run is not None:
        if not shape.base_answers:
            return run.logits
        refined = base.clone()
        refined[plan.places] = run.logits
        share[plan.places] = share.new_tensor(run.active_share)
    answer: Tensor = combination(base, refined, share)
    return answer
