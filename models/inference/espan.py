"""ESPAN on the processor's row kernels: from an image to features and pixels, without an operator of torch between."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.inference.geometry import KEPT, whole_table, whole_tiles
from pixeltier.models.inference.image_convolution import ImageRows, LineConvolution
from pixeltier.models.networks.espan import ESPAN
from pixeltier.models.networks.srresnet import SCALE
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class ESPANResult:
    """What the network makes of N images of H x W cells.

    `features`: rows [N * H * W + 1, C], the last one zero; `pixel_rows`: float32 [N * H * W + 1, 48], the 4x4 pixels of
    each cell in raster order, RGB each, not clamped, and a row of no meaning; `image`: as another convolution of the
    head's size can read it.
    """

    features: Tensor
    pixel_rows: Tensor
    image: ImageRows
    macs: int

    @property
    def pixels(self) -> Tensor:
        """float32 [N * H * W, 48]."""
        return self.pixel_rows[:-1]


class RowESPAN:
    """Inference of an `ESPAN`; equal to it within rounding."""

    def __init__(self, network: ESPAN, dtype: torch.dtype) -> None:
        self.shape = network.shape
        self.dtype = dtype
        self._tile = next((tile for tile in (4, 2) if ops.has_winograd(dtype, tile=tile)), None)
        self._head = LineConvolution(network.head, None, dtype)
        self._blocks = [
            [self._pack(conv.weight, conv.bias) for conv in block.convolutions]
            for block in network.gated_blocks
        ]
        self._joined, self._fused = self._pack_fuse(network)
        self._to_pixels = self._pack(network.to_pixels.weight, network.to_pixels.bias, shuffle=SCALE)

    @property
    def macs_per_cell(self) -> int:
        """MACs of one cell by the counting rule; the kernels report the same (tested)."""
        shape = self.shape
        return counting.espan(shape.channels, shape.blocks, shape.block_layers, shape.last_block_layers)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> ESPANResult:
        """An image: float32 [1, 3, H, W], RGB in [0, 1], or uint8 [H, W, 3]."""
        rows = self._head.rows(image if image.dtype == torch.uint8 else image[0])
        run = _Run(rows.height, rows.width, self.shape.channels, self.dtype, self._tile)
        head, first = run.joined.unbind()
        run.convolve(head, rows.rows, self._head.packed, table=self._head.table(rows))
        run.gated_block(first, head, self._blocks[0])
        x = first
        for block in self._blocks[1:]:
            run.gated_block(run.trunk, x, block)
            x = run.trunk
        features = run.empty(self.shape.channels)
        table = _joined_table(rows.height, rows.width)
        run.convolve(features, run.joined.flatten(0, 1), self._joined, table=table)
        run.convolve(features, x, self._fused, residual=features)
        pixels = run.empty(self._to_pixels.outputs, torch.float32)
        run.convolve(pixels, features, self._to_pixels)
        return ESPANResult(features, pixels, rows, run.macs)

    def _pack(
        self, weight: Tensor, bias: Tensor | None, shuffle: int = 1, macs: int | None = None
    ) -> ops.PackedWeight:
        tiled, tile = self._tile is not None, self._tile or 2
        return ops.prepack_weight(
            weight, bias, dtype=self.dtype, shuffle=shuffle, macs_per_row=macs, winograd=tiled, tile=tile
        )

    def _pack_fuse(self, network: ESPAN) -> tuple[ops.PackedWeight, ops.PackedWeight]:
        """`fuse` over the head's and the first block's features, and over the last block's with `last_conv` folded in.

        Nothing bends between `last_conv` and `fuse`: together they are one 3x3, to whose centre `fuse`'s part for the
        last block's features adds. MACs are counted as if both had run.
        """
        channels, last = network.shape.channels, network.last_conv
        head, conv, first, block = network.fuse.weight.detach().double()[..., 0, 0].split(channels, dim=1)
        weight = torch.einsum("om,mikl->oikl", conv, last.weight.detach().double())
        weight[:, :, 1, 1] += block
        bias = _bias(network.fuse) + conv @ _bias(last)
        two_taps = torch.stack([head, first], dim=2)[..., None].float()
        joined = ops.prepack_weight(two_taps, dtype=self.dtype, macs_per_row=network.fuse.weight.numel())
        return joined, self._pack(weight.float(), bias.float(), macs=last.weight.numel())


class _Run:
    """Buffers, geometry and executed MACs of one image."""

    def __init__(self, height: int, width: int, channels: int, dtype: torch.dtype, tile: int | None) -> None:
        self._cells, self._dtype = height * width, dtype
        self._around = whole_tiles(1, height, width, tile) if tile else whole_table(1, height, width, 3)
        self.joined = torch.empty(2, self._cells + 1, channels, dtype=dtype)
        self.trunk, self._odd, self._even = (self.empty(channels) for _ in range(3))
        self.macs = 0

    def empty(self, channels: int, dtype: torch.dtype | None = None) -> Tensor:
        """Rows that are not set."""
        return torch.empty(self._cells + 1, channels, dtype=dtype or self._dtype)

    def convolve(
        self,
        out: Tensor,
        rows: Tensor,
        layer: ops.PackedWeight,
        activation: str = "prelu",
        residual: Tensor | None = None,
        table: Tensor | None = None,
    ) -> None:
        """One layer, over the 3x3 around every cell where no table is given."""
        where = self._around if table is None else table
        self.macs += ops.activated_conv2d_(out, rows, where, layer, activation, residual)

    def gated_block(self, out: Tensor, x: Tensor, layers: list[ops.PackedWeight]) -> None:
        """A block of two convolutions at least, from rows x into rows out, which may be the same."""
        inner = x
        for layer in layers[:-1]:
            target = self._even if inner is self._odd else self._odd
            self.convolve(target, inner, layer, "silu")
            inner = target
        self.convolve(out, inner, layers[-1], "gate", x)


def _bias(conv: nn.Conv2d) -> Tensor:
    zeros = torch.zeros(conv.out_channels, dtype=torch.float64)
    return zeros if conv.bias is None else conv.bias.detach().double()


@lru_cache(maxsize=KEPT)
def _joined_table(height: int, width: int) -> Tensor:
    """The rows of each cell in two maps of H * W + 1 rows each, one after the other: int32 [H * W, 2]."""
    cells = torch.arange(height * width, dtype=torch.int32)
    return torch.stack([cells, cells + height * width + 1], dim=1)
