"""Row tables that depend on sizes alone, kept between requests."""

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from pixeltier.native import ops

KEPT = 32
"""Geometries to keep: the classifier sees one input size and few batch sizes."""


@lru_cache(maxsize=KEPT)
def every_cell(count: int, height: int, width: int) -> Tensor:
    """The active list of `count` whole grids, int32 [count * height * width]."""
    return torch.arange(count * height * width, dtype=torch.int32)


@lru_cache(maxsize=KEPT)
def whole_table(count: int, height: int, width: int, kernel: int, stride: int = 1) -> Tensor:
    """`pixeltier.native.ops.dense_table` for every output cell of grids height x width."""
    target = every_cell(count, (height - 1) // stride + 1, (width - 1) // stride + 1)
    return ops.dense_table(target, count, height, width, kernel, stride)


@lru_cache(maxsize=KEPT)
def whole_tiles(count: int, height: int, width: int, size: int = 2) -> ops.Tiles:
    """`pixeltier.native.ops.tile_table` of whole grids: packed and in place are the same there."""
    return ops.tile_table(every_cell(count, height, width), count, height, width, packed=True, size=size)


@lru_cache(maxsize=KEPT)
def parents(count: int, height: int, width: int) -> Tensor:
    """For each cell of grids height x width its cell in grids half as fine, int64."""
    low, narrow = (height + 1) // 2, (width + 1) // 2
    coarse = torch.arange(count * low * narrow).view(count, low, narrow)
    fine = coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return fine[:, :height, :width].reshape(-1)


@lru_cache(maxsize=KEPT)
def image_ends(count: int, cells: int) -> Tensor:
    """Where images of `cells` cells end in the numbering of cells, int32 [count]."""
    return torch.arange(1, count + 1, dtype=torch.int32) * cells


def active_per_image(active: Tensor, count: int, cells: int) -> list[int]:
    """How many of an active list's cells lie in each of `count` images of `cells` cells."""
    if count == 1:
        return [active.numel()]
    ends = [0, *torch.searchsorted(active, image_ends(count, cells)).tolist()]
    return [after - before for before, after in pairwise(ends)]
