"""Convolutions over images of few channels on the row kernels.

The taps of one line of a kernel lie side by side in a channels-last image: they are one long row, and a 9x9
kernel over three channels is one of nine taps of 27 inputs.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from pixeltier.models.inference.geometry import KEPT, every_cell
from pixeltier.native import ops

LEVELS = 255
"""Rows hold pixels as 0 to 255, which bfloat16 holds exactly; weights are divided by it."""


@dataclass(frozen=True, slots=True)
class ImageLines:
    """An image as the rows that convolutions of one kernel size read (`pixeltier.native.ops.image_lines`)."""

    rows: Tensor
    height: int
    width: int


class LineConvolution:
    """A convolution of stride 1 with padding of half its kernel and, with slopes, a PReLU; one image at a time."""

    def __init__(self, conv: nn.Conv2d, slope: Tensor | None, dtype: torch.dtype) -> None:
        weight = ops.line_weight(conv.weight) / LEVELS
        self.packed = ops.prepack_weight(weight, conv.bias, slope, dtype=dtype)
        self._kernel = conv.kernel_size[0]

    def lines(self, image: Tensor) -> ImageLines:
        """float32 [C, H, W] in [0, 1], or uint8 [H, W, C]; other convolutions of this kernel size can share it."""
        height, width = image.shape[:2] if image.dtype == torch.uint8 else image.shape[1:]
        rows = ops.image_lines(image.contiguous(), self._kernel, self.packed.dtype)
        return ImageLines(rows, height, width)

    def table(self, lines: ImageLines, active: Tensor | None = None) -> Tensor:
        """Which rows the active cells read (int32 [A], ascending), or every cell."""
        if active is None:
            return _whole_line_table(lines.height, lines.width, self._kernel)
        return ops.line_table(active, lines.height, lines.width, self._kernel)

    def over(self, lines: ImageLines, active: Tensor | None = None) -> tuple[Tensor, int]:
        """Rows [A + 1, O] of the active cells, or [H * W + 1, O] of every one, the last one zero; and the MACs."""
        return ops.sparse_conv2d(lines.rows, self.table(lines, active), self.packed)

    def __call__(self, image: Tensor) -> Tensor:
        """Rows [H * W + 1, O] of an image."""
        return self.over(self.lines(image))[0]


@lru_cache(maxsize=KEPT)
def _whole_line_table(height: int, width: int, kernel: int) -> Tensor:
    return ops.line_table(every_cell(1, height, width), height, width, kernel)
