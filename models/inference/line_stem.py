"""ResNet's stem on the row kernels: the taps of one line of a 7x7 kernel lie side by side in the image."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from native import ops


@lru_cache(maxsize=16)
def _line_table(height: int, width: int, kernel: int, stride: int, padded: tuple[int, int]) -> Tensor:
    """Row numbers int32 [height * width, kernel]; a row starts at every `stride`th pixel of a line."""
    steps = padded[1] // stride
    y, x, tap = torch.meshgrid(*map(torch.arange, (height, width, kernel)), indexing="ij")
    return ((stride * y + tap) * steps + x).reshape(-1, kernel).to(torch.int32)


class LineStem:
    """conv, ReLU and 3x3 max pool of stride 2 on the row kernels; the convolution's padding is half its kernel.

    Images pass through one by one: a convolution's output of a whole batch would not stay in the cache.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        outputs, channels, kernel, _ = conv.weight.shape
        lines = conv.weight.detach().permute(0, 3, 1, 2).reshape(outputs, kernel * channels, kernel, 1)
        self._packed = ops.prepack_weight(lines, conv.bias, torch.zeros(outputs), dtype=dtype)
        self._dtype = dtype
        self._kernel, self._stride = kernel, conv.stride[0]

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [N, C, H, W] to [N, O, ceil(ceil(H / stride) / 2), the same of W], channels last."""
        return torch.cat([F.max_pool2d(self._convolve(image[None]), 3, 2, 1) for image in x])

    def _convolve(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        kernel, stride = self._kernel, self._stride
        pad = kernel // 2
        lines, columns = height + 2 * pad, -(-(width + 2 * pad) // stride) * stride
        pixels = lines * columns * channels
        image = torch.zeros(pixels + kernel * channels, dtype=self._dtype)
        inner = image[:pixels].view(lines, columns, channels)
        inner[pad : pad + height, pad : pad + width] = x[0].permute(1, 2, 0)
        rows = image.as_strided(
            (pixels // (stride * channels) + 1, kernel * channels), (stride * channels, 1)
        )
        target = -(-height // stride), -(-width // stride)
        table = _line_table(*target, kernel, stride, (lines, columns))
        out, _ = ops.sparse_conv2d(rows, table, self._packed)
        return out[:-1].view(1, *target, -1).permute(0, 3, 1, 2)
