"""Active lists and row tables against the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier.native import ops, reference

GRIDS = st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13))


def importance_of(grid: tuple[int, int, int], seed: int) -> torch.Tensor:
    """Random values on a coarse scale, so that ties and exact thresholds happen."""
    return torch.randint(0, 9, grid, generator=torch.Generator().manual_seed(seed)) / 8


@given(GRIDS, st.integers(0, 99), st.lists(st.floats(0, 1.2), min_size=3, max_size=3), st.booleans())
def test_plan_equals_reference(grid, seed, thresholds, keep_best):
    importance = importance_of(grid, seed)
    threshold = torch.tensor(thresholds[: grid[0]], dtype=torch.float32)
    active = ops.plan(importance, threshold, keep_best)
    assert active.dtype == torch.int32
    assert torch.equal(active, reference.plan(importance, threshold, keep_best))


@given(GRIDS, st.integers(0, 99), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_raising_the_threshold_never_activates_a_cell(grid, seed, a, b, keep_best):
    importance = importance_of(grid, seed)
    low, high = (
        set(ops.plan(importance, torch.full((grid[0],), t), keep_best).tolist()) for t in sorted((a, b))
    )
    assert high <= low


def test_plan_never_activates_nan():
    importance = torch.tensor([[[torch.nan, 0.5], [torch.nan, 0.25]], [[torch.nan] * 2] * 2])
    assert ops.plan(importance, torch.zeros(2)).tolist() == [1, 3]
    assert ops.plan(importance, torch.ones(2), keep_best=True).tolist() == [1]


def test_plan_keeps_the_first_best_cell():
    importance = torch.tensor([[[0.1, 0.7, 0.7]], [[0.2, 0.2, 0.2]]])
    assert ops.plan(importance, torch.ones(2), keep_best=True).tolist() == [1, 3]


@given(
    GRIDS, st.integers(0, 99), st.floats(0, 1.2), st.sampled_from([1, 3, 5, 9]), st.sampled_from([1, 2, 3])
)
def test_tables_equal_reference(grid, seed, threshold, kernel, stride):
    images, height, width = grid
    out = (images, (height - 1) // stride + 1, (width - 1) // stride + 1)
    active = ops.plan(importance_of(out, seed), torch.full((images,), threshold))
    table = ops.dense_table(active, images, height, width, kernel, stride)
    assert torch.equal(table, reference.dense_table(active, images, height, width, kernel, stride))
    packed = ops.packed_table(active, *out, kernel)
    assert torch.equal(packed, reference.packed_table(active, *out, kernel))


@given(
    GRIDS, st.integers(0, 99), st.floats(0, 1.2), st.sampled_from([(3, 1), (3, 3), (3, 5), (5, 9), (5, 3)])
)
def test_child_table_is_the_packed_table_of_the_finer_grid(grid, seed, threshold, kernels):
    images, height, width = grid
    parent_kernel, kernel = kernels
    active = ops.plan(importance_of(grid, seed), torch.full((images,), threshold))
    table = ops.child_table(ops.packed_table(active, *grid, parent_kernel), kernel)
    assert torch.equal(
        table, reference.child_table(reference.packed_table(active, *grid, parent_kernel), kernel)
    )
    # The same through a list of the finer grid, whose order differs from that of the children.
    parents = active.long()
    n, y, x = parents // (height * width), parents // width % height, parents % width
    part = torch.arange(4)
    cells = (n[:, None] * 2 * height + 2 * y[:, None] + part // 2) * 2 * width + 2 * x[:, None] + part % 2
    fine, order = cells.reshape(-1).sort()
    expected = reference.packed_table(fine.to(torch.int32), images, 2 * height, 2 * width, kernel)
    assert torch.equal(torch.cat([order, torch.tensor([len(fine)])])[expected.long()], table[order].long())


ACTIVE = torch.tensor([0, 3], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ops.plan(torch.rand(2, 2), torch.zeros(2)),
            ValueError,
            r"importance must have 3 dim.*\[2, 2\]",
        ),
        (lambda: ops.plan(torch.rand(1, 2, 2), torch.zeros(2)), ValueError, "each of the 1 images, got 2"),
        (
            lambda: ops.plan(torch.rand(1, 2, 2).double(), torch.zeros(1)),
            TypeError,
            "must be Float, got Double",
        ),
        (lambda: ops.plan(torch.rand(1, 2, 2).mT, torch.zeros(1)), ValueError, "contiguous"),
        (
            lambda: ops.dense_table(ACTIVE, 1, 1, 3, 3),
            IndexError,
            "3 cells of the output grid, got 3 at position 1",
        ),
        (lambda: ops.dense_table(ACTIVE, 1, 2, 2, 2), ValueError, "kernel must be odd.*got 2"),
        (lambda: ops.dense_table(ACTIVE, 1, 2, 2, 3, 0), ValueError, "stride must be at least 1, got 0"),
        (lambda: ops.dense_table(ACTIVE.flip(0), 1, 2, 2, 3), IndexError, "ascend.*got 0 at position 1"),
        (lambda: ops.packed_table(ACTIVE, 1, 0, 2, 3), ValueError, "height > 0"),
        (lambda: ops.packed_table(ACTIVE.long(), 1, 2, 2, 3), TypeError, "must be Int, got Long"),
        (
            lambda: ops.packed_table(ACTIVE, 1 << 20, 1 << 20, 1 << 20, 3),
            ValueError,
            "more cells than 32-bit",
        ),
        (lambda: ops.child_table(torch.zeros(2, 9, dtype=torch.int32), 9), ValueError, "at least 5 squared"),
        (lambda: ops.child_table(torch.full((2, 9), 3, dtype=torch.int32), 3), IndexError, "rows 0 to 2"),
    ],
)
def test_bad_arguments_say_what_was_got(call, error, message):
    with pytest.raises(error, match=message):
        call()
