"""SRResNet's 9x9 convolution at 4x, written as a 3x3 convolution at low resolution.

Packed features keep the 16 pixels of one low-resolution cell together, so a 9x9 window around any of them
lies within the 3x3 neighbouring cells. As a 3x3 convolution from 16 * C channels to 16 * 3 outputs it needs
no table of its own and fills vectors that 3 outputs would leave empty; 44 % of the new weights are zero by
construction and are not counted as MACs.
"""

import torch
from torch import Tensor

TAIL_KERNEL = 9
CELL = 4
PIXELS = CELL * CELL


def pixel_of_child(child: int) -> tuple[int, int]:
    """Row and column within the 4x4 pixels of a cell, of a child in packed order (two pixel shuffles of 2)."""
    outer, inner = divmod(child, 4)
    return 2 * (outer // 2) + inner // 2, 2 * (outer % 2) + inner % 2


def embed_tail(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The 3x3 form of a 9x9 tail; differentiable.

    Args:
        weight: [3, C, 9, 9].
        bias: [3].

    Returns:
        Weight [48, 16 * C, 3, 3] (outputs in raster order of pixels, then RGB; inputs in packed child order)
        and bias [48].
    """
    colours, channels = weight.shape[:2]
    taps = _tap_index().to(weight.device)
    padded = torch.cat([weight.flatten(2), weight.new_zeros(colours, channels, 1)], dim=2)
    # [colour, channel, out pixel, child, ty, tx] -> [out pixel, colour, child, channel, ty, tx]
    embedded = padded[:, :, taps].permute(2, 0, 3, 1, 4, 5)
    return embedded.reshape(PIXELS * colours, PIXELS * channels, 3, 3), bias.repeat(PIXELS)


def _tap_index() -> Tensor:
    """[out pixel 16, child 16, 3, 3]: which of the 81 taps connects them, 81 where none does."""
    child_row, child_column = (
        torch.tensor(axis) for axis in zip(*map(pixel_of_child, range(PIXELS)), strict=True)
    )
    pixel = torch.arange(PIXELS)
    cell = CELL * torch.arange(-1, 2)
    dy = child_row[None, :, None] + cell - (pixel // CELL)[:, None, None]
    dx = child_column[None, :, None] + cell - (pixel % CELL)[:, None, None]
    dy, dx = dy[:, :, :, None] + 4, dx[:, :, None, :] + 4
    inside = (dy >= 0) & (dy < TAIL_KERNEL) & (dx >= 0) & (dx < TAIL_KERNEL)
    return torch.where(inside, dy * TAIL_KERNEL + dx, TAIL_KERNEL**2)
