"""Convolutions that run on every pixel, through torch, in the layout the sparse kernels share."""

import copy

import torch
from torch import Tensor

from pixeltier.models.networks.layout import Layer, channels_last


def frozen_copy(module: Layer, dtype: torch.dtype) -> Layer:
    """A channels-last copy of a module for inference in `dtype`."""
    return channels_last(copy.deepcopy(module).to(dtype)).eval().requires_grad_(False)


def rows_of(features: Tensor) -> Tensor:
    """[N, C, H, W] to rows [N * H * W + 1, C], the last one zero: the grid as sparse kernels address it."""
    count, channels, height, width = features.shape
    rows = features.new_empty((count * height * width + 1, channels))
    rows[:-1].view(count, height, width, channels).copy_(features.permute(0, 2, 3, 1))
    rows[-1] = 0
    return rows
