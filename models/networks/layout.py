"""Memory layout of networks."""

from typing import TypeVar, cast

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def channels_last(module: Layer) -> Layer:
    """The module with its 4-D weights in channels-last order, as every convolution here reads them."""
    return cast("Layer", module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
