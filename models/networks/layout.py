"""Memory layout of networks."""

from typing import TypeVar, cast

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def channels_last(module: Layer) -> Layer:
    """The module with its 4-D weights in channels-last order, as every convolution here reads them."""
    return cast("Layer", module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def pixels_last(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution to 3 * r * r channels, its outputs from PixelShuffle(r)'s order to (pixel, RGB)."""
    order = torch.arange(conv.out_channels).view(3, -1).t().flatten()
    result = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0], padding=conv.padding)  # type: ignore[arg-type]
    result.weight = nn.Parameter(conv.weight.detach()[order])
    if conv.bias is not None:
        result.bias = nn.Parameter(conv.bias.detach()[order])
    return result
