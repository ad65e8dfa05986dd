"""What :func:`pixeltier.native.mbconv.run` computes, in plain torch: float64 for float32, exact integers for int8."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pixeltier.native.mbconv import Layer, Network

_Activate = Callable[[Tensor, Layer, Tensor | None], Tensor]


def run(
    pixels: Tensor, network: Network, levels: Tensor | None = None, kept_block: int = -1
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`pixeltier.native.mbconv.run`; float64 for a network of float32, float32 for one of int8."""
    if network.dtype == torch.int8:
        return _run_int8(pixels, network, kept_block)
    image = pixels if levels is None else levels[torch.arange(3), pixels.long()]
    outputs = _through_blocks(image.double(), 0.0, network, _relu6, _linear)
    x = outputs[-1]
    features = _relu6(_sums(x, network.head), network.head, None)
    logits = features.mean(dim=(2, 3)) @ network.linear.weight.double().t() + network.linear.bias.double()
    return logits, _rows(features), _kept(outputs, kept_block)


def _run_int8(pixels: Tensor, network: Network, kept_block: int) -> tuple[Tensor, Tensor, Tensor]:
    stem, head, linear = network.blocks[0].expand, network.head, network.linear
    outputs = _through_blocks(pixels.double(), stem.extra, network, _bytes, _bytes)
    x = outputs[-1]
    features = _scaled(_sums(x, head), head).clamp(0, 6)
    total = torch.zeros(features.shape[:2])
    for cell in features.flatten(2).unbind(2):  # in the kernel's order of additions
        total = total + cell
    cells = features.shape[2] * features.shape[3]
    mean = (total / cells * torch.tensor(linear.extra)).round().clamp(0, 255)
    sums = mean.double() @ linear.weight.double().t()
    return _scaled(sums[:, :, None, None], linear)[:, :, 0, 0], _rows(features), _kept(outputs, kept_block)


def _through_blocks(
    image: Tensor, border: float, network: Network, activate: _Activate, project: _Activate
) -> list[Tensor]:
    """Images [N, H, W, 3] to what each block makes of them, channels first."""
    x = image.permute(0, 3, 1, 2)
    outputs = []
    for index, block in enumerate(network.blocks):
        stem = index == 0
        inner = _sums(x, block.expand, 2 if stem else 1, border if stem else 0.0)
        inner = _sums(activate(inner, block.expand, None), block.depthwise, block.stride)
        out = _sums(activate(inner, block.depthwise, None), block.project)
        x = project(out, block.project, x if out.shape == x.shape else None)
        outputs.append(x)
    return outputs


def _kept(outputs: list[Tensor], kept_block: int) -> Tensor:
    if kept_block < 0:
        return outputs[0].new_empty(0, 0)
    return outputs[kept_block].permute(0, 2, 3, 1).flatten(0, 2)


def _sums(x: Tensor, layer: Layer, stride: int = 1, border: float = 0.0) -> Tensor:
    """The bare convolution with SAME padding, in float64: exact where inputs and weights are small integers."""
    weight = layer.weight.double()
    kernel = weight.shape[2]
    padding: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        padding += [total // 2, total - total // 2]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(F.pad(x, padding, value=border), weight, None, stride, groups=groups)


def _linear(sums: Tensor, layer: Layer, residual: Tensor | None) -> Tensor:
    out = sums + layer.bias.double().view(1, -1, 1, 1)
    return out if residual is None else out + residual


def _relu6(sums: Tensor, layer: Layer, residual: Tensor | None) -> Tensor:
    return _linear(sums, layer, residual).clamp(0, 6)


def _scaled(sums: Tensor, layer: Layer) -> Tensor:
    assert layer.scale is not None
    return sums.float() * layer.scale.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)


def _bytes(sums: Tensor, layer: Layer, residual: Tensor | None) -> Tensor:
    """Integers 0 to 255, as float64."""
    value = _scaled(sums, layer)
    if residual is not None:
        value = value + residual.float() * torch.tensor(layer.extra)
    return value.round().clamp(0, 255).double()


def _rows(features: Tensor) -> Tensor:
    """[N, C, h, w] to rows, with a row of zeros behind them."""
    return F.pad(features.permute(0, 2, 3, 1).flatten(0, 2), (0, 0, 0, 1))
