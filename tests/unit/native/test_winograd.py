"""Winograd's tiles against the reference's plain convolution: shapes, masks, instruction sets, threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier import native
from pixeltier.native import ops, reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
ISAS = native.available_isas()
KERNELS = [
    (isa, dtype, tile)
    for isa in ISAS
    for dtype in (torch.float32, torch.bfloat16)
    for tile in (2, 4)
    if ops.has_winograd(dtype, isa, tile)
]
on_every_kernel = pytest.mark.parametrize(("isa", "dtype", "tile"), KERNELS, ids=str)
grids = st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13))
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def active_of(grid: tuple[int, int, int], share: float, generator: torch.Generator) -> torch.Tensor:
    return ops.plan(torch.rand(grid, generator=generator), torch.full((grid[0],), 1 - share))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    expected = expected.double()
    return float((actual.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def random_rows(count: int, channels: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    rows = torch.randn(count + 1, channels, generator=generator).to(dtype)
    rows[-1] = 0
    return rows


@given(grid=grids, share=shares, packed=st.booleans(), size=st.sampled_from([2, 4]), seed=st.integers(0, 99))
def test_tile_table(grid, share, packed, size, seed):
    active = active_of(grid, share, torch.Generator().manual_seed(seed))
    tiles = ops.tile_table(active, *grid, packed=packed, size=size)
    table, outputs = reference.tile_table(active, *grid, packed, size)
    assert torch.equal(tiles.table, table)
    assert torch.equal(tiles.outputs, outputs)
    assert tiles.count == len(active)


@given(grid=grids, share=shares, seed=st.integers(0, 99))
def test_child_tiles_are_the_tiles_of_the_children(grid, share, seed):
    """The 3x3 neighbourhoods inside a tile's patch are those that child_table names."""
    active = active_of(grid, share, torch.Generator().manual_seed(seed))
    parent = ops.packed_table(active, *grid, 3)
    tiles = ops.child_tile_table(parent)
    children = ops.child_table(parent).view(-1, 4, 3, 3)
    patch = tiles.table.view(-1, 4, 4)
    for k in range(4):
        y, x = divmod(k, 2)
        assert torch.equal(patch[:, y : y + 3, x : x + 3], children[:, k])
    assert torch.equal(tiles.outputs.flatten(), torch.arange(4 * len(active), dtype=torch.int32))


@on_every_kernel
@given(data=st.data())
def test_equals_the_convolution(isa, dtype, tile, data):
    grid, share = data.draw(grids), data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    inputs, channels = data.draw(st.integers(8, 140)), data.draw(st.integers(8, 70))
    shuffle = data.draw(st.sampled_from([1, 1, 2]))
    active = active_of(grid, share, generator)
    outputs = channels * shuffle**2
    rows = random_rows(len(active), inputs, dtype, generator)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator).to(dtype).float() / (3 * inputs**0.5)
    bias = torch.randn(outputs, generator=generator) if data.draw(st.booleans()) else None
    slope = torch.rand(outputs, generator=generator) if data.draw(st.booleans()) else None
    residual = None
    if data.draw(st.booleans()):
        residual = torch.randn(len(active) * shuffle**2 + 1, channels, generator=generator).to(dtype)
    packed = ops.prepack_weight(
        weight, bias, slope, dtype=dtype, shuffle=shuffle, isa=isa, winograd=True, tile=tile
    )
    tiles = ops.tile_table(active, *grid, packed=True, size=tile)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out, macs = ops.sparse_conv2d(rows, tiles, packed, residual)
        results.append(out)
        assert macs == len(active) * 9 * inputs * outputs
    assert torch.equal(*results)
    table = ops.packed_table(active, *grid, 3)
    expected, _ = reference.sparse_conv2d(rows, table, weight, bias, slope, residual, shuffle=shuffle)
    assert results[0].shape == expected.shape
    assert not results[0][-1].any()
    # In bf16 the transforms' roundings are of the size of a whole patch: a cell at an edge, with few neighbours,
    # has as much error on a smaller value, and a few values do not average out.
    average = min(grid[1:]) >= 4 and len(active) * outputs >= 2048
    assert error(results[0], expected) < (1 if average else 2) * TOLERANCE[dtype]


@on_every_kernel
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_scatter_reads_and_writes_a_dense_trunk(isa, dtype, tile, share):
    generator = torch.Generator().manual_seed(1)
    grid, channels = (2, 9, 8), 36
    active = active_of(grid, share, generator)
    trunk = random_rows(grid[0] * grid[1] * grid[2], channels, dtype, generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator).to(dtype).float() / 18
    bias, slope = torch.randn(channels, generator=generator), torch.zeros(channels)
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, isa=isa, winograd=True, tile=tile)
    in_place = ops.tile_table(active, *grid, packed=False, size=tile)
    inner, _ = ops.sparse_conv2d(trunk, in_place, packed)
    expected_inner, _ = reference.sparse_conv2d(trunk, ops.dense_table(active, *grid, 3), weight, bias, slope)
    assert error(inner, expected_inner) <= TOLERANCE[dtype]
    out, expected = trunk.clone(), trunk.clone()
    macs = ops.sparse_conv2d_scatter_(
        out, inner, ops.tile_table(active, *grid, packed=True, size=tile), packed, active
    )
    assert macs == len(active) * 9 * channels**2
    table = ops.packed_table(active, *grid, 3)
    reference.sparse_conv2d_scatter_(expected, inner, table, weight, bias, slope, active)
    inactive = torch.ones(len(trunk), dtype=torch.bool)
    inactive[active.long()] = False
    assert torch.equal(out[inactive], trunk[inactive])
    assert error(out, expected) <= TOLERANCE[dtype]


@on_every_kernel
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_body_equals_single_calls(isa, dtype, tile, count):
    generator = torch.Generator().manual_seed(2)
    grid, channels = (1, 8, 11), 40
    active = active_of(grid, 0.6, generator)
    tiles = ops.tile_table(active, *grid, packed=True, size=tile)
    rows = random_rows(len(active), channels, dtype, generator)
    packed = []
    for _ in range(count):
        weight = torch.randn(channels, channels, 3, 3, generator=generator) / 60
        bias = torch.randn(channels, generator=generator)
        packed.append(ops.prepack_weight(weight, bias, None, dtype=dtype, isa=isa, winograd=True, tile=tile))
    expected = rows
    for first, second in zip(packed[0::2], packed[1::2], strict=False):
        inner, _ = ops.sparse_conv2d(expected, tiles, first)
        expected, _ = ops.sparse_conv2d(inner, tiles, second, expected)
    if count % 2:
        expected, _ = ops.sparse_conv2d(expected, tiles, packed[-1], rows)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out, macs = ops.sparse_residual_body(rows, tiles, packed)
        assert torch.equal(out, expected)
        assert macs == count * len(active) * 9 * channels**2


def test_ops_pass_opcheck():
    generator = torch.Generator().manual_seed(3)
    grid, channels = (1, 5, 6), 16
    active = active_of(grid, 0.5, generator)
    tiles = ops.tile_table(active, *grid, packed=True)
    rows = random_rows(len(active), channels, torch.float32, generator)
    packed = ops.prepack_weight(torch.randn(channels, channels, 3, 3), winograd=True)
    call = (rows, tiles.table, tiles.outputs, packed.weight, None, None)
    namespace = torch.ops.pixeltier
    trunk = random_rows(30, channels, torch.float32, generator)
    for op, arguments in [
        (namespace.tile_table, (active, *grid, True, 2)),
        (namespace.tile_table, (active, *grid, False, 4)),
        (namespace.child_tile_table, (ops.packed_table(active, *grid, 3),)),
        (namespace.winograd_conv2d, (*call, None, tiles.count, channels, 1, packed.isa)),
        (namespace.winograd_conv2d_scatter_, (trunk, *call, active, channels, packed.isa)),
        (
            namespace.winograd_residual_body,
            (rows, tiles.table, tiles.outputs, [packed.weight], [None], [None], packed.isa),
        ),
    ]:
        torch.library.opcheck(op.default, arguments)


def valid() -> dict[str, Any]:
    active = torch.arange(6, dtype=torch.int32)
    return {
        "rows": torch.zeros(7, 8),
        "tiles": ops.tile_table(active, 1, 2, 3, packed=True),
        "packed": ops.prepack_weight(torch.rand(8, 8, 3, 3), winograd=True),
    }


@pytest.mark.parametrize(
    ("change", "raised", "message"),
    [
        ({"packed": ops.prepack_weight(torch.rand(8, 8, 3, 3))}, ValueError, "needs Tiles, any other one"),
        (
            {"tiles": ops.packed_table(torch.arange(6, dtype=torch.int32), 1, 2, 3, 3)},
            ValueError,
            "needs Tiles",
        ),
        ({"rows": torch.zeros(6, 8)}, IndexError, "outside of 0 to 5"),
        ({"rows": torch.zeros(7, 9)}, ValueError, "rows of 9 channels and a table of 16 taps"),
        ({"outputs": [[0, 1, 2, 6], [3, 4, 5, -1]]}, IndexError, "rows 0 to 5 or -1, got 6"),
        ({"outputs": [[0, 1, 2, -2], [3, 4, 5, -1]]}, IndexError, "or -1, got -2"),
        ({"outputs": [[0, 1, 2, -1], [3, 4, -1, -1]]}, ValueError, "each of 6 output rows once, got 5"),
        ({"outputs": [[0, 1, 2, 3]]}, ValueError, r"table \[tiles, 16\] and outputs \[tiles, 4\], or"),
    ],
)
def test_bad_arguments_say_what_was_got(change, raised, message):
    case = valid() | {k: v for k, v in change.items() if k != "outputs"}
    if "outputs" in change:
        case["tiles"] = ops.Tiles(
            case["tiles"].table, torch.tensor(change["outputs"], dtype=torch.int32), case["tiles"].count
        )
    with pytest.raises(raised, match=message):
        ops.sparse_conv2d(case["rows"], case["tiles"], case["packed"])


def test_other_kernels_are_refused():
    with pytest.raises(ValueError, match=r"needs 3x3 kernels, got shape \(4, 4, 5, 5\)"):
        ops.prepack_weight(torch.rand(4, 4, 5, 5), winograd=True)
    with pytest.raises(ValueError, match="tiles are of 2x2 or 4x4, got tile 3"):
        ops.prepack_weight(torch.rand(4, 4, 3, 3), winograd=True, tile=3)
    active = torch.arange(6, dtype=torch.int32)
    with pytest.raises(ValueError, match="tiles are of 2x2 or 4x4, got size 3"):
        ops.tile_table(active, 1, 2, 3, packed=True, size=3)
    large = ops.tile_table(active, 1, 2, 3, packed=True, size=4)
    with pytest.raises(ValueError, match="a table of 36 taps need"):
        ops.sparse_conv2d(torch.zeros(7, 8), large, valid()["packed"])
    half = ops.prepack_weight(torch.rand(8, 8, 3, 3), dtype=torch.bfloat16, winograd=True, tile=4)
    assert not ops.has_winograd(torch.bfloat16, tile=4)
    with pytest.raises(TypeError, match=r"tiles of 4x4 need float32 rows|has no Winograd kernel"):
        ops.sparse_conv2d(torch.zeros(7, 8, dtype=torch.bfloat16), large, half)
    if "avx512_bf16" in ISAS:
        rows, tiles = torch.zeros(7, 8, dtype=torch.bfloat16), valid()["tiles"]
        packed = ops.prepack_weight(
            torch.rand(8, 8, 3, 3), dtype=torch.bfloat16, isa="amx_emulated", winograd=True
        )
        with pytest.raises(TypeError, match="has no Winograd kernel"):
            ops.sparse_conv2d(rows, tiles, packed)
