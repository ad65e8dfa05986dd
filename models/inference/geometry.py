"""Row tables that depend on sizes alone, kept between requests."""

from functools import lru_cache

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
