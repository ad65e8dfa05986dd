"""Networks of inverted residuals (MBConv), dense, from pixels to logits in one native call.

In float32 a layer is clamp(convolution + bias + residual), 0 to 6 but for projections and the linear layer. In int8
features are bytes, weights -127 to 127 and sums integers: a layer's result is
``float32(sum) * scale + bias + float32(residual) * factor``, each operation rounded to float32, then to the nearest
even byte within 0 to 255; the head's features and the logits stay float32. Zero points are in the biases, and what
255 stands for bounds the activation. Every instruction set gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pixeltier.native.instruction_sets import cpu_isa

_ops = torch.ops.pixeltier


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer.

    weight: as in torch.nn.Conv2d or torch.nn.Linear, float32, or int8 with a scale; bias and scale: float32, one
    value for each output. extra, in int8: of the first expansion the byte that stands for a black border, of a
    projection the residual's factor, of the linear layer what makes mean features its bytes.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    extra: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """Expansion (1x1; of the first block the stem: 3x3 with stride 2 over RGB), depthwise filter, projection."""

    expand: Layer
    depthwise: Layer
    project: Layer
    stride: int


@dataclass(frozen=True, slots=True)
class Network:
    """Blocks, a 1x1 head, the mean over the cells and a linear layer. Blocks that keep the shape add their input."""

    blocks: tuple[Block, ...]
    head: Layer
    linear: Layer

    @property
    def layers(self) -> list[Layer]:
        """All in order."""
        inner = [layer for b in self.blocks for layer in (b.expand, b.depthwise, b.project)]
        return [*inner, self.head, self.linear]

    @property
    def dtype(self) -> torch.dtype:
        """float32 or int8."""
        return self.head.weight.dtype

    def numbers(self) -> list[int]:
        """Head, classes, and of each block inputs, hidden, outputs, kernel and stride: as the ops take a shape."""
        numbers = [self.head.weight.shape[0], self.linear.weight.shape[0]]
        for index, block in enumerate(self.blocks):
            hidden = block.depthwise.weight.shape[0]
            inputs = hidden if index == 0 else block.expand.weight.shape[1]
            kernel = block.depthwise.weight.shape[2]
            numbers += [inputs, hidden, block.project.weight.shape[0], kernel, block.stride]
        return numbers


@dataclass(frozen=True, slots=True)
class PackedNetwork:
    """A network laid out for the kernels of one instruction set; made by :func:`prepack`."""

    weights: Tensor
    shape: list[int]
    dtype: torch.dtype
    isa: str


def prepack(network: Network, isa: str | None = None) -> PackedNetwork:
    """Lays out a network for :func:`run`. isa: another set than :func:`pixeltier.native.cpu_isa`.

    ValueError or TypeError where layers do not fit each other.
    """
    isa = isa or cpu_isa()
    layers, dtype = network.layers, network.dtype
    scales = [] if dtype == torch.float32 else [_values(layer.scale, layer) for layer in layers]
    extras = [] if dtype == torch.float32 else [layer.extra for layer in layers]
    shape = network.numbers()
    weights: Tensor = _ops.prepack_mbconv(
        [_by_taps(layer.weight, stem=index == 0) for index, layer in enumerate(layers)],
        [_values(layer.bias, layer) for layer in layers],
        scales,
        extras,
        shape,
        dtype,
        isa,
    )
    return PackedNetwork(weights, shape, dtype, isa)


def _by_taps(weight: Tensor, stem: bool) -> Tensor:
    """[O, I, K, K] or [O, I] to [O, taps, inputs of a tap]; the stem's taps are whole lines of its kernel."""
    weight = weight.detach().cpu()
    if weight.dim() == 2:
        weight = weight[:, :, None, None]
    outputs, inputs, height, width = weight.shape
    taps = height if stem else height * width
    return weight.permute(0, 2, 3, 1).reshape(outputs, taps, inputs * height * width // taps).contiguous()


def _values(values: Tensor | None, layer: Layer) -> Tensor:
    if values is None:
        raise ValueError(f"a layer of {layer.weight.dtype} needs a scale")
    return values.detach().to("cpu", torch.float32).contiguous()


def run(
    pixels: Tensor, packed: PackedNetwork, levels: Tensor | None = None, kept_block: int = -1
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and last features of images, and what one block makes of them.

    pixels: uint8 [N, H, W, 3] with, for a network of float32, levels [3, 256], what each byte of each colour stands
    for; or float32 [N, H, W, 3] for a network of float32, normalised. Returns logits float32 [N, classes], rows of
    the head's features float32 [N*h*w + 1, head], h = ceil(H / strides), the last row zero, and the output of the
    block of that number as rows [N*cells, outputs], float32 or, of an int8 network, its bytes; no rows for -1. Padding
    is TensorFlow's SAME.
    """
    result: tuple[Tensor, Tensor, Tensor] = _ops.mbconv_network(
        pixels, levels, packed.weights, packed.shape, packed.dtype, kept_block, packed.isa
    )
    return result
