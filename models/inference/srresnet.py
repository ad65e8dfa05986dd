"""SRResNet on sparse kernels: light path everywhere, heavy path packed from head to tail on active cells."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import counting
from models.inference import bands
from models.inference.costs import SRResNetCosts
from models.inference.light_path import LightPath, RowLightPath
from models.networks.srresnet import SCALE, SRResNet
from models.networks.tail import embed_tail
from native import ops


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where the convolutions over an active list read: `table` for the last one, `layer` for the 3x3 ones."""

    table: Tensor
    layer: Tensor | ops.Tiles


class SparseSRResNet(SRResNetCosts):
    """Inference of a trained `SRResNet` on one image at a time; equal to it within rounding at every mask."""

    def __init__(self, model: SRResNet, dtype: torch.dtype) -> None:
        self.shape = shape = model.shape
        self.dtype = dtype
        self._light = RowLightPath(model, dtype)
        self._fuse = _pack(model.fuse, None, dtype)
        self._winograd = ops.has_winograd(dtype)
        self._body = [_pack(conv, act, dtype, winograd=self._winograd) for conv, act in body_layers(model)]
        self._up1 = _pack(model.up1, model.up1_act, dtype, shuffle=2, winograd=self._winograd)
        self._up2 = _pack(model.up2, model.up2_act, dtype, shuffle=2, winograd=self._winograd)
        bias = model.tail.bias if model.tail.bias is not None else torch.zeros(3)
        tail_weight, tail_bias = embed_tail(model.tail.weight, bias)
        tail_macs = SCALE**2 * counting.conv_macs(shape.channels, 3, 9)
        self._tail = ops.prepack_weight(tail_weight, tail_bias, dtype=dtype, macs_per_row=tail_macs)

    @torch.inference_mode()
    def light_path(self, x: Tensor) -> LightPath:
        """Head and base on an image [1, 3, H, W], float32 RGB in [0, 1]."""
        return self._light(x)

    @torch.inference_mode()
    def window_logits(self, light: LightPath) -> Tensor:
        """float32 [1, 1, ceil(H / window), ceil(W / window)]."""
        return light.importance

    @torch.inference_mode()
    def heavy_path(self, light: LightPath, active: Tensor, height: int, width: int) -> int:
        """Add R(x) of the active cells to `light.pixels`, in place.

        Args:
            active: int32 [A] from `native.ops.plan` on the grid height x width of one image.

        Returns:
            The MACs that the kernels executed.
        """
        if active.numel() == 0:
            return 0
        entry, macs = self._entry(light, active)
        where = self._neighbours(active, height, width)
        trunk, executed = ops.sparse_residual_body(entry, where.layer, self._body)
        macs += executed
        if not bands.needed(active.numel()):
            pixels, executed = self._upsample(trunk, where)
            light.pixels.index_add_(0, active, pixels)
            return macs + executed
        return macs + self._upsample_in_bands(light, trunk, active, height, width)

    def image(self, x: Tensor, light: LightPath) -> Tensor:
        """uint8 [4H, 4W, 3] of the image [1, 3, H, W] that `light` was made from."""
        return ops.compose(x.contiguous(), light.pixels)[0]

    def _entry(self, light: LightPath, active: Tensor) -> tuple[Tensor, int]:
        """The heavy path's input rows [A + 1, C]: the head's features plus a 1x1 of the base's."""
        features = F.pad(light.entry_rows.index_select(0, active), (0, 0, 0, 1))
        return ops.sparse_conv2d(light.context_rows, active.view(-1, 1), self._fuse, residual=features)

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
        self, light: LightPath, trunk: Tensor, active: Tensor, height: int, width: int
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
            pixels, executed = self._upsample(F.pad(trunk[first:last], (0, 0, 0, 1)), where)
            inner = slice(inner_first - first, inner_last - first)
            light.pixels.index_add_(0, active[inner_first:inner_last], pixels[inner])
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
