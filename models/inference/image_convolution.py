"""Convolutions of stride 1 over images of few channels on the row kernels.

On the processor the taps of one line of a kernel, which lie side by side in a channels-last image, are one long row: a
9x9 kernel over three channels is one of nine taps of 27 inputs. On a GPU each pixel is a row, filled up to 16 bytes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixeltier.models import counting
from pixeltier.models.inference.geometry import KEPT, every_cell
from pixeltier.native import ops

LEVELS = 255
"""Rows hold pixels as 0 to 255, which bfloat16 holds exactly; weights are divided by it."""


@dataclass(frozen=True, slots=True)
class ImageRows:
    """Images as the rows that convolutions of one kernel size read."""

    rows: Tensor
    height: int
    width: int
    count: int = 1


class ImageConvolution(Protocol):
    """A convolution with padding of half its kernel and, with slopes, a PReLU."""

    def over(self, image: ImageRows, active: Tensor | None = None) -> tuple[Tensor, int]:
        """Rows [A + 1, O] of the active cells, or [N * H * W + 1, O] of every one, the last one zero; and the MACs."""


class LineConvolution:
    """On the processor; one image at a time."""

    def __init__(self, conv: nn.Conv2d, slope: Tensor | None, dtype: torch.dtype) -> None:
        weight = ops.line_weight(conv.weight) / LEVELS
        self.packed = ops.prepack_weight(weight, conv.bias, slope, dtype=dtype)
        self._kernel = conv.kernel_size[0]

    def rows(self, image: Tensor) -> ImageRows:
        """As `pixeltier.native.ops.image_lines` lays out float32 [C, H, W] in [0, 1], or uint8 [H, W, C].

        Other convolutions of this kernel size can share them.
        """
        height, width = image.shape[:2] if image.dtype == torch.uint8 else image.shape[1:]
        rows = ops.image_lines(image.contiguous(), self._kernel, self.packed.dtype)
        return ImageRows(rows, height, width)

    def table(self, image: ImageRows, active: Tensor | None = None) -> Tensor:
        """Which rows the active cells read (int32 [A], ascending), or every cell."""
        if active is None:
            return _whole_line_table(image.height, image.width, self._kernel)
        return ops.line_table(active, image.height, image.width, self._kernel)

    def over(self, image: ImageRows, active: Tensor | None = None) -> tuple[Tensor, int]:
        """See ImageConvolution."""
        return ops.sparse_conv2d(image.rows, self.table(image, active), self.packed)

    def __call__(self, image: Tensor) -> Tensor:
        """Rows [H * W + 1, O] of an image."""
        return self.over(self.rows(image))[0]


class PixelConvolution:
    """On a GPU, of a batch."""

    def __init__(
        self,
        conv: nn.Conv2d,
        slope: Tensor | None,
        dtype: torch.dtype,
        device: torch.device,
        isa: str | None = None,
    ) -> None:
        self._kernel, self._device = conv.kernel_size[0], device
        self._channels = 16 // torch.empty(0, dtype=dtype).element_size()
        missing = self._channels - conv.in_channels
        self._packed = ops.prepack_weight(
            F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, missing)),
            conv.bias,
            slope,
            dtype=dtype,
            macs_per_row=counting.conv_macs(conv.in_channels, conv.out_channels, self._kernel),
            device=device,
            isa=isa,
        )

    def rows(self, x: Tensor) -> ImageRows:
        """Of images [N, C, H, W] on the device; other convolutions can share them."""
        count, colours, height, width = x.shape
        rows = x.new_zeros((count * height * width + 1, self._channels), dtype=self._packed.dtype)
        rows[:-1].view(count, height, width, -1)[..., :colours] = x.permute(0, 2, 3, 1)
        return ImageRows(rows, height, width, count)

    def over(self, image: ImageRows, active: Tensor | None = None) -> tuple[Tensor, int]:
        """See ImageConvolution."""
        if active is None:
            cells = image.count * image.height * image.width
            active = torch.arange(cells, dtype=torch.int32, device=self._device)
        table = ops.dense_table(active, image.count, image.height, image.width, self._kernel)
        return ops.sparse_conv2d(image.rows, table, self._packed)


@lru_cache(maxsize=KEPT)
def _whole_line_table(height: int, width: int, kernel: int) -> Tensor:
    return ops.line_table(every_cell(1, height, width), height, width, kernel)
