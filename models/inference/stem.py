"""ResNet's stem from the bytes of images, in one call of the kernels."""

import torch
from torch import Tensor, nn

from pixeltier.models.images import DEVIATION, MEAN
from pixeltier.native import ops


def pixel_levels(dtype: torch.dtype) -> Tensor:
    """What a byte of a channel stands for after ImageNet's normalisation: [3, 256]."""
    mean, deviation = torch.tensor(MEAN)[:, None], torch.tensor(DEVIATION)[:, None]
    return ((torch.arange(256) - 255 * mean) / (255 * deviation)).to(dtype)


class PooledStem:
    """Convolution, ReLU and a 3x3 max pool of stride 2."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        relu = torch.zeros(conv.out_channels)
        self._packed = ops.prepack_weight(ops.line_weight(conv.weight), conv.bias, relu, dtype=dtype)
        self._levels = pixel_levels(dtype)

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 RGB [N, H, W, 3] to [N, O, ceil(H / 4), ceil(W / 4)], channels last."""
        count, height, width = pixels.shape[:3]
        rows = ops.pooled_stem(pixels, self._levels, self._packed, stride=2)
        grid = rows[:-1].view(count, -(-height // 4), -(-width // 4), -1)
        return grid.permute(0, 3, 1, 2)
