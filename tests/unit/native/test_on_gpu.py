"""Every CUDA op on a GPU against the float64 reference; fresh random inputs in each run, whose seed is printed."""

from __future__ import annotations

import secrets

import pytest
import torch
from torch import Tensor

from pixeltier.native import ops, reference
from tests.unit.native.test_sparse_conv2d import MASKS, active_of, error

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and ops.has_cuda()), reason="no CUDA device here, or a build without CUDA"
)
KERNELS = {
    ("cuda", torch.float32): 1e-5,
    ("cuda_tf32", torch.float32): 1e-3,
    ("cuda", torch.bfloat16): 1e-2,
    ("cuda", torch.float16): 1e-3,
}
on_every_kernel = pytest.mark.parametrize(("isa", "dtype"), KERNELS, ids=str)
GPU = torch.device("cuda")


@pytest.fixture
def generator() -> torch.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 37, 53), (2, 270, 480)])
@pytest.mark.parametrize("keep_best", [False, True])
def test_plan(generator, grid, keep_best):
    importance = torch.rand(grid, generator=generator)
    importance[0, 0, 0] = torch.nan
    threshold = torch.rand(grid[0], generator=generator) * 1.2
    expected = reference.plan(importance, threshold, keep_best)
    active, counts = ops.plan_padded(importance.to(GPU), threshold.to(GPU), keep_best)
    assert torch.equal(active[: len(expected)].cpu(), expected)
    assert bool((active[len(expected) :] == ops.PADDING).all())
    assert int(counts.sum()) == len(expected)
    assert torch.equal(ops.plan(importance.to(GPU), threshold.to(GPU), keep_best).cpu(), expected)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (9, 1)])
def test_tables(generator, mask, kernel, stride):
    images, height, width = grid = (2, 21, 34)
    strided = active_of(mask, (images, (height - 1) // stride + 1, (width - 1) // stride + 1), generator)
    table = ops.dense_table(strided.to(GPU), *grid, kernel, stride)
    assert torch.equal(table.cpu(), reference.dense_table(strided, *grid, kernel, stride))
    active = active_of(mask, grid, generator)
    packed = ops.packed_table(active.to(GPU), *grid, kernel)
    assert torch.equal(packed.cpu(), reference.packed_table(active, *grid, kernel))
    if kernel == 3:
        assert torch.equal(ops.child_table(packed).cpu(), reference.child_table(packed.cpu()))


def convolve(rows: Tensor, table: Tensor, packed: ops.PackedWeight, residual: Tensor | None = None) -> Tensor:
    out, _ = ops.sparse_conv2d(
        rows.to(GPU), table.to(GPU), packed, None if residual is None else residual.to(GPU)
    )
    return out.cpu()


@on_every_kernel
@pytest.mark.parametrize("inputs", [3, 8, 21, 64, 160])
@pytest.mark.parametrize("outputs", [1, 12, 48, 64, 72, 256])
@pytest.mark.parametrize("mask", ["random", "full"])
def test_convolution(generator, isa, dtype, inputs, outputs, mask):
    grid = (2, 23, 31)
    active = active_of(mask, grid, generator)
    count = len(active)
    rows = torch.randn(count + 1, inputs, generator=generator).to(dtype)
    rows[-1] = 0
    table = reference.packed_table(active, *grid, 3)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)
    bias, slope = torch.randn(outputs, generator=generator), torch.rand(outputs, generator=generator)
    residual = torch.randn(count, outputs, generator=generator).to(dtype)
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, device=GPU, isa=isa)
    out = convolve(rows, table, packed, residual)
    expected, _ = reference.sparse_conv2d(rows, table, weight.to(dtype), bias, slope, residual)
    assert not out[-1].any()
    assert error(out, expected) < KERNELS[isa, dtype]
    assert torch.equal(out, convolve(rows, table, packed, residual))  # and twice the same


@on_every_kernel
def test_many_rows_in_large_tiles_with_a_shuffle(generator, isa, dtype):
    grid = (1, 270, 480)
    active = active_of("random", grid, generator)
    rows = torch.randn(len(active) + 1, 64, generator=generator).to(dtype)
    rows[-1] = 0
    table = ops.packed_table(active.to(GPU), *grid, 3).cpu()
    weight = torch.randn(256, 64, 3, 3, generator=generator) / 24
    packed = ops.prepack_weight(weight, dtype=dtype, shuffle=2, device=GPU, isa=isa)
    out = convolve(rows, table, packed)
    some = torch.randperm(len(active), generator=generator)[:500]
    sums = reference.convolution(rows, table[some], weight.to(dtype))
    expected = sums.view(len(some), 64, 4).transpose(1, 2)
    assert error(out[:-1].view(-1, 4, 64)[some], expected) < KERNELS[isa, dtype]


@on_every_kernel
def test_weights_with_structural_zeros_and_padding(generator, isa, dtype):
    count, length = 300, 1000
    rows = torch.randn(length + 1, 128, generator=generator).to(dtype)
    table = torch.randint(0, count, (count, 9), generator=generator, dtype=torch.int32)
    padded = torch.nn.functional.pad(table, (0, 0, 0, length - count), value=ops.PADDING)
    weight = torch.randn(48, 128, 3, 3, generator=generator) / 34
    weight[:20, :64] = 0
    weight[30:, :, 0] = 0
    packed = ops.prepack_weight(weight, dtype=dtype, macs_per_row=1, device=GPU, isa=isa)
    out = convolve(rows, padded, packed)
    expected, _ = reference.sparse_conv2d(rows, table, weight.to(dtype))
    assert error(out[:count], expected[:-1]) < KERNELS[isa, dtype]


@on_every_kernel
@pytest.mark.parametrize("wide_trunk", [False, True])
def test_scatter(generator, isa, dtype, wide_trunk):
    grid, channels = (2, 40, 37), 64
    active = active_of("random", grid, generator)
    rows = torch.randn(len(active) + 1, 64, generator=generator).to(dtype)
    rows[-1] = 0
    trunk = torch.randn(2 * 40 * 37 + 1, channels, generator=generator)
    trunk = trunk if wide_trunk else trunk.to(dtype)
    weight = torch.randn(channels, 64, 3, 3, generator=generator) / 24
    table = reference.packed_table(active, *grid, 3)
    out = trunk.to(GPU)
    packed = ops.prepack_weight(weight, None, torch.zeros(channels), dtype=dtype, device=GPU, isa=isa)
    ops.sparse_conv2d_scatter_(out, rows.to(GPU), table.to(GPU), packed, active.to(GPU))
    expected = trunk.double()
    sums = reference.convolution(rows, table, weight.to(dtype))
    expected[active.long()] = torch.relu(expected[active.long()] + sums)
    inactive = torch.ones(len(trunk), dtype=torch.bool)
    inactive[active.long()] = False
    assert torch.equal(out.cpu()[inactive], trunk[inactive])
    assert error(out.cpu(), expected) < KERNELS[isa, dtype]


@on_every_kernel
def test_residual_body(generator, isa, dtype):
    grid, channels = (1, 30, 41), 64
    active = active_of("random", grid, generator)
    rows = torch.randn(len(active) + 1, channels, generator=generator).to(dtype)
    rows[-1] = 0
    table = reference.packed_table(active, *grid, 3)
    plain = [
        (torch.randn(channels, channels, 3, 3, generator=generator) / 48, None, torch.rand(channels))
        for _ in range(3)
    ]
    packed = [ops.prepack_weight(*layer, dtype=dtype, device=GPU, isa=isa) for layer in plain]
    out, _ = ops.sparse_residual_body(rows.to(GPU), table.to(GPU), packed)
    rounded = [(weight.to(dtype), bias, slope) for weight, bias, slope in plain]
    expected = reference.sparse_residual_body(rows, table, rounded)
    assert error(out.cpu(), expected) < 2 * KERNELS[isa, dtype]


def test_compose(generator):
    x = torch.rand(2, 3, 27, 31, generator=generator)
    pixels = torch.randn(2 * 27 * 31, 48, generator=generator) / 8
    image = ops.compose(x.to(GPU), pixels.to(GPU)).cpu()
    assert int((image.int() - ops.compose(x, pixels).int()).abs().max()) <= 1
