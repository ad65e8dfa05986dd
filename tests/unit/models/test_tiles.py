"""Tiles cover an image once, aligned to windows, with enough around them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pixeltier.models.inference.tiles import split


@settings(deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    halo=st.integers(0, 50),
    tile=st.sampled_from([8, 64, 128]),
)
def test_cores_cover_the_image_once(height: int, width: int, halo: int, tile: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for part in split(height, width, halo, align=8, tile=tile):
        covered[part.target] += 1
        assert part.outer_top % 8 == part.outer_left % 8 == part.top % 8 == part.left % 8 == 0
        assert part.outer_top <= max(0, part.top - halo)
        assert part.outer_right >= min(width, part.right + halo)
        outer = np.zeros_like(covered)
        outer[part.outer] = np.arange(outer[part.outer].size).reshape(outer[part.outer].shape) + 1
        assert np.array_equal(outer[part.outer][part.inner], outer[part.target])
        active = np.flatnonzero(np.ones(outer[part.outer].shape))
        assert (
            part.count_inside(active.astype(np.int32), part.outer_right - part.outer_left)
            == outer[part.target].size
        )
    assert covered.min() == covered.max() == 1
