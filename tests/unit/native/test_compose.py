"""The composed image against torch's bicubic enlargement: shapes, values beyond the range, threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from native import ops, reference


@given(
    grid=st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20)),
    spread=st.sampled_from([0.0, 0.1, 2.0]),
    seed=st.integers(0, 2**16),
)
def test_equals_bicubic_plus_pixels(grid, spread, seed):
    images, height, width = grid
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, 3, height, width, generator=generator)
    pixels = spread * torch.randn(images * height * width, 48, generator=generator)
    image = ops.compose(x, pixels)
    expected = reference.compose(x, pixels)
    assert image.shape == expected.shape
    off = (image.int() - expected.int()).abs()
    assert off.numel() == 0 or int(off.max()) <= 1
    assert float(off.float().mean() if off.numel() else 0) < 0.01  # a value at the edge of two bytes is rare


def test_is_the_same_on_any_number_of_threads():
    x, pixels = torch.rand(1, 3, 50, 30), torch.randn(1500, 48) / 10
    threads = torch.get_num_threads()
    try:
        images = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            images.append(ops.compose(x, pixels))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_values_beyond_the_range_are_clamped():
    x, pixels = torch.full((1, 3, 2, 2), 0.5), torch.zeros(4, 48)
    for place, value in enumerate((torch.inf, -torch.inf, torch.nan, 1e30)):
        pixels[place] = value
    image = ops.compose(x, pixels)[0]
    corners = [int(image[y, x_, 0]) for y, x_ in ((0, 0), (0, 7), (7, 0), (7, 7))]
    assert corners == [255, 0, 0, 255]


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="pixels"):
        ops.compose(torch.rand(1, 3, 2, 2), torch.rand(3, 48))
    with pytest.raises(ValueError, match="grid"):
        ops.compose(torch.rand(1, 3, 0, 2), torch.rand(0, 48))
