"""Tiles of a large image, each with a halo as wide as the network sees: no seam, bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TILE = 1024
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Tile:
    """A core rectangle of an image and the outer rectangle that it is computed from, in cells."""

    top: int
    left: int
    bottom: int
    right: int
    outer_top: int
    outer_left: int
    outer_bottom: int
    outer_right: int

    @property
    def outer(self) -> Window:
        """The part of the image that is read."""
        return slice(self.outer_top, self.outer_bottom), slice(self.outer_left, self.outer_right)

    @property
    def target(self) -> Window:
        """The core, within the image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def inner(self) -> Window:
        """The core, within the outer rectangle."""
        return (
            slice(self.top - self.outer_top, self.bottom - self.outer_top),
            slice(self.left - self.outer_left, self.right - self.outer_left),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the outer rectangle."""
        return self.outer_bottom - self.outer_top, self.outer_right - self.outer_left

    @property
    def cells(self) -> int:
        """Cells of the outer rectangle."""
        height, width = self.size
        return height * width

    def scaled(self, factor: int) -> "Tile":
        """The same tile on a grid `factor` times finer."""
        return Tile(*(factor * edge for edge in self._edges()))

    def divided(self, window: int) -> "Tile":
        """The same tile on the grid of windows; its first edges are multiples of the window."""
        return Tile(*(-(-edge // window) for edge in self._edges()))

    def count_inside(self, active: npt.NDArray[np.int32], width: int) -> int:
        """How many cells of an active list on the outer rectangle (of that width) lie in the core."""
        rows, columns = np.divmod(active, width)
        vertical, horizontal = self.inner
        inside = (rows >= vertical.start) & (rows < vertical.stop)
        inside &= (columns >= horizontal.start) & (columns < horizontal.stop)
        return int(inside.sum())

    def _edges(self) -> tuple[int, int, int, int, int, int, int, int]:
        return (
            self.top,
            self.left,
            self.bottom,
            self.right,
            self.outer_top,
            self.outer_left,
            self.outer_bottom,
            self.outer_right,
        )


def split(height: int, width: int, halo: int, align: int, tile: int = TILE) -> Iterator[Tile]:
    """Cover an image with tiles; one tile without halo where it fits.

    Args:
        halo: cells that an output depends on beyond its own; rounded up to `align`.
        align: every first edge is a multiple of it, so that windows never straddle tiles.
        tile: side of a core; a multiple of `align`.
    """
    halo = -(-halo // align) * align
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            yield Tile(
                top,
                left,
                bottom,
                right,
                max(0, top - halo),
                max(0, left - halo),
                min(height, bottom + halo),
                min(width, right + halo),
            )
