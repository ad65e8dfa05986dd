"""The classifier: the base on every image, the refinement on those that have an active window."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixeltier.models import counting
from pixeltier.models.calibration import Calibration
from pixeltier.models.cards import FeatureRanges
from pixeltier.models.inference.backend import Backend, CpuBackend
from pixeltier.models.inference.dense import frozen_copy
from pixeltier.models.inference.efficientnet_lite import (
    BaseAnswer,
    NativeEfficientNetLite,
    TorchEfficientNetLite,
    float_layers,
)
from pixeltier.models.inference.resnet18 import SparseResNet18
from pixeltier.models.networks.classification import (
    DOUBT_CLASSES,
    DOUBT_HIDDEN,
    ClassificationNetwork,
    window_grid,
)
from pixeltier.models.networks.efficientnet_lite import HEAD_CHANNELS, EfficientNetLite
from pixeltier.models.quantization import output_unit, quantize


class ClassificationCosts:
    """MACs of the classifier by the counting rule."""

    def __init__(self, model: ClassificationNetwork) -> None:
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


@dataclass(frozen=True, slots=True)
class RefinementRun:
    """Logits [M, classes] of the images that were refined, where the backend computes; and what each of them cost."""

    logits: Tensor
    macs: list[int]
    active_share: list[float]


@dataclass(frozen=True, slots=True)
class Classified:
    """float32 logits [N, classes], importance [N, 1, h, w], active cells int32 [stages, N]: on the backend's device."""

    logits: Tensor
    importance: Tensor
    counts: Tensor


class SparseClassification(ClassificationCosts):
    """Inference of a trained `ClassificationNetwork`; equal to it within rounding at every threshold.

    Args:
        int8: ranges of the base's features, for a base in int8; on the processor only.
    """

    def __init__(
        self, model: ClassificationNetwork, backend: Backend, int8: FeatureRanges | None = None
    ) -> None:
        super().__init__(model)
        self._backend = backend
        self._base_network = _base_network(model.base, backend, int8)
        self._importance = frozen_copy(model.importance, torch.float32).to(backend.device)
        self._classes = backend.put(model.base.fc.weight.detach())
        keep_best = not model.shape.base_answers
        self._refinement = SparseResNet18(model.refinement, backend, model.shape.window, keep_best)
        self._combination = frozen_copy(model.combination, torch.float32).to(backend.device)

    def base(self, pixels: Tensor) -> BaseAnswer:
        """The base on uint8 RGB [N, H, W, 3], from anywhere."""
        return self._base_network(pixels)

    @torch.inference_mode()
    def window_logits(self, answer: BaseAnswer, height: int, width: int) -> Tensor:
        """float32 [N, 1, h, w] of images of height x width."""
        grid = window_grid(height, width, self.shape.window)
        logits: Tensor = self._importance(answer.logits, answer.features, self._classes, grid)
        return logits

    @torch.inference_mode()
    def refine(self, pixels: Tensor, answer: BaseAnswer, plan: RefinementPlan) -> RefinementRun:
        """The refinement of the images of a plan."""
        context = plan.rows_of(answer.context) if self.shape.context else None
        importance, thresholds = self._backend.put(plan.importance), self._backend.put(plan.thresholds)
        refined = self._refinement(plan.select(pixels), context, importance, thresholds)
        size = (pixels.shape[1], pixels.shape[2])
        cells = sum(h * w for h, w in counting.resnet18_stage_sizes(*size))
        of_images = list(zip(*refined.counts.tolist(), strict=True))
        once = self.image_macs(*size)
        macs = [
            once + sum(count * counting.resnet18_cell(stage) for stage, count in enumerate(counts))
            for counts in of_images
        ]
        return RefinementRun(refined.logits, macs, [sum(counts) / cells for counts in of_images])

    @torch.inference_mode()
    def combine(self, answer: BaseAnswer, plan: RefinementPlan, run: RefinementRun | None) -> Tensor:
        """Logits of all images, float32 [N, classes], in the host's memory: the base's own where none was refined."""
        base = answer.logits
        share, refined = base.new_zeros(len(base)), base
        if run is not None:
            if not self.shape.base_answers:
                return run.logits.cpu()
            refined = base.clone()
            refined[plan.places] = run.logits
            share[plan.places] = share.new_tensor(run.active_share)
        combined: Tensor = self._combination(base, refined, share)
        return combined.cpu()

    @torch.inference_mode()
    def classify(self, pixels: Tensor, thresholds: Tensor, calibrate: Calibration) -> Classified:
        """The whole way without waiting for a GPU, so that a CUDA graph can capture it.

        Every image goes through the refinement's stem: which ones need not, only the device knows.

        Args:
            pixels: uint8 RGB [N, H, W, 3].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        height, width = pixels.shape[1:3]
        answer = self.base(pixels)
        importance = calibrate(self.window_logits(answer, height, width))
        context = answer.context if self.shape.context else None
        refined = self._refinement(pixels, context, importance, thresholds)
        logits = refined.logits
        if self.shape.base_answers:
            cells = sum(h * w for h, w in counting.resnet18_stage_sizes(height, width))
            logits = self._combination(answer.logits, logits, refined.counts.sum(0) / cells)
        return Classified(logits, importance, refined.counts)


def _base_network(
    base: EfficientNetLite, backend: Backend, int8: FeatureRanges | None
) -> NativeEfficientNetLite | TorchEfficientNetLite:
    if not isinstance(backend, CpuBackend):
        return TorchEfficientNetLite(base, backend.dtype, backend.device)
    block = base.shape.context_block
    if int8 is None:
        return NativeEfficientNetLite(float_layers(base), block, backend.dtype)
    return NativeEfficientNetLite(quantize(base, int8), block, backend.dtype, output_unit(int8, block))
