"""ResNet-18 on sparse kernels: a dense trunk addressed in place, residual branches on active cells only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pixeltier.models import counting
from pixeltier.models.inference.backend import ActiveCells, Backend
from pixeltier.models.inference.dense import frozen_copy, rows_of
from pixeltier.models.networks.resnet18 import FUSED_STAGE, BasicBlock, ResNet18, stage_scores, stage_sizes
from pixeltier.native import ops

TILED_STAGES = 3
"""The last stage has 512 channels and few cells: reading Winograd's larger weights costs what it saves."""


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """A residual block's weights in the kernels' layouts; `downsample` where the block strides.

    Convolutions of stride 1 are there for tiles, too, where that pays.
    """

    conv1: ops.PackedWeight
    conv2: ops.PackedWeight
    downsample: ops.PackedWeight | None
    tiled_conv1: ops.PackedWeight | None
    tiled_conv2: ops.PackedWeight | None

    def layers(self, tiled: bool) -> tuple[ops.PackedWeight, ops.PackedWeight]:
        """Both convolutions; a strided first one never runs in tiles."""
        if not tiled:
            return self.conv1, self.conv2
        return self.tiled_conv1 or self.conv1, self.tiled_conv2 or self.conv2


@dataclass(frozen=True, slots=True)
class RefinedAnswer:
    """Logits [N, classes], and active cells int32 [stages, N]."""

    logits: Tensor
    counts: Tensor


class SparseResNet18:
    """Inference of a trained `ResNet18`; equal to it within rounding at every threshold.

    Args:
        window: cells of the stem's output grid along the side of a window of importance.
        keep_best: the best cell of each stage is active at any threshold.
    """

    def __init__(self, model: ResNet18, backend: Backend, window: int, keep_best: bool = False) -> None:
        self._backend = backend
        self._window = window
        self._keep_best = keep_best
        self._stem = backend.stem(model.conv1)
        self._fuse = None if model.fuse is None else backend.pack_relu(model.fuse)
        self._fc = frozen_copy(model.fc, torch.float32).to(backend.device)
        self._stages = [
            [_pack_block(block, backend, tiled=index < TILED_STAGES) for block in stage]
            for index, stage in enumerate(model.stages)
        ]

    @torch.inference_mode()
    def __call__(
        self, pixels: Tensor, context: Tensor | None, importance: Tensor, thresholds: Tensor
    ) -> RefinedAnswer:
        """Classify images of which each has an active window, or where that does not matter.

        Args:
            pixels: uint8 RGB [N, H, W, 3], from anywhere; all else is where the backend computes.
            context: the base's features as rows [N * ceil(H / 16) * ceil(W / 16) + 1, c] in the network's dtype, the
                last one zero; None where the network takes none in.
            importance: float32 [N, 1, h, w] of the windows, in [0, 1].
            thresholds: float32 [N], each image's own.
        """
        stem = self._stem(pixels)
        count, _, height, width = stem.shape
        trunk = rows_of(stem)
        sizes = stage_sizes(height, width)
        scores = stage_scores(importance, self._window, height, width)
        counts = []
        for index, blocks in enumerate(self._stages):
            active = self._backend.active(scores[index][:, 0].contiguous(), thresholds, self._keep_best)
            source = sizes[max(index - 1, 0)]
            trunk, executed = self._run_stage(blocks, trunk, active, count, source, sizes[index])
            if not active.padded and executed != active.cells.numel() * counting.resnet18_cell(index):
                raise RuntimeError("the kernels executed another number of MACs than the counting rule says")
            if index == FUSED_STAGE and self._fuse is not None and context is not None:
                where = self._backend.whole_map(count, *sizes[index], 1)
                trunk, _ = ops.sparse_conv2d(context, where, self._fuse, residual=trunk)
            counts.append(active.per_image)
        rows, columns = sizes[-1]
        pooled = trunk[:-1].view(count, rows * columns, -1).float().mean(dim=1)
        return RefinedAnswer(self._fc(pooled), torch.stack(counts))

    def _run_stage(
        self,
        blocks: list[PackedBlock],
        trunk: Tensor,
        active: ActiveCells,
        count: int,
        source: tuple[int, int],
        target: tuple[int, int],
    ) -> tuple[Tensor, int]:
        """One stage on its active cells: the new trunk and the MACs of the 3x3 convolutions."""
        strides, tiled = blocks[0].downsample is not None, blocks[0].tiled_conv2 is not None
        maps = self._backend.stage_maps(active, count, source, target, strides=strides, tiled=tiled)
        executed = 0
        for block in blocks:
            conv1, conv2 = block.layers(tiled=isinstance(maps.packed, ops.Tiles))
            if block.downsample is None:
                inner, macs = ops.sparse_conv2d(trunk, maps.in_place, conv1)
            else:
                if maps.strided is None:
                    raise RuntimeError("a block with a downsample needs a stage that strides")
                inner, macs = ops.sparse_conv2d(trunk, maps.strided, conv1)
                every = self._backend.whole_map(count, *source, 1, 2)
                trunk, _ = ops.sparse_conv2d(trunk, every, block.downsample)
            executed += macs
            executed += ops.sparse_conv2d_scatter_(trunk, inner, maps.packed, conv2, active.cells)
            if block.downsample is not None and not active.every:
                trunk.clamp_(min=0)
        return trunk, executed


def _pack_block(block: BasicBlock, backend: Backend, tiled: bool) -> PackedBlock:
    downsample = block.downsample
    tiled = tiled and backend.tiles
    return PackedBlock(
        backend.pack_relu(block.conv1),
        backend.pack_relu(block.conv2),
        None if downsample is None else backend.pack_conv(downsample),
        backend.pack_relu(block.conv1, tiled=True) if tiled and downsample is None else None,
        backend.pack_relu(block.conv2, tiled=True) if tiled else None,
    )
