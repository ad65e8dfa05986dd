"""ResNet's stem from the bytes of images: in one call of the kernels on the processor, through torch on a GPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models.images import DEVIATION, MEAN
from pixeltier.models.inference.dense import frozen_copy
from pixeltier.models.inference.device import to_device
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


class TorchStem:
    """The same through torch, on a device."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, device: torch.device) -> None:
        self._device, self._dtype = device, dtype
        self._mean = 255 * torch.tensor(MEAN, device=device)
        self._scale = 1 / (255 * torch.tensor(DEVIATION, device=device))
        self._conv = frozen_copy(conv, dtype).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See PooledStem; the pixels from anywhere."""
        x = to_device(pixels, self._device).float().sub_(self._mean).mul_(self._scale)
        x = x.permute(0, 3, 1, 2).to(dtype=self._dtype, memory_format=torch.channels_last)
        return F.relu_(F.max_pool2d(self._conv(x), 3, 2, 1))
