"""Convolutions over images of few channels on the row kernels.

The taps of one line of a kernel lie side by side in a channels-last image: they are one long row, and a 9x9
kernel over three channels is one of nine taps of 27 inputs.
"""

import torch
from torch import Tensor, nn

from native import ops


class LineConvolution:
    """A convolution with padding of half its kernel and a PReLU (slope 0: ReLU), one image at a time."""

    def __init__(self, conv: nn.Conv2d, slope: Tensor, dtype: torch.dtype) -> None:
        self._packed = ops.prepack_weight(ops.line_weight(conv.weight), conv.bias, slope, dtype=dtype)
        self._dtype = dtype
        self._kernel, self._stride = conv.kernel_size[0], conv.stride[0]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the output."""
        return -(-height // self._stride), -(-width // self._stride)

    def __call__(self, image: Tensor) -> Tensor:
        """float32 [C, H, W] to rows [ceil(H / stride) * ceil(W / stride) + 1, O], the last one zero."""
        channels, height, width = image.shape
        kernel, stride = self._kernel, self._stride
        pad = kernel // 2
        lines, columns = height + 2 * pad, -(-(width + 2 * pad) // stride) * stride
        pixels = lines * columns * channels
        padded = torch.zeros(pixels + kernel * channels, dtype=self._dtype)
        inner = padded[:pixels].view(lines, columns, channels)
        inner[pad : pad + height, pad : pad + width] = image.permute(1, 2, 0)
        step = stride * channels
        rows = padded.as_strided((pixels // step + 1, kernel * channels), (step, 1))
        out, _ = ops.sparse_conv2d(rows, self._table(height, width, columns), self._packed)
        return out

    def _table(self, height: int, width: int, columns: int) -> Tensor:
        """Row numbers int32 [output cells, kernel]: a row starts at every `stride`th pixel of a line."""
        rows, cells = self.size(height, width)
        steps = columns // self._stride
        tap = torch.arange(self._kernel, dtype=torch.int32) * steps
        y = torch.arange(rows, dtype=torch.int32) * (self._stride * steps)
        x = torch.arange(cells, dtype=torch.int32)
        return (y[:, None, None] + x[:, None] + tap).view(-1, self._kernel)
