"""Convolutions with SiLU and the gate against the reference: shapes, masks, instruction sets, threads, curves."""

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
EMULATED = ["amx_emulated"] if "avx512_bf16" in ISAS else []
KERNELS = [(isa, dtype) for isa in ISAS for dtype in TOLERANCE] + [(isa, torch.bfloat16) for isa in EMULATED]
on_every_kernel = pytest.mark.parametrize(("isa", "dtype"), KERNELS, ids=str)
ACTIVATIONS = ["prelu", "silu", "gate"]
grids = st.tuples(st.integers(1, 2), st.integers(1, 13), st.integers(1, 13))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The root mean square error relative to the root mean square of what is expected."""
    return float((actual.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30))


def random_rows(count: int, channels: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    rows = torch.randn(count + 1, channels, generator=generator).to(dtype)
    rows[-1] = 0
    return rows


@on_every_kernel
@given(data=st.data())
def test_equals_reference_on_any_number_of_threads(isa, dtype, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    grid, share = data.draw(grids), data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    active = ops.plan(torch.rand(grid, generator=generator), torch.full((grid[0],), 1 - share))
    winograd = ops.has_winograd(dtype, isa) and data.draw(st.booleans())
    kernel = 3 if winograd else data.draw(st.sampled_from([1, 3]))
    inputs, outputs = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    activation = data.draw(st.sampled_from(ACTIVATIONS))
    rows = random_rows(len(active), inputs, dtype, generator)
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator) / (kernel * inputs**0.5)
    weight = weight.to(dtype).float()
    bias = torch.randn(outputs, generator=generator) if data.draw(st.booleans()) else None
    slope = torch.rand(outputs, generator=generator) if activation == "prelu" else None
    residual = None
    if activation == "gate" or data.draw(st.booleans()):
        residual = random_rows(len(active), outputs, dtype, generator)
    in_place = residual is not None and data.draw(st.booleans())
    result = data.draw(st.sampled_from([dtype, torch.float32])) if not in_place else dtype
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, isa=isa, winograd=winograd)
    table = ops.packed_table(active, *grid, kernel)
    where = ops.tile_table(active, *grid, packed=True) if winograd else table
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        out = torch.full((len(active) + 1, outputs), torch.nan, dtype=result)
        given_residual = residual
        if in_place:
            assert residual is not None
            given_residual = out = residual.clone()
        macs = ops.activated_conv2d_(out, rows, where, packed, activation, given_residual)
        results.append(out)
        assert macs == len(active) * weight.numel()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    expected = torch.empty(len(active) + 1, outputs, dtype=torch.float64)
    reference.activated_conv2d_(expected, rows, table, weight, bias, slope, activation, residual)
    assert not results[0][-1].any()
    # Winograd's transforms round to bfloat16 by the size of a whole patch; a few values do not average out.
    average = min(grid[1:]) >= 4 and len(active) * outputs >= 2048
    assert error(results[0], expected) < (1 if average else 3) * TOLERANCE[dtype]


def identity(values: torch.Tensor, activation: str, isa: str, residual: torch.Tensor | None) -> torch.Tensor:
    """The activation alone, of float32 values."""
    count = len(values)
    rows = torch.cat([values, torch.zeros(1)])[:, None]
    packed = ops.prepack_weight(torch.ones(1, 1, 1, 1), isa=isa)
    out = torch.empty(count + 1, 1)
    table = torch.arange(count, dtype=torch.int32)[:, None]
    ops.activated_conv2d_(
        out, rows, table, packed, activation, None if residual is None else residual[:, None]
    )
    return out[:-1, 0]


@pytest.mark.parametrize("isa", ISAS)
def test_silu_is_accurate_to_a_few_units_in_the_last_place(isa):
    values = torch.cat([torch.linspace(-85, 88, 200_001), torch.logspace(-30, 1, 1001), torch.zeros(1)])
    expected = values.double() * torch.sigmoid(values.double())
    difference = (identity(values, "silu", isa, None).double() - expected).abs()
    assert (difference <= 4 * 2**-24 * 2 * expected.abs()).all()


@pytest.mark.parametrize("isa", ISAS)
def test_gate_is_as_accurate_as_its_difference_of_floats(isa):
    values = torch.cat([torch.linspace(-100, 100, 200_001), torch.zeros(1)])
    residual = torch.randn(len(values), generator=torch.Generator().manual_seed(0)) * 4
    expected = reference.gate(values.double(), residual.double())
    difference = (identity(values, "gate", isa, residual).double() - expected).abs()
    assert (difference <= 2e-7 * (values.double() + residual.double()).abs() + 1e-30).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", ["silu", "gate"])
def test_far_values_have_their_limits(isa, activation):
    values = torch.tensor([-3e38, -1e4, -89.0, -87.5, 88.6, 89.0, 1e4, 3e38, torch.inf, torch.nan])
    zeros = torch.zeros(len(values))
    actual = identity(values, activation, isa, zeros if activation == "gate" else None)
    expected = values.clamp(min=0) if activation == "silu" else values.abs() / 2
    assert actual[-1].isnan()
    torch.testing.assert_close(actual[:-1], expected[:-1], rtol=1e-6, atol=1e-35)


def test_a_shuffle_orders_the_outputs():
    generator = torch.Generator().manual_seed(1)
    weight, rows = torch.randn(48, 8, 3, 3, generator=generator), random_rows(6, 8, torch.float32, generator)
    table = ops.packed_table(torch.arange(6, dtype=torch.int32), 1, 2, 3, 3)
    packed = ops.prepack_weight(weight, shuffle=4)
    out = torch.empty(7, 48)
    ops.activated_conv2d_(out, rows, table, packed)
    expected, _ = ops.sparse_conv2d(rows, table, packed)
    assert torch.equal(out[:-1].view(-1, 3), expected[:-1])


@pytest.mark.parametrize("tiled", [False, True])
def test_op_passes_opcheck(tiled):
    generator = torch.Generator().manual_seed(2)
    rows, residual = (random_rows(6, 8, torch.float32, generator) for _ in range(2))
    active = torch.arange(6, dtype=torch.int32)
    table, outputs = ops.packed_table(active, 1, 2, 3, 3), None
    if tiled:
        tiles = ops.tile_table(active, 1, 2, 3, packed=True)
        table, outputs = tiles.table, tiles.outputs
    packed = ops.prepack_weight(torch.randn(8, 8, 3, 3), winograd=tiled)
    call = (torch.empty(7, 8), rows, table, outputs, packed.weight, None, None, residual, "gate", packed.isa)
    torch.library.opcheck(torch.ops.pixeltier.activated_conv2d_.default, call)


ROWS, TABLE = torch.zeros(5, 8), torch.full((4, 9), 4, dtype=torch.int32)


def call(**changes: Any) -> object:
    slope = changes.pop("slope", None)
    values: dict[str, Any] = {"out": torch.zeros(5, 12), "rows": ROWS, "where": TABLE} | changes
    packed = ops.prepack_weight(torch.rand(12, 8, 3, 3), slope=slope)
    return ops.activated_conv2d_(
        values["out"],
        values["rows"],
        values["where"],
        packed,
        values.get("activation", "gate"),
        values.get("residual", torch.zeros(4, 12)),
    )


SHARED = torch.zeros(100)


@pytest.mark.parametrize(
    ("change", "raised", "message"),
    [
        ({"activation": "relu"}, ValueError, "must be prelu, silu or gate, got 'relu'"),
        ({"residual": None}, ValueError, "a gate needs a residual"),
        ({"residual": torch.zeros(3, 12)}, ValueError, r"residual must be \[4 or more, 12\], got \[3, 12\]"),
        ({"residual": torch.zeros(4, 12).double()}, TypeError, "residual must be Float, got Double"),
        ({"slope": torch.zeros(1)}, ValueError, "slopes go with prelu, got gate"),
        ({"out": torch.zeros(4, 12)}, ValueError, "a row for each of the table's 4 and one of zeros, got 4"),
        ({"out": torch.zeros(5, 40)}, ValueError, "packed weights for 40 outputs"),
        (
            {"out": torch.zeros(5, 12).double()},
            TypeError,
            "out must hold float32 or what rows hold, got Double",
        ),
        ({"where": TABLE + 1}, IndexError, "outside of 0 to 4"),
        (
            {"out": SHARED[:60].view(5, 12), "rows": SHARED[59:99].view(5, 8)},
            ValueError,
            "out and rows must not share memory",
        ),
        (
            {"out": SHARED[:60].view(5, 12), "residual": SHARED[12:60].view(4, 12)},
            ValueError,
            "residual must be out itself or share no memory",
        ),
    ],
)
def test_bad_arguments_say_what_was_got(change, raised, message):
    with pytest.raises(raised, match=message):
        call(**change)
