"""How the upsampling tail of a large image runs: band by band. Torch-free, since what it costs is counted from here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

TAIL_HALO = 3
"""Rows of cells that the upsampling tail reads beyond a band: one for each of its three convolutions."""

TAIL_CELLS = 65_536
"""Active cells whose 4x features are in memory at a time (16 rows of 64 channels each)."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows [top, bottom) of the grid, computed from rows [first, last)."""

    first: int
    top: int
    bottom: int
    last: int


@overload
def needed(active: int) -> bool: ...
@overload
def needed(active: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]: ...
def needed(active: int | npt.NDArray[np.int64]) -> bool | npt.NDArray[np.bool_]:
    """Whether so many active cells (a number, or an array of them) are more than the tail takes at once."""
    return active > TAIL_CELLS


def bands(height: int, width: int) -> Iterator[Band]:
    """Cover the rows of a grid; a band without active cells of its own is skipped by the tail."""
    rows = max(16, TAIL_CELLS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield Band(max(0, top - TAIL_HALO), top, bottom, min(height, bottom + TAIL_HALO))
