"""The CUDA kernels' arithmetic and indexing, on a machine without a GPU.

The sources are compiled for the host with the machine's operations in software (simt/simt.h) and compared with
the reference, under every freedom that CUDA leaves to the machine.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pixeltier.native import ops, reference
from tests.unit.native.simt.fixtures import cuda, emulated, needs_compiler
from tests.unit.native.test_sparse_conv2d import MASKS, active_of, error

pytestmark = needs_compiler
__all__ = ["cuda", "emulated"]

# As docs/gpu.md promises for a GPU.
KERNELS = {
    ("cuda", torch.float32): 1e-5,
    ("cuda_tf32", torch.float32): 1e-3,
    ("cuda", torch.bfloat16): 1e-2,
    ("cuda", torch.float16): 1e-3,
}
on_every_kernel = pytest.mark.parametrize(("isa", "dtype"), KERNELS, ids=str)
FREEDOMS = [(late, descending) for late in (True, False) for descending in (True, False)]
"""Asynchronous copies that arrive late or at once, threads in descending or ascending order."""


def padded(active: torch.Tensor, cells: int) -> torch.Tensor:
    return torch.nn.functional.pad(active, (0, cells - len(active)), value=ops.PADDING)


grids = st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 60))


@examples(max_examples=40)
@given(grid=grids, seed=st.integers(0, 2**16), keep_best=st.booleans(), odd=st.booleans())
def test_plan_equals_reference(emulated, grid, seed, keep_best, odd):
    generator = torch.Generator().manual_seed(seed)
    importance = torch.rand(grid, generator=generator)
    if odd:  # ties, both zeros, infinities and NaN
        values = torch.tensor([0.0, -0.0, 0.5, torch.nan, torch.inf, -torch.inf])
        importance = values[torch.randint(len(values), grid, generator=generator)]
    threshold = torch.rand(grid[0], generator=generator) * 1.2
    emulated.configure(descending=bool(seed % 2))
    expected = reference.plan(importance, threshold, keep_best)
    active, counts = emulated.plan_padded(importance, threshold, keep_best)
    assert torch.equal(active[: len(expected)], expected)
    assert bool((active[len(expected) :] == ops.PADDING).all())
    cells = grid[1] * grid[2]
    assert torch.equal(counts, torch.bincount(expected // cells, minlength=grid[0]).int())


def test_plan_of_an_image_without_numbers_is_empty(emulated):
    active, counts = emulated.plan_padded(torch.full((1, 3, 3), torch.nan), torch.zeros(1), True)
    assert counts.tolist() == [0]
    assert bool((active == ops.PADDING).all())


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    kernel=st.sampled_from([1, 3, 5, 9]),
    stride=st.integers(1, 3),
    mask=st.sampled_from(MASKS),
    padding=st.integers(0, 300),
    seed=st.integers(0, 2**16),
)
def test_tables_equal_reference(emulated, grid, kernel, stride, mask, padding, seed):
    generator = torch.Generator().manual_seed(seed)
    images, height, width = grid
    out_grid = (images, (height - 1) // stride + 1, (width - 1) // stride + 1)
    strided = active_of(mask, out_grid, generator)
    count = len(strided)
    table = emulated.dense_table(padded(strided, count + padding), *grid, kernel, stride)
    assert torch.equal(table[:count], reference.dense_table(strided, *grid, kernel, stride))
    assert bool((table[count:] == ops.PADDING).all())

    active = active_of(mask, grid, generator)
    count, length = len(active), len(active) + padding
    table = emulated.packed_table(padded(active, length), *grid, kernel)
    expected = reference.packed_table(active, *grid, kernel)
    expected[expected == count] = length  # the zero row comes after the padding
    assert torch.equal(table[:count], expected)
    assert bool((table[count:] == ops.PADDING).all())
    if kernel in (3, 5):
        whole = torch.full((length, kernel * kernel), length, dtype=torch.int32)
        whole[:count] = expected
        finer = 2 * (kernel // 2) * 2 + 1 if kernel == 5 else 3
        children = emulated.child_table(table, finer)
        assert torch.equal(children[: 4 * count], reference.child_table(whole, finer)[: 4 * count])
        assert bool((children[4 * count :] == ops.PADDING).all())


def test_gathered_rows_are_those_named(emulated):
    rows = torch.randn(9, 6)
    out = emulated.gather_rows(rows, padded(torch.tensor([1, 4, 7], dtype=torch.int32), 5))
    assert torch.equal(out[:3], rows[[1, 4, 7]])
    assert not out[-1].any()


@on_every_kernel
def test_convolution_equals_reference(cuda, isa, dtype):
    """Shapes, masks, padding, structural zeros, shuffles, residuals; each under one of the machine's freedoms."""

    @examples(max_examples=25)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        draw = data.draw
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
        grid = draw(st.tuples(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14)))
        kernel = draw(st.sampled_from([1, 3, 3, 3, 9]))
        inputs = draw(st.sampled_from([1, 3, 8, 16, 21, 32, 64, 96] if kernel < 9 else [1, 8]))
        shuffle = draw(st.sampled_from([1, 1, 2]))
        outputs = draw(st.sampled_from([1, 3, 12, 37, 48, 64, 72, 136])) * shuffle**2
        active = active_of(draw(st.sampled_from(MASKS)), grid, generator)
        count, length = len(active), len(active) + draw(st.sampled_from([0, 1, 150]))
        table = reference.packed_table(active, *grid, kernel)
        table[table == count] = length
        table = torch.nn.functional.pad(table, (0, 0, 0, length - count), value=ops.PADDING)
        rows = torch.randn(length + 1, inputs, generator=generator).to(dtype)
        rows[count:] = torch.nan  # what nobody may read, the zero row included
        clean = rows.clone()
        clean[count:] = 0
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator) / (inputs**0.5 * kernel)
        zeros = draw(st.booleans())
        if zeros:
            weight[draw(st.integers(0, outputs)) :, :, 0] = 0
            weight[:, : inputs // 2, -1] = 0
        bias = draw(st.sampled_from([None, torch.randn(outputs, generator=generator)]))
        slope = draw(st.sampled_from([None, torch.zeros(outputs), torch.rand(outputs, generator=generator)]))
        residual = draw(
            st.sampled_from(
                [
                    None,
                    torch.randn(length * shuffle**2, outputs // shuffle**2, generator=generator).to(dtype),
                ]
            )
        )
        macs = weight.numel() - zeros
        cuda.configure(draw(st.sampled_from([1, 2, 50])), *draw(st.sampled_from(FREEDOMS)))
        packed = ops.prepack_weight(
            weight, bias, slope, dtype=dtype, shuffle=shuffle, macs_per_row=macs, isa=isa
        )
        out, executed = ops.sparse_conv2d(rows, table, packed, residual)
        assert executed == length * macs
        kept = None if residual is None else residual[: count * shuffle**2]
        expected, _ = reference.sparse_conv2d(
            clean, table[:count], weight.to(dtype), bias, slope, kept, shuffle=shuffle
        )
        assert not out[-1].any()
        assert bool(out[count * shuffle**2 : -1].isnan().all())  # padded rows are not written
        assert error(out[: count * shuffle**2], expected[:-1]) < KERNELS[isa, dtype]

    check()


@on_every_kernel
@pytest.mark.parametrize("outputs", [40, 64, 136])
@pytest.mark.parametrize("multiprocessors", [1, 100])
@pytest.mark.parametrize(("late", "descending"), [(True, False), (False, True)])
def test_every_tile_shape_under_every_freedom(cuda, isa, dtype, outputs, multiprocessors, late, descending):
    """More tiles than blocks or fewer; the tile shape follows from both."""
    generator = torch.Generator().manual_seed(outputs)
    cuda.configure(multiprocessors, late, descending)
    inputs, count = 32, 450
    rows = torch.randn(count + 1, inputs, generator=generator).to(dtype)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / 24
    table = torch.randint(0, count + 1, (count, 9), generator=generator, dtype=torch.int32)
    rows[-1] = 0
    packed = ops.prepack_weight(weight, dtype=dtype, isa=isa)
    out, _ = ops.sparse_conv2d(rows, table, packed)
    assert error(out, reference.sparse_conv2d(rows, table, weight.to(dtype))[0]) < KERNELS[isa, dtype]


def test_full_precision_floats_stay_precise_over_many_terms(cuda):
    generator = torch.Generator().manual_seed(9)
    rows = torch.rand(65, 512, generator=generator)  # no cancellation: truncated sums would drift
    rows[-1] = 0
    weight = torch.rand(32, 512, 3, 3, generator=generator)
    table = torch.randint(0, 64, (64, 9), generator=generator, dtype=torch.int32)
    out, _ = ops.sparse_conv2d(rows, table, ops.prepack_weight(weight, isa="cuda"))
    assert error(out, reference.sparse_conv2d(rows, table, weight)[0]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trunk_dtype", [None, torch.float32])
def test_scatter_changes_active_rows_only(cuda, dtype, trunk_dtype):
    generator = torch.Generator().manual_seed(3)
    grid, channels = (2, 9, 7), 48
    active = active_of("random", grid, generator)
    cells, count = 126, len(active)
    rows = torch.randn(cells + 1, 32, generator=generator).to(dtype)
    trunk = torch.randn(cells + 1, channels, generator=generator).to(trunk_dtype or dtype)
    weight = torch.randn(channels, 32, 3, 3, generator=generator).to(dtype).float() / 13
    bias, slope = torch.randn(channels, generator=generator), torch.zeros(channels)
    list_ = padded(active, cells)
    table = ops.packed_table(list_, *grid, 3)
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, isa="cuda")
    out = trunk.clone()
    ops.sparse_conv2d_scatter_(out, rows, table, packed, list_)
    clean = rows.clone()
    clean[-1] = 0
    sums, _ = reference.sparse_conv2d(clean.double(), table[:count], weight, bias)
    expected = trunk.double()
    expected[active.long()] = torch.relu(expected[active.long()] + sums[:-1])
    inactive = torch.ones(len(trunk), dtype=torch.bool)
    inactive[active.long()] = False
    assert torch.equal(out[inactive], trunk[inactive])
    assert error(out, expected) < KERNELS["cuda", dtype]


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_body_is_its_layers(cuda, layers):
    generator = torch.Generator().manual_seed(layers)
    grid, channels = (1, 9, 11), 16
    active = active_of("random", grid, generator)
    rows = torch.randn(len(active) + 1, channels, generator=generator)
    rows[-1] = 0
    table = reference.packed_table(active, *grid, 3)
    plain = [
        (
            torch.randn(channels, channels, 3, 3, generator=generator) / 12,
            torch.randn(channels, generator=generator),
            torch.rand(channels, generator=generator) if index % 2 == 0 else None,
        )
        for index in range(layers)
    ]
    packed = [ops.prepack_weight(*layer, isa="cuda") for layer in plain]
    out, _ = ops.sparse_residual_body(rows, table, packed)
    assert error(out, reference.sparse_residual_body(rows, table, plain)) < 1e-5


def test_entries_that_name_no_row_read_zeros(cuda):
    rows = torch.randn(5, 8)
    weight = torch.randn(16, 8, 1, 1)
    table = torch.tensor([[0], [4], [2**31 - 1], [-7]], dtype=torch.int32)
    out, _ = ops.sparse_conv2d(rows, table, ops.prepack_weight(weight, isa="cuda"))
    assert out[0].any()
    assert not out[1:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_rounded_as_torch_rounds(emulated, dtype):
    values = torch.cat(
        [
            torch.randn(4000, generator=torch.Generator().manual_seed(0)),
            torch.logspace(-12, 6, 500),
            torch.tensor(
                [0.0, 65519.0, 65520.0, 1e30, torch.inf, 2**-24, 2**-25, 3 * 2**-25, 2**-14, 1 + 2**-8]
            ),
        ]
    )
    values = torch.cat([values, -values])
    packed = emulated.prepack_weight(values.view(-1, 1, 1, 1), dtype, 1, "cuda")
    places = packed[: -(-len(values) // 16) * 16 * 64].view(-1, 16, 64)[:, :, 0]
    place = torch.tensor([4 * (p % 8 // 2) + 2 * (p // 8) + p % 2 for p in range(16)])
    outputs = torch.empty_like(places)
    outputs[:, place] = places
    assert torch.equal(outputs.flatten()[: len(values)], values.to(dtype))


def test_composed_image_equals_the_reference(emulated):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 7, generator=generator)
    x[1, 1:] = x[1, :1]  # a gray image
    pixels = torch.randn(2 * 5 * 7, 48, generator=generator) / 8
    pixels[3, 5] = torch.nan
    image = emulated.compose(x, pixels)
    off = (image.int() - reference.compose(x, pixels).int()).abs()
    assert int(off.max()) <= 1
    assert float(off.float().mean()) < 0.01
    assert torch.equal(image[1], image[1, ..., :1].expand(-1, -1, 3))
