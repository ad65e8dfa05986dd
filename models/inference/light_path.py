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
        every = torch.arange(height * width, dtype=torch.int32)
        alone = every.view(-1, 1)
        around: Tensor | ops.Tiles
        if self._winograd:
            around = ops.tile_table(every, 1, height, width, packed=True)
        else:
            around = ops.dense_table(every, 1, height, width, 3)

        def run(rows: Tensor, layers: list[ops.PackedWeight]) -> Tensor:
            for layer in layers:
                rows, _ = ops.sparse_conv2d(rows, alone if layer.taps == 1 else around, layer)
            return rows

        features = self._head(x[0])
        context = run(features, self._base)
        pixels = run(context, [self._base_out])
        logits = run(context, self._importance)[:-1].float().view(1, 1, height, width)
        return LightPath(features, context, pixels[:-1].float(), pool_to_windows(logits, self._window))


def pixels_last(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution to 3 * 16 channels with its outputs from PixelShuffle(4)'s order to (pixel, RGB)."""
    order = torch.arange(conv.out_channels).view(3, SCALE**2).t().flatten()
    result = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
    result.weight = nn.Parameter(conv.weight.detach()[order])
    if conv.bias is not None:
        result.bias = nn.Parameter(conv.bias.detach()[order])
    return result
