"""ResNet-18 on CUDA: stem and importance through torch, the four stages on the sparse kernels without a host sync.

The interface is that of `models.inference.resnet18.SparseResNet18`; `classify` does the whole way on the device, so
that a CUDA graph can capture it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import counting
from models.calibration import Calibration
from models.images import DEVIATION, MEAN
from models.inference.dense import frozen_copy, rows_of
from models.inference.device import to_device, whole_table
from models.inference.resnet18 import ClassifyRun
from models.networks.resnet18 import BasicBlock, ResNet18, stage_scores, stage_sizes
from native import ops


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


class DeviceResNet18:
    """Inference of a trained `ResNet18`; equal to it within rounding at every threshold."""

    def __init__(
        self, model: ResNet18, dtype: torch.dtype, device: torch.device, isa: str | None = None
    ) -> None:
        self.shape = model.shape
        self.dtype = dtype
        self.device = device
        self._isa = isa
        self._mean = 255 * torch.tensor(MEAN, device=device)
        self._scale = 1 / (255 * torch.tensor(DEVIATION, device=device))
        self._conv1 = frozen_copy(model.conv1, dtype).to(device)
        self._importance = frozen_copy(model.importance, dtype).to(device)
        self._fc = frozen_copy(model.fc, torch.float32).to(device)
        self._stages = [[self._pack_block(block) for block in stage] for stage in model.stages]

    def fixed_macs(self, height: int, width: int) -> int:
        """MACs of an image of this size that no threshold saves, importance included."""
        shape = self.shape
        return counting.resnet18_always(height, width, shape.classes) + counting.resnet18_importance(
            height, width, shape.importance_channels, shape.window
        )

    @torch.inference_mode()
    def stem(self, pixels: Tensor) -> Tensor:
        """uint8 RGB [N, H, W, 3], from anywhere, to features [N, 64, h, w] on the device."""
        x = to_device(pixels, self.device).float().sub_(self._mean).mul_(self._scale)
        x = x.permute(0, 3, 1, 2).to(dtype=self.dtype, memory_format=torch.channels_last)
        return F.relu_(F.max_pool2d(self._conv1(x), 3, 2, 1))

    @torch.inference_mode()
    def window_logits(self, stem: Tensor) -> Tensor:
        """float32 [N, 1, ceil(h / window), ceil(w / window)], on the device."""
        logits: Tensor = self._importance(stem)
        return logits.float()

    @torch.inference_mode()
    def run(
        self, stem: Tensor, importance: Tensor, thresholds: Tensor, input_size: tuple[int, int]
    ) -> ClassifyRun:
        """See `SparseResNet18.run`; importance and thresholds may be in the host's memory, the logits are."""
        importance, thresholds = to_device(importance, self.device), to_device(thresholds, self.device)
        logits, counts = self._run(stem, importance, thresholds)
        active = counts.tolist()
        sizes = stage_sizes(*stem.shape[-2:])
        cells = sum(h * w for h, w in sizes)
        macs, shares = [], []
        for image in range(len(stem)):
            of_stages = [stage[image] for stage in active]
            executed = sum(count * counting.resnet18_cell(stage) for stage, count in enumerate(of_stages))
            macs.append(self.fixed_macs(*input_size) + executed)
            shares.append(sum(of_stages) / cells)
        return ClassifyRun(logits.cpu(), macs, shares)

    @torch.inference_mode()
    def classify(self, pixels: Tensor, thresholds: Tensor, calibrate: Calibration) -> Classified:
        """The whole way on the device, which the host does not wait for.

        Args:
            pixels: uint8 RGB [N, H, W, 3].
            thresholds: float32 [N], on the device: each image's own.
            calibrate: on the device.
        """
        stem = self.stem(pixels)
        importance = calibrate(self.window_logits(stem))
        logits, counts = self._run(stem, importance, thresholds)
        return Classified(logits, importance, counts)

    def _run(self, stem: Tensor, importance: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the active cells of each stage and image."""
        count, _, height, width = stem.shape
        trunk = rows_of(stem)
        sizes = stage_sizes(height, width)
        scores = stage_scores(importance, self.shape.window, height, width)
        counts = []
        for index, blocks in enumerate(self._stages):
            active, of_images = ops.plan_padded(scores[index][:, 0].contiguous(), thresholds, keep_best=True)
            trunk = self._run_stage(blocks, trunk, active, count, sizes[max(index - 1, 0)], sizes[index])
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

    def _pack_block(self, block: BasicBlock) -> DeviceBlock:
        def pack(conv: nn.Conv2d, relu: bool) -> ops.PackedWeight:
            slope = torch.zeros(conv.out_channels) if relu else None
            return ops.prepack_weight(
                conv.weight, conv.bias, slope, dtype=self.dtype, device=self.device, isa=self._isa
            )

        downsample = block.downsample
        return DeviceBlock(
            pack(block.conv1, relu=True),
            pack(block.conv2, relu=True),
            None if downsample is None else pack(downsample, relu=False),
        )
