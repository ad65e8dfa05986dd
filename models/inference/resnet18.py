"""ResNet-18 on sparse kernels: a dense trunk addressed in place, residual branches on active cells only."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.inference.dense import frozen_copy, rows_of
from pixeltier.models.inference.geometry import active_per_image, whole_table, whole_tiles
from pixeltier.models.inference.stem import PooledStem
from pixeltier.models.networks.resnet18 import (
    FUSED_STAGE,
    STAGE_CHANNELS,
    BasicBlock,
    ResNet18,
    stage_scores,
    stage_sizes,
)
from pixeltier.native import ops

TILED_STAGES = 3
"""The last stage has 512 channels and few cells: reading Winograd's larger weights costs what it saves."""

WORTHWHILE_FILL = 0.6
"""Tiles of which less is active run slower than rows (16 products a tile at 1.1 times the cost of a row's 9)."""


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
class RefinementRun:
    """Logits [N, classes] and what they cost: executed MACs and active share of each image."""

    logits: Tensor
    macs: list[int]
    active_share: list[float]


class SparseResNet18:
    """Inference of a trained `ResNet18`; equal to it within rounding at every threshold.

    Args:
        window: cells of the stem's output grid along the side of a window of importance.
        keep_best: the best cell of each stage is active at any threshold.
    """

    def __init__(self, model: ResNet18, dtype: torch.dtype, window: int, keep_best: bool = False) -> None:
        self.shape = model.shape
        self.dtype = dtype
        self._window = window
        self._keep_best = keep_best
        self._stem = PooledStem(model.conv1, dtype)
        relu = torch.zeros(STAGE_CHANNELS[FUSED_STAGE])
        self._fuse = None
        if model.fuse is not None:
            self._fuse = ops.prepack_weight(model.fuse.weight, model.fuse.bias, relu, dtype=dtype)
        self._fc = frozen_copy(model.fc, torch.float32)
        self._stages = [
            [_pack_block(block, dtype, tiled=index < TILED_STAGES) for block in stage]
            for index, stage in enumerate(model.stages)
        ]

    def image_macs(self, height: int, width: int) -> int:
        """MACs of an image of this size beside its active cells, where it has any."""
        return counting.resnet18_image(height, width, self.shape.classes, self.shape.context_channels)

    @torch.inference_mode()
    def __call__(
        self, pixels: Tensor, context: Tensor | None, importance: Tensor, thresholds: Tensor
    ) -> RefinementRun:
        """Classify images of which each has an active window.

        Args:
            pixels: uint8 RGB [N, H, W, 3].
            context: the base's features as rows [N * ceil(H / 16) * ceil(W / 16) + 1, c] in the network's dtype, the
                last one zero; None where the network takes none in.
            importance: float32 [N, 1, h, w] of the windows, in [0, 1].
            thresholds: float32 [N], each image's own.
        """
        stem = self._stem(pixels)
        count, _, height, width = stem.shape
        macs = [self.image_macs(*pixels.shape[1:3])] * count
        active_cells = [0] * count

        trunk = rows_of(stem)
        sizes = stage_sizes(height, width)
        scores = stage_scores(importance, self._window, height, width)
        for index, blocks in enumerate(self._stages):
            active = ops.plan(scores[index][:, 0].contiguous(), thresholds, keep_best=self._keep_best)
            rows, columns = sizes[index]
            source = sizes[max(index - 1, 0)]
            trunk, executed = _run_stage(blocks, trunk, active, count, source, (rows, columns))
            if index == FUSED_STAGE and self._fuse is not None and context is not None:
                where = whole_table(count, rows, columns, 1)
                trunk, _ = ops.sparse_conv2d(context, where, self._fuse, residual=trunk)
            per_image = active_per_image(active, count, rows * columns)
            cell_macs = counting.resnet18_cell(index)
            active_cells = [sum(pair) for pair in zip(active_cells, per_image, strict=True)]
            macs = [so_far + cells * cell_macs for so_far, cells in zip(macs, per_image, strict=True)]
            if executed != active.numel() * cell_macs:
                raise RuntimeError("the kernels executed another number of MACs than the counting rule says")

        rows, columns = sizes[-1]
        pooled = trunk[:-1].view(count, rows * columns, -1).float().mean(dim=1)
        cells = sum(h * w for h, w in sizes)
        shares = [cells_of / cells for cells_of in active_cells]
        return RefinementRun(self._fc(pooled), macs, shares)


def _pack_block(block: BasicBlock, dtype: torch.dtype, tiled: bool) -> PackedBlock:
    relu = torch.zeros(block.conv1.out_channels)
    downsample = block.downsample
    tiled = tiled and ops.has_winograd(dtype)

    def pack(conv: nn.Conv2d, winograd: bool = False) -> ops.PackedWeight:
        return ops.prepack_weight(conv.weight, conv.bias, relu, dtype=dtype, winograd=winograd)

    return PackedBlock(
        pack(block.conv1),
        pack(block.conv2),
        None if downsample is None else ops.prepack_weight(downsample.weight, downsample.bias, dtype=dtype),
        pack(block.conv1, winograd=True) if tiled and downsample is None else None,
        pack(block.conv2, winograd=True) if tiled else None,
    )


@dataclass(frozen=True, slots=True)
class StageTables:
    """Where a stage's convolutions read: the strided first one, those on the trunk, those on packed rows."""

    strided: Tensor | None
    in_place: Tensor | ops.Tiles
    packed: Tensor | ops.Tiles


def _stage_tables(
    active: Tensor,
    count: int,
    source: tuple[int, int],
    target: tuple[int, int],
    strides: bool,
    may_tile: bool,
) -> StageTables:
    strided = ops.dense_table(active, count, *source, 3, 2) if strides else None
    if may_tile:
        tiles = ops.tile_table(active, count, *target, packed=True)
        if tiles.fill >= WORTHWHILE_FILL:
            return StageTables(strided, ops.tile_table(active, count, *target, packed=False), tiles)
    return StageTables(
        strided, ops.dense_table(active, count, *target, 3), ops.packed_table(active, count, *target, 3)
    )


def _whole_stage_tables(
    count: int, source: tuple[int, int], target: tuple[int, int], strides: bool, may_tile: bool
) -> StageTables:
    """The same where every cell is active, without building anything twice."""
    strided = whole_table(count, *source, 3, 2) if strides else None
    if may_tile and (tiles := whole_tiles(count, *target)).fill >= WORTHWHILE_FILL:
        return StageTables(strided, tiles, tiles)
    table = whole_table(count, *target, 3)
    return StageTables(strided, table, table)


def _run_stage(
    blocks: list[PackedBlock],
    trunk: Tensor,
    active: Tensor,
    count: int,
    source: tuple[int, int],
    target: tuple[int, int],
) -> tuple[Tensor, int]:
    """One stage on its active cells: the new trunk and the MACs of the 3x3 convolutions."""
    strides, may_tile = blocks[0].downsample is not None, blocks[0].tiled_conv2 is not None
    whole = active.numel() == count * target[0] * target[1]
    if whole:
        tables = _whole_stage_tables(count, source, target, strides, may_tile)
    else:
        tables = _stage_tables(active, count, source, target, strides, may_tile)
    executed = 0
    for block in blocks:
        conv1, conv2 = block.layers(tiled=isinstance(tables.packed, ops.Tiles))
        if block.downsample is None:
            inner, macs = ops.sparse_conv2d(trunk, tables.in_place, conv1)
        else:
            if tables.strided is None:
                raise RuntimeError("a block with a downsample needs a stage that strides")
            inner, macs = ops.sparse_conv2d(trunk, tables.strided, conv1)
            trunk, _ = ops.sparse_conv2d(trunk, whole_table(count, *source, 1, 2), block.downsample)
        executed += macs
        executed += ops.sparse_conv2d_scatter_(trunk, inner, tables.packed, conv2, active)
        if block.downsample is not None and not whole:
            trunk.clamp_(min=0)
    return trunk, executed
