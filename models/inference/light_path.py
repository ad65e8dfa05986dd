"""What SRResNet computes on every pixel, on the row kernels: head, base and importance."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.inference.line_convolution import LineConvolution
from models.networks.masks import pool_to_windows
from models.networks.srresnet import SCALE, SRResNet
from native import ops


@dataclass(frozen=True, slots=True)
class LightPath:
    """Features of the head and of the base as rows [H * W + 1, C], base image pixels [H * W, 48] in float32."""

    entry_rows: Tensor
    context_rows: Tensor
    pixels: Tensor
    importance: Tensor


@dataclass(frozen=True, slots=True)
class Where:
    """Row numbers for kernels of one tap, and of 3x3."""

    alone: Tensor
    around: Tensor | ops.Tiles


class RowLightPath:
    """Inference of the light half of a trained `SRResNet`; equal to it within rounding."""

    def __init__(self, model: SRResNet, dtype: torch.dtype) -> None:
        self._window = model.shape.window
        self._head = LineConvolution(model.head, model.head_act.weight, dtype)
        self._winograd = ops.has_winograd(dtype)

        def pack(conv: nn.Conv2d, slope: Tensor | None) -> ops.PackedWeight:
            tiled = self._winograd and conv.kernel_size == (3, 3)
            return ops.prepack_weight(conv.weight, conv.bias, slope, dtype=dtype, winograd=tiled)

        base = list(model.base)
        self._base = [
            pack(cast("nn.Conv2d", conv), cast("nn.PReLU", act).weight)
            for conv, act in zip(base[0::2], base[1::2], strict=True)
        ]
        self._base_out = pack(pixels_last(model.base_out), None)
        narrow, wide, last = (cast("nn.Conv2d", layer) for layer in list(model.importance)[0::2])
        relu = torch.zeros(1)
        self._importance = [pack(narrow, relu), pack(wide, relu), pack(last, None)]

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> LightPath:
        """An image [1, 3, H, W], float32 RGB in [0, 1]."""
        height, width = x.shape[2:]
        where = self.around(height, width)
        features = self._head(x[0])
        context = _run(features, self._base, where)
        pixels = _run(context, [self._base_out], where)
        return LightPath(
            features, context, pixels[:-1].float(), self.importance(context, where, height, width)
        )

    def around(self, height: int, width: int) -> Where:
        """Where the convolutions over every cell of a grid read."""
        every = torch.arange(height * width, dtype=torch.int32)
        if self._winograd:
            return Where(every.view(-1, 1), ops.tile_table(every, 1, height, width, packed=True))
        return Where(every.view(-1, 1), ops.dense_table(every, 1, height, width, 3))

    @torch.inference_mode()
    def importance(self, context: Tensor, where: Where, height: int, width: int) -> Tensor:
        """Context rows to float32 logits [1, 1, ceil(H / window), ceil(W / window)]."""
        logits = _run(context, self._importance, where)[:-1].float()
        return pool_to_windows(logits.view(1, 1, height, width), self._window)


def _run(rows: Tensor, layers: list[ops.PackedWeight], where: Where) -> Tensor:
    for layer in layers:
        rows, _ = ops.sparse_conv2d(rows, where.alone if layer.taps == 1 else where.around, layer)
    return rows


def pixels_last(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution to 3 * 16 channels with its outputs from PixelShuffle(4)'s order to (pixel, RGB)."""
    order = torch.arange(conv.out_channels).view(3, SCALE**2).t().flatten()
    result = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    result.weight = nn.Parameter(conv.weight.detach()[order])
    if conv.bias is not None:
        result.bias = nn.Parameter(conv.bias.detach()[order])
    return result
