"""Where the sparse kernels run: how weights lie there, and how kernel maps and lists of active cells are made.

The inference of both tasks is written once, over a `Backend`. On the processor lists have the active cells and nothing
else, and 3x3 convolutions run as Winograd tiles where that pays. On a GPU nothing waits for the device: a list is as
long as the grid, and beyond its active cells it is padded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixeltier.models.inference.device import to_device
from pixeltier.models.inference.geometry import whole_table, whole_tiles
from pixeltier.models.inference.image_convolution import (
    ImageConvolution,
    LineConvolution,
    PixelConvolution,
)
from pixeltier.models.inference.stem import PooledStem, TorchStem
from pixeltier.native import ops

KernelMap = Tensor | ops.Tiles
"""Which rows each output row of a convolution reads: int32 [A, taps], or Winograd tiles."""

WORTHWHILE_FILL = 0.6
"""Tiles of which less is active run slower than rows (16 products a tile at 1.1 times the cost of a row's 9)."""


@dataclass(frozen=True, slots=True)
class ActiveCells:
    """Cells of a batch of grids, int32 [A], ascending, and how many lie in each image, int32 [N].

    `every`: surely all are active; `padded`: `pixeltier.native.ops.PADDING` fills the list.
    """

    cells: Tensor
    per_image: Tensor
    every: bool = False
    padded: bool = False


@dataclass(frozen=True, slots=True)
class StageMaps:
    """Kernel maps of a stage whose trunk is dense and whose branches are packed.

    `strided` for the first convolution where the stage strides, `in_place` for the other first ones, which read the
    trunk, and `packed` for the second ones.
    """

    strided: Tensor | None
    in_place: KernelMap
    packed: KernelMap


@dataclass(frozen=True, slots=True)
class PackedMaps:
    """Kernel maps from packed rows to packed rows: `table` of every kind of layer, `layer` of those packed as tiled."""

    table: Tensor
    layer: KernelMap


class Backend(ABC):
    """Attributes: `dtype` of features and weights; `device`; `tiles`: whether layers packed as tiled are Winograd's."""

    def __init__(self, dtype: torch.dtype, device: torch.device, isa: str | None, *, tiles: bool) -> None:
        self.dtype = dtype
        self.device = device
        self.tiles = tiles
        self._isa = isa

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None,
        slope: Tensor | None = None,
        *,
        shuffle: int = 1,
        tiled: bool = False,
        macs_per_row: int | None = None,
    ) -> ops.PackedWeight:
        """`pixeltier.native.ops.prepack_weight`; `tiled` for the maps that hold tiles where there are any."""
        return ops.prepack_weight(
            weight,
            bias,
            slope,
            dtype=self.dtype,
            shuffle=shuffle,
            macs_per_row=macs_per_row,
            winograd=tiled and self.tiles,
            device=self.device,
            isa=self._isa,
        )

    def pack_conv(
        self, conv: nn.Conv2d, slope: Tensor | None = None, *, shuffle: int = 1, tiled: bool = False
    ) -> ops.PackedWeight:
        """The same of a layer."""
        return self.pack(conv.weight, conv.bias, slope, shuffle=shuffle, tiled=tiled)

    def pack_relu(self, conv: nn.Conv2d, *, tiled: bool = False) -> ops.PackedWeight:
        """A layer with a ReLU behind it."""
        return self.pack_conv(conv, torch.zeros(conv.out_channels), tiled=tiled)

    def put(self, values: Tensor) -> Tensor:
        """A tensor where the kernels read it; no copy where it is there."""
        return to_device(values, self.device)

    def stage_maps(
        self,
        active: ActiveCells,
        count: int,
        source: tuple[int, int],
        target: tuple[int, int],
        *,
        strides: bool,
        tiled: bool,
    ) -> StageMaps:
        """Maps of a stage from a grid of `source` cells to one of `target` cells; `tiled`: it has tiled layers."""
        cells = active.cells
        strided = ops.dense_table(cells, count, *source, 3, 2) if strides else None
        if tiled and self.tiles:
            tiles = ops.tile_table(cells, count, *target, packed=True)
            if tiles.fill >= WORTHWHILE_FILL:
                return StageMaps(strided, ops.tile_table(cells, count, *target, packed=False), tiles)
        in_place, packed = (make(cells, count, *target, 3) for make in (ops.dense_table, ops.packed_table))
        return StageMaps(strided, in_place, packed)

    def packed_maps(self, cells: Tensor, count: int, height: int, width: int) -> PackedMaps:
        """Maps of 3x3 layers over a list of active cells."""
        table = ops.packed_table(cells, count, height, width, 3)
        if not self.tiles:
            return PackedMaps(table, table)
        return PackedMaps(table, ops.tile_table(cells, count, height, width, packed=True))

    def children(self, table: Tensor) -> KernelMap:
        """The map of a tiled layer one pixel shuffle of 2 below a packed table."""
        return ops.child_tile_table(table) if self.tiles else ops.child_table(table)

    @abstractmethod
    def active(self, scores: Tensor, thresholds: Tensor, keep_best: bool = False) -> ActiveCells:
        """Cells of maps float32 [N, H, W] that reach their image's threshold [N] (`pixeltier.native.ops.plan`)."""

    @abstractmethod
    def whole_map(self, count: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
        """The table of every output cell of grids height x width."""

    @abstractmethod
    def whole_tiled_map(self, count: int, height: int, width: int) -> KernelMap:
        """The same of a tiled 3x3 layer."""

    @abstractmethod
    def image_convolution(self, conv: nn.Conv2d, slope: Tensor | None = None) -> ImageConvolution:
        """A convolution that reads images; with slopes, a PReLU follows."""

    @abstractmethod
    def stem(self, conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        """ResNet's stem: uint8 RGB [N, H, W, 3] to [N, O, ceil(H / 4), ceil(W / 4)], channels last."""

    @abstractmethod
    def add_rows(
        self,
        sums: Tensor,
        rows: Tensor,
        table: Tensor,
        layer: ops.PackedWeight,
        cells: Tensor,
        inner: slice,
    ) -> int:
        """Add a convolution's output to rows of sums, float32 [R + 1, O], in place.

        Args:
            rows: packed [A + 1, I]; table: [A, taps].
            cells: int32 [A], the row of each output; only those of `inner` are added.

        Returns:
            The MACs executed.
        """


class CpuBackend(Backend):
    """The processor, by its best instruction set."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype, torch.device("cpu"), isa=None, tiles=ops.has_winograd(dtype))

    def active(self, scores: Tensor, thresholds: Tensor, keep_best: bool = False) -> ActiveCells:
        """See Backend."""
        padded, per_image = ops.plan_padded(scores, thresholds, keep_best)
        cells = padded[: int(per_image.sum())]
        return ActiveCells(cells, per_image, every=len(cells) == len(padded))

    def stage_maps(
        self,
        active: ActiveCells,
        count: int,
        source: tuple[int, int],
        target: tuple[int, int],
        *,
        strides: bool,
        tiled: bool,
    ) -> StageMaps:
        """See Backend; where every cell is active, nothing is built twice, and maps are kept between requests."""
        if not active.every:
            return super().stage_maps(active, count, source, target, strides=strides, tiled=tiled)
        strided = whole_table(count, *source, 3, 2) if strides else None
        if tiled and self.tiles and (tiles := whole_tiles(count, *target)).fill >= WORTHWHILE_FILL:
            return StageMaps(strided, tiles, tiles)
        table = whole_table(count, *target, 3)
        return StageMaps(strided, table, table)

    def whole_map(self, count: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
        """See Backend."""
        return whole_table(count, height, width, kernel, stride)

    def whole_tiled_map(self, count: int, height: int, width: int) -> KernelMap:
        """See Backend."""
        return whole_tiles(count, height, width) if self.tiles else whole_table(count, height, width, 3)

    def image_convolution(self, conv: nn.Conv2d, slope: Tensor | None = None) -> ImageConvolution:
        """See Backend."""
        return LineConvolution(conv, slope, self.dtype)

    def stem(self, conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        """See Backend."""
        return PooledStem(conv, self.dtype)

    def add_rows(
        self,
        sums: Tensor,
        rows: Tensor,
        table: Tensor,
        layer: ops.PackedWeight,
        cells: Tensor,
        inner: slice,
    ) -> int:
        """See Backend."""
        added, macs = ops.sparse_conv2d(rows, table, layer)
        sums.index_add_(0, cells[inner], added[:-1][inner].float())
        return macs


class CudaBackend(Backend):
    """A GPU; in the host's memory with `isa` "cuda" where the kernels are emulated."""

    def __init__(self, dtype: torch.dtype, device: torch.device, isa: str | None = None) -> None:
        super().__init__(dtype, device, isa, tiles=False)

    def active(self, scores: Tensor, thresholds: Tensor, keep_best: bool = False) -> ActiveCells:
        """See Backend."""
        return ActiveCells(*ops.plan_padded(scores, thresholds, keep_best), padded=True)

    def whole_map(self, count: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
        """See Backend."""
        cells = count * ((height - 1) // stride + 1) * ((width - 1) // stride + 1)
        every = torch.arange(cells, dtype=torch.int32, device=self.device)
        if kernel == stride == 1:
            return every.view(-1, 1)
        return ops.dense_table(every, count, height, width, kernel, stride)

    def whole_tiled_map(self, count: int, height: int, width: int) -> KernelMap:
        """See Backend."""
        return self.whole_map(count, height, width, 3)

    def image_convolution(self, conv: nn.Conv2d, slope: Tensor | None = None) -> ImageConvolution:
        """See Backend."""
        return PixelConvolution(conv, slope, self.dtype, self.device, self._isa)

    def stem(self, conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        """See Backend."""
        return TorchStem(conv, self.dtype, self.device)

    def add_rows(
        self,
        sums: Tensor,
        rows: Tensor,
        table: Tensor,
        layer: ops.PackedWeight,
        cells: Tensor,
        inner: slice,
    ) -> int:
        """See Backend."""
        written = cells
        if inner != slice(None):
            written = torch.full_like(cells, len(sums))  # no row: outside of `inner` nothing is written
            written[inner] = cells[inner]
        return ops.sparse_conv2d_scatter_(sums, rows, table, layer, written)


def backend_of(device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend of a device."""
    return CpuBackend(dtype) if device.type == "cpu" else CudaBackend(dtype, device)
