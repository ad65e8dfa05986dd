"""Images as overlapping rows, and which of them a convolution reads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.native import ops, reference


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4)),
    kernel=st.sampled_from([1, 3, 9]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_bytes_and_floats_become_the_same_rows(size, kernel, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    expected = reference.image_lines(pixels, kernel, dtype)
    assert torch.equal(ops.image_lines(pixels, kernel, dtype), expected)
    planes = (pixels.permute(2, 0, 1).float() / 255).contiguous()
    torch.testing.assert_close(ops.image_lines(planes, kernel, dtype), expected, rtol=2**-22, atol=0)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        assert torch.equal(ops.image_lines(pixels, kernel, dtype), expected)


@given(
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from([1, 3, 9]),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_table_of_active_cells(grid, kernel, share, seed):
    importance = torch.rand(1, *grid, generator=torch.Generator().manual_seed(seed))
    active = ops.plan(importance, torch.full((1,), 1 - share))
    assert torch.equal(ops.line_table(active, *grid, kernel), reference.line_table(active, grid[1], kernel))


def test_ops_pass_opcheck():
    active = torch.tensor([0, 3, 5], dtype=torch.int32)
    namespace = torch.ops.pixeltier
    torch.library.opcheck(namespace.image_lines.default, (torch.rand(3, 4, 5), 9, torch.bfloat16))
    pixels = torch.zeros(4, 5, 3, dtype=torch.uint8)
    torch.library.opcheck(namespace.image_lines.default, (pixels, 3, torch.float32))
    torch.library.opcheck(namespace.line_table.default, (active, 2, 3, 9))


def test_bad_arguments_say_what_was_got():
    with pytest.raises(TypeError, match="image must be uint8 or float32, got Double"):
        ops.image_lines(torch.zeros(3, 4, 4).double(), 9, torch.float32)
    with pytest.raises(ValueError, match="image must have 3 dimensions"):
        torch.ops.pixeltier.image_lines(torch.zeros(1, 3, 4, 4), 9, torch.float32)
    with pytest.raises(ValueError, match="kernel must be odd"):
        ops.image_lines(torch.zeros(3, 4, 4), 4, torch.float32)
    with pytest.raises(TypeError, match="must be float32 or bfloat16, got Half"):
        ops.image_lines(torch.zeros(3, 4, 4), 9, torch.float16)
    with pytest.raises(IndexError, match="within the 6 cells of the grid, got 6 at position 1"):
        ops.line_table(torch.tensor([0, 6], dtype=torch.int32), 2, 3, 9)
