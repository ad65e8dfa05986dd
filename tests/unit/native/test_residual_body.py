"""A whole body in one call equals the single calls, bit for bit."""

from __future__ import annotations

import pytest
import torch

from pixeltier import native
from pixeltier.native import ops, reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}


def layers_of(count: int, channels: int, generator: torch.Generator) -> list[tuple[torch.Tensor, ...]]:
    """Small weights, so that values stay near the input's size through all blocks."""
    weights = [
        torch.randn(channels, channels, 3, 3, generator=generator).bfloat16().float() / (16 * channels**0.5)
        for _ in range(count)
    ]
    return [
        (weight, torch.randn(channels, generator=generator) / 8, torch.rand(channels, generator=generator))
        for weight in weights
    ]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_equals_single_calls(isa, dtype, count, share):
    generator = torch.Generator().manual_seed(5)
    grid, channels = (2, 8, 9), 24
    active = ops.plan(torch.rand(grid, generator=generator), torch.full((2,), 1 - share))
    table = ops.packed_table(active, *grid, 3)
    rows = torch.randn(len(active) + 1, channels, generator=generator).to(dtype)
    rows[-1] = 0
    layers = layers_of(count, channels, generator)
    packed = [ops.prepack_weight(*layer, dtype=dtype, isa=isa) for layer in layers]
    expected, macs = rows, 0
    for first, second in zip(packed[0::2], packed[1::2], strict=False):
        inner, first_macs = ops.sparse_conv2d(expected, table, first)
        expected, second_macs = ops.sparse_conv2d(inner, table, second, expected)
        macs += first_macs + second_macs
    if count % 2:
        expected, last_macs = ops.sparse_conv2d(expected, table, packed[-1], rows)
        macs += last_macs
    before = rows.clone()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out, out_macs = ops.sparse_residual_body(rows, table, packed)
        assert torch.equal(out, expected)
        assert out_macs == macs
    assert torch.equal(rows, before)
    oracle = reference.sparse_residual_body(rows, table, layers)
    assert (out.double() - oracle).norm() <= TOLERANCE[dtype] * oracle.double().norm()


ROWS, TABLE = torch.zeros(3, 4), torch.full((2, 9), 2, dtype=torch.int32)


@pytest.mark.parametrize(
    ("weights", "rows", "message"),
    [
        ([], ROWS, r"packed for one instruction set and without shuffle, got none"),
        ([{"shuffle": 2}], ROWS, r"without shuffle, got \w+ shuffle=2"),
        ([{}], torch.zeros(4, 4), r"rows must be those of its table, 2 and a zero row, got 4"),
        ([{}], torch.zeros(3, 5), r"rows of 5 channels and a table of 9 taps need"),
    ],
)
def test_bad_arguments_say_what_was_got(weights, rows, message):
    layers = [ops.prepack_weight(torch.rand(4, 4, 3, 3), **options) for options in weights]
    with pytest.raises(ValueError, match=message):
        ops.sparse_residual_body(rows, TABLE, layers)
