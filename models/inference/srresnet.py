"""SRResNet on sparse kernels, packed from head to tail: active cells only."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.inference import bands
from pixeltier.models.inference.line_convolution import ImageLines, LineConvolution
from pixeltier.models.networks.srresnet import SCALE, SRResNet
from pixeltier.models.networks.tail import embed_tail
from pixeltier.native import ops


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where the convolutions over an active list read: `table` for the last one, `layer` for the 3x3 ones."""

    table: Tensor
    layer: Tensor | ops.Tiles


class SparseSRResNet:
    """Inference of a trained `SRResNet` on one image at a time; equal to it within rounding at every mask."""

    def __init__(self, model: SRResNet, dtype: torch.dtype) -> None:
        self._head = LineConvolution(model.head, model.head_act.weight, dtype)
        self._fuse = _pack(model.fuse, None, dtype)
        self._winograd = ops.has_winograd(dtype)
        self._body = [_pack(conv, act, dtype, winograd=self._winograd) for conv, act in body_layers(model)]
        self._up1 = _pack(model.up1, model.up1_act, dtype, shuffle=2, winograd=self._winograd)
        self._up2 = _pack(model.up2, model.up2_act, dtype, shuffle=2, winograd=self._winograd)
        bias = model.tail.bias if model.tail.bias is not None else torch.zeros(3)
        tail_weight, tail_bias = embed_tail(model.tail.weight, bias)
        tail_macs = SCALE**2 * counting.conv_macs(model.shape.channels, 3, 9)
        self._tail = ops.prepack_weight(tail_weight, tail_bias, dtype=dtype, macs_per_row=tail_macs)

    @torch.inference_mode()
    def __call__(self, lines: ImageLines, context: Tensor, active: Tensor, pixels: Tensor) -> int:
        """Add the residual of the active cells to `pixels`, in place.

        Args:
            lines: the image of H x W.
            context: the base's features as rows [H * W + 1, c].
            active: int32 [A] from `pixeltier.native.ops.plan`.
            pixels: float32 [H * W, 48], the 4x4 pixels of each cell.

        Returns:
            The MACs that the kernels executed.
        """
        if active.numel() == 0:
            return 0
        height, width = lines.height, lines.width
        features, head_macs = self._head.over(lines, active)
        entry, macs = ops.sparse_conv2d(context, active.view(-1, 1), self._fuse, residual=features)
        where = self._neighbours(active, height, width)
        trunk, executed = ops.sparse_residual_body(entry, where.layer, self._body)
        macs += head_macs + executed
        if not bands.needed(active.numel()):
            residual, executed = self._upsample(trunk, where)
            pixels.index_add_(0, active, residual)
            return macs + executed
        return macs + self._upsample_in_bands(pixels, trunk, active, height, width)

    def _neighbours(self, active: Tensor, height: int, width: int) -> Neighbours:
        table = ops.packed_table(active, 1, height, width, 3)
        if not self._winograd:
            return Neighbours(table, table)
        return Neighbours(table, ops.tile_table(active, 1, height, width, packed=True))

    def _upsample(self, trunk: Tensor, where: Neighbours) -> tuple[Tensor, int]:
        """Trunk rows [A + 1, C] to pixels [A, 48] in float32."""
        table = where.table
        children = ops.child_tile_table(table) if self._winograd else ops.child_table(table)
        twice, first = ops.sparse_conv2d(trunk, where.layer, self._up1)
        four, second = ops.sparse_conv2d(twice, children, self._up2)
        pixels, third = ops.sparse_conv2d(ops.joined_rows(four, SCALE**2), table, self._tail)
        return pixels[:-1].float(), first + second + third

    def _upsample_in_bands(
        self, pixels: Tensor, trunk: Tensor, active: Tensor, height: int, width: int
    ) -> int:
        """The tail of a large image band by band, so that memory is bounded; the halo's rows are computed twice."""
        macs = 0
        for band in bands.bands(height, width):
            rows = torch.tensor([band.first, band.top, band.bottom, band.last])
            first, inner_first, inner_last, last = torch.searchsorted(
                active, (rows * width).to(torch.int32)
            ).tolist()
            if inner_first == inner_last:
                continue
            where = self._neighbours(active[first:last].contiguous(), height, width)
            residual, executed = self._upsample(F.pad(trunk[first:last], (0, 0, 0, 1)), where)
            inner = slice(inner_first - first, inner_last - first)
            pixels.index_add_(0, active[inner_first:inner_last], residual[inner])
            macs += executed
        return macs


def body_layers(model: SRResNet) -> list[tuple[nn.Conv2d, nn.PReLU | None]]:
    """The body's 33 convolutions with the activation that follows each."""
    pairs: list[tuple[nn.Conv2d, nn.PReLU | None]] = []
    for block in model.residual_blocks:
        pairs += [(block.conv1, block.act), (block.conv2, None)]
    return [*pairs, (model.mid, None)]


def _pack(
    conv: nn.Conv2d, act: nn.PReLU | None, dtype: torch.dtype, shuffle: int = 1, winograd: bool = False
) -> ops.PackedWeight:
    slope = None if act is None else act.weight
    return ops.prepack_weight(conv.weight, conv.bias, slope, dtype=dtype, shuffle=shuffle, winograd=winograd)
