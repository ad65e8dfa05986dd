"""The classifier on CUDA: base, stem and importance through torch, the four stages on the sparse kernels, no host sync.

The interface is that of `pixeltier.models.inference.classification.SparseClassification`; `classify` does the whole
way on the device, so that a CUDA graph can capture it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.calibration import Calibration
from pixeltier.models.images import DEVIATION, MEAN
from pixeltier.models.inference.classification import ClassificationCosts, RefinementPlan, combined
from pixeltier.models.inference.dense import frozen_copy, rows_of
from pixeltier.models.inference.device import to_device, whole_table
from pixeltier.models.inference.efficientnet_lite import BaseAnswer, TorchEfficientNetLite
from pixeltier.models.inference.resnet18 import RefinementRun
from pixeltier.models.networks.classification import Classification, window_grid
from pixeltier.models.networks.resnet18 import FUSED_STAGE, BasicBlock, stage_scores, stage_sizes
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class DeviceBlock:
    """A residual block's weights in the kernels' layout; `downsample` where the block strides."""

    conv1: ops.PackedWeight
    conv2: ops.PackedWeight
    downsample: ops.PackedWeight | None


@dataclass(frozen=True, slots=True)
class Classified:
    """float32 logits [N, classes], importance [N, 1, h, w], active cells int32 [stages, N]: on the device."""

    logits: Tensor
    importance: Tensor
    counts: Tensor


class DeviceClassification(ClassificationCosts):
    """Inference of a trained `Classification`; equal to it within rounding at every threshold."""

    def __init__(
        self, model: Classification, dtype: torch.dtype, device: torch.device, isa: str | None = None
    ) -> None:
        super().__init__(model)
        self.dtype = dtype
        self.device = device
        self._isa = isa
        self._base_network = TorchEfficientNetLite(model.base, dtype, device)
        self._importance = frozen_copy(model.importance, torch.float32).to(device)
        self._classes = model.base.fc.weight.detach().to(device)
        self._combination = frozen_copy(model.combination, torch.float32).to(device)
        refinement = model.refinement
        self._mean = 255 * torch.tensor(MEAN, device=device)
        self._scale = 1 / (255 * torch.tensor(DEVIATION, device=device))
        self._conv1 = frozen_copy(refinement.conv1, dtype).to(device)
        self._fuse = None if refinement.fuse is None else self._pack(refinement.fuse, relu=True)
        self._fc = frozen_copy(refinement.fc, torch.float32).to(device)
        self._stages = [[self._pack_block(block) for block in stage] for stage in refinement.stages]

    def base(self, pixels: Tensor) -> BaseAnswer:
        """The base on uint8 RGB [N, H, W, 3], from anywhere; the answer is on the device."""
        return self._base_network(pixels)

    @torch.inference_mode()
    def window_logits(self, answer: BaseAnswer, height: int, width: int) -> Tensor:
        """float32 [N, 1, h, w] of images of height x width, on the device."""
        grid = window_grid(height, width, self.shape.window)
        logits: Tensor = self._importance(answer.logits, answer.features, self._classes, grid)
        return logits

    @torch.inference_mode()
    def refine(self, pixels: Tensor, answer: BaseAnswer, plan: RefinementPlan) -> RefinementRun:
        """The refinement of the images of a plan; the logits are in the host's memory."""
        chosen = plan.select(pixels)
        context = plan.rows_of(answer.context)
        importance, thresholds = (to_device(t, self.device) for t in (plan.importance, plan.thresholds))
        logits, counts = self._refine(chosen, context, importance, thresholds)
        active = counts.tolist()
        size = (pixels.shape[1], pixels.shape[2])
        cells = sum(h * w for h, w in counting.resnet18_stage_sizes(*size))
        macs, shares = [], []
        for image in range(len(chosen)):
            of_stages = [stage[image] for stage in active]
            executed = sum(count * counting.resnet18_cell(stage) for stage, count in enumerate(of_stages))
            macs.append(self.image_macs(*size) + executed)
            shares.append(sum(of_stages) / cells)
        return RefinementRun(logits.cpu(), macs, shares)

    @torch.inference_mode()
    def combine(self, answer: BaseAnswer, plan: RefinementPlan, run: RefinementRun | None) -> Tensor:
        """See `SparseClassification.combine`; in the host's memory."""
        logits = answer.logits
        if run is not None:
            run = RefinementRun(to_device(run.logits, self.device), run.macs, run.active_share)
        return combined(self.shape, self._combination, logits, plan, run).cpu()

    @torch.inference_mode()
    def classify(self, pixels: Tensor, thresholds: Tensor, calibrate: Calibration) -> Classified:
        """The whole way on the device, which the host does not wait for.

        Every image goes through the refinement's stem: which ones need not, only the device knows.

        Args:
            pixels: uint8 RGB [N, H, W, 3].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        height, width = pixels.shape[1:3]
        answer = self.base(pixels)
        importance = calibrate(self.window_logits(answer, height, width))
        refined, counts = self._refine(pixels, answer.context, importance, thresholds)
        cells = sum(h * w for h, w in counting.resnet18_stage_sizes(height, width))
        logits = refined
        if self.shape.base_answers:
            logits = self._combination(answer.logits, refined, counts.sum(0) / cells)
        return Classified(logits, importance, counts)

    def _stem(self, pixels: Tensor) -> Tensor:
        x = to_device(pixels, self.device).float().sub_(self._mean).mul_(self._scale)
        x = x.permute(0, 3, 1, 2).to(dtype=self.dtype, memory_format=torch.channels_last)
        return F.relu_(F.max_pool2d(self._conv1(x), 3, 2, 1))

    def _refine(
        self, pixels: Tensor, context: Tensor, importance: Tensor, thresholds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The refinement's logits and the active cells of each stage and image."""
        stem = self._stem(pixels)
        count, _, height, width = stem.shape
        trunk = rows_of(stem)
        sizes = stage_sizes(height, width)
        scores = stage_scores(importance, self.shape.window, height, width)
        keep_best = not self.shape.base_answers
        counts = []
        for index, blocks in enumerate(self._stages):
            active, of_images = ops.plan_padded(
                scores[index][:, 0].contiguous(), thresholds, keep_best=keep_best
            )
            trunk = self._run_stage(blocks, trunk, active, count, sizes[max(index - 1, 0)], sizes[index])
            if index == FUSED_STAGE and self._fuse is not None:
                every = whole_table(count, *sizes[index], 1, device=self.device)
                trunk, _ = ops.sparse_conv2d(context, every, self._fuse, residual=trunk)
            counts.append(of_images)
        rows, columns = sizes[-1]
        pooled = trunk[:-1].view(count, rows * columns, -1).float().mean(dim=1)
        return self._fc(pooled), torch.stack(counts)

    def _run_stage(
        self,
        blocks: list[DeviceBlock],
        trunk: Tensor,
        active: Tensor,
        count: int,
        source: tuple[int, int],
        target: tuple[int, int],
    ) -> Tensor:
        """One stage on its active cells; returns the new trunk."""
        packed = ops.packed_table(active, count, *target, 3)
        in_place = ops.dense_table(active, count, *target, 3)
        for block in blocks:
            if block.downsample is None:
                inner, _ = ops.sparse_conv2d(trunk, in_place, block.conv1)
            else:
                every = whole_table(count, *source, 1, 2, device=self.device)
                identity, _ = ops.sparse_conv2d(trunk, every, block.downsample)
                strided = ops.dense_table(active, count, *source, 3, 2)
                inner, _ = ops.sparse_conv2d(trunk, strided, block.conv1)
                trunk = identity
            ops.sparse_conv2d_scatter_(trunk, inner, packed, block.conv2, active)
            if block.downsample is not None:
                trunk.clamp_(min=0)
        return trunk

    def _pack(self, conv: nn.Conv2d, relu: bool) -> ops.PackedWeight:
        slope = torch.zeros(conv.out_channels) if relu else None
        return ops.prepack_weight(
            conv.weight, conv.bias, slope, dtype=self.dtype, device=self.device, isa=self._isa
        )

    def _pack_block(self, block: BasicBlock) -> DeviceBlock:
        downsample = block.downsample
        return DeviceBlock(
            self._pack(block.conv1, relu=True),
            self._pack(block.conv2, relu=True),
            None if downsample is None else self._pack(downsample, relu=False),
        )
