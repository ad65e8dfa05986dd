"""The sparse convolution against the reference: shapes, masks, instruction sets, threads."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixeltier import native
from pixeltier.native import ops, reference

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
ISAS = native.available_isas()
DTYPES = [torch.float32, torch.bfloat16]
# The AMX kernel's logic is tested with its tiles in software, where the rest of it (AVX-512-BF16) can run.
EMULATED = ["amx_emulated"] if "avx512_bf16" in ISAS else []
KERNELS = [(isa, dtype) for isa in ISAS for dtype in DTYPES] + [(isa, torch.bfloat16) for isa in EMULATED]
on_every_kernel = pytest.mark.parametrize(("isa", "dtype"), KERNELS, ids=str)
MASKS = ["empty", "full", "single", "checkerboard", "random"]


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The root mean square error relative to the root mean square of what is expected."""
    expected = expected.double()
    return float((actual.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def active_of(mask: str, grid: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
    cells = grid[0] * grid[1] * grid[2]
    _, y, x = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    chosen = {
        "empty": torch.zeros(cells, dtype=torch.bool),
        "full": torch.ones(cells, dtype=torch.bool),
        "single": torch.arange(cells) == int(torch.randint(cells, (), generator=generator)),
        "checkerboard": ((x + y) % 2 == 0).reshape(-1),
        "random": torch.rand(cells, generator=generator) < 0.3,
    }[mask]
    return chosen.nonzero()[:, 0].to(torch.int32)


@dataclass
class Case:
    rows: torch.Tensor
    table: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    slope: torch.Tensor | None
    residual: torch.Tensor | None
    shuffle: int

    def packed(self, isa: str) -> ops.PackedWeight:
        return ops.prepack_weight(
            self.weight, self.bias, self.slope, dtype=self.rows.dtype, shuffle=self.shuffle, isa=isa
        )

    def expected(self) -> torch.Tensor:
        weight = self.weight.to(self.rows.dtype)
        out, _ = reference.sparse_conv2d(
            self.rows, self.table, weight, self.bias, self.slope, self.residual, shuffle=self.shuffle
        )
        return out


@st.composite
def cases(draw: st.DrawFn, dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    images, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)))
    kernel, stride = draw(st.sampled_from([(1, 1), (1, 2), (3, 1), (3, 2), (9, 1)]))
    inputs = draw(st.integers(1, 70))
    shuffle = draw(st.sampled_from([1, 1, 2, 4]))
    outputs = draw(st.integers(1, 100 // shuffle**2)) * shuffle**2
    out_grid = (images, (height - 1) // stride + 1, (width - 1) // stride + 1)
    active = active_of(draw(st.sampled_from(MASKS)), out_grid, generator)
    packed_rows = stride == 1 and draw(st.booleans())
    count = len(active) if packed_rows else images * height * width
    rows = torch.randn(count + 1, inputs, generator=generator).to(dtype)
    rows[-1] = 0
    table = (
        ops.packed_table(active, *out_grid, kernel)
        if packed_rows
        else ops.dense_table(active, images, height, width, kernel, stride)
    )
    residual_rows = len(active) * shuffle**2 + draw(st.integers(0, 1))
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator) / (inputs**0.5 * kernel)
    if draw(st.booleans()):  # structural zeros, which kernels skip
        tap = draw(st.integers(0, kernel - 1))
        weight[draw(st.integers(0, outputs)) :, :, tap] = 0
        weight[: draw(st.integers(0, outputs)), :64, :, tap] = 0
    return Case(
        rows,
        table,
        weight,
        torch.randn(outputs, generator=generator) if draw(st.booleans()) else None,
        draw(st.sampled_from([None, torch.zeros(outputs), torch.rand(outputs, generator=generator)])),
        torch.randn(residual_rows, outputs // shuffle**2, generator=generator).to(dtype)
        if draw(st.booleans())
        else None,
        shuffle,
    )


@on_every_kernel
def test_equals_reference_on_any_number_of_threads(isa, dtype):
    @given(cases(dtype))
    def check(case: Case) -> None:
        packed = case.packed(isa)
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out, macs = ops.sparse_conv2d(case.rows, case.table, packed, case.residual)
            results.append(out)
            assert macs == len(case.table) * case.weight.numel()
        assert torch.equal(*results)
        expected = case.expected()
        assert out.shape == expected.shape
        assert out.dtype == dtype
        assert not out[-1].any()
        assert error(out, expected) < TOLERANCE[dtype]

    check()


@on_every_kernel
def test_a_row_does_not_depend_on_its_place(isa, dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(201, 48, generator=generator).to(dtype)
    rows[-1] = 0
    packed = ops.prepack_weight(torch.randn(72, 48, 3, 3, generator=generator), dtype=dtype, isa=isa)
    table = torch.randint(0, 201, (200, 9), generator=generator, dtype=torch.int32)
    whole, _ = ops.sparse_conv2d(rows, table, packed)
    for begin, end in [(0, 1), (5, 19), (3, 200), (100, 131)]:
        part, _ = ops.sparse_conv2d(rows, table[begin:end].contiguous(), packed)
        assert torch.equal(part[:-1], whole[begin:end])


@on_every_kernel
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (9, 1)])
def test_full_mask_equals_conv2d(isa, dtype, kernel, stride):
    generator = torch.Generator().manual_seed(1)
    images, height, width, inputs, outputs = 2, 11, 14, 20, 37
    x = torch.randn(images, inputs, height, width, generator=generator).to(dtype)
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator).to(dtype)
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), stride=stride, padding=kernel // 2)
    rows = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, inputs), torch.zeros(1, inputs, dtype=dtype)])
    active = torch.arange(expected[:, 0].numel(), dtype=torch.int32)
    table = ops.dense_table(active, images, height, width, kernel, stride)
    out, _ = ops.sparse_conv2d(rows, table, ops.prepack_weight(weight, dtype=dtype, isa=isa))
    assert error(out[:-1], expected.permute(0, 2, 3, 1).reshape(-1, outputs)) < TOLERANCE[dtype]


@on_every_kernel
@pytest.mark.parametrize("shuffle", [2, 4])
def test_shuffle_equals_pixel_shuffle(isa, dtype, shuffle):
    generator = torch.Generator().manual_seed(2)
    height, width, inputs, channels = 5, 6, 16, 7
    x = torch.randn(1, inputs, height, width, generator=generator).to(dtype)
    weight = torch.randn(channels * shuffle**2, inputs, 3, 3, generator=generator).to(dtype).float()
    bias, slope = (
        torch.randn(channels * shuffle**2, generator=generator),
        torch.rand(channels, generator=generator),
    )
    dense = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    expected = torch.nn.functional.prelu(torch.nn.functional.pixel_shuffle(dense, shuffle), slope.double())
    rows = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, inputs), torch.zeros(1, inputs, dtype=dtype)])
    table = ops.packed_table(torch.arange(height * width, dtype=torch.int32), 1, height, width, 3)
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, shuffle=shuffle, isa=isa)
    out, _ = ops.sparse_conv2d(rows, table, packed)
    image = torch.nn.functional.pixel_shuffle(
        out[:-1]
        .reshape(height, width, shuffle**2, channels)
        .permute(3, 2, 0, 1)
        .reshape(1, -1, height, width),
        shuffle,
    )
    assert error(image, expected) < TOLERANCE[dtype]


@on_every_kernel
@pytest.mark.parametrize("mask", MASKS)
def test_scatter_changes_active_rows_only(isa, dtype, mask):
    generator = torch.Generator().manual_seed(3)
    grid, channels = (2, 9, 7), 34
    active = active_of(mask, grid, generator)
    rows = torch.randn(len(active) + 1, 20, generator=generator).to(dtype)
    rows[-1] = 0
    trunk = torch.randn(grid[0] * grid[1] * grid[2] + 1, channels, generator=generator).to(dtype)
    weight = torch.randn(channels, 20, 3, 3, generator=generator).to(dtype).float() / 13
    bias, slope = torch.randn(channels, generator=generator), torch.zeros(channels)
    table = ops.packed_table(active, *grid, 3)
    packed = ops.prepack_weight(weight, bias, slope, dtype=dtype, macs_per_row=7, isa=isa)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = trunk.clone()
        assert ops.sparse_conv2d_scatter_(out, rows, table, packed, active) == 7 * len(active)
        results.append(out)
    assert torch.equal(*results)
    expected = trunk.clone()
    reference.sparse_conv2d_scatter_(expected, rows, table, weight, bias, slope, active)
    inactive = torch.ones(len(trunk), dtype=torch.bool)
    inactive[active.long()] = False
    assert torch.equal(out[inactive], trunk[inactive])
    assert error(out, expected) < TOLERANCE[dtype]


@on_every_kernel
def test_many_channels_and_few_rows(isa, dtype):
    """Where the threads share out output blocks instead of rows."""
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(50, 256, generator=generator).to(dtype)
    rows[-1] = 0
    weight = torch.randn(256, 256, 3, 3, generator=generator).to(dtype).float() / 64
    table = ops.packed_table(torch.arange(49, dtype=torch.int32), 1, 7, 7, 3)
    packed = ops.prepack_weight(weight, dtype=dtype, isa=isa)
    results = []
    for threads in (1, 2, 3, 7, 16):
        torch.set_num_threads(threads)
        results.append(ops.sparse_conv2d(rows, table, packed)[0])
    assert all(torch.equal(result, results[0]) for result in results)
    assert error(results[0], reference.sparse_conv2d(rows, table, weight)[0]) < TOLERANCE[dtype]


@on_every_kernel
def test_few_channels_and_many_rows(isa, dtype):
    """More rows than kernels take or order at a time."""
    generator = torch.Generator().manual_seed(6)
    grid = (1, 120, 160)
    active = ops.plan(torch.rand(grid, generator=generator), torch.full((1,), 0.5))
    rows = torch.randn(len(active) + 1, 3, generator=generator).to(dtype)
    rows[-1] = 0
    weight = torch.randn(5, 3, 3, 3, generator=generator).to(dtype).float()
    table = ops.packed_table(active, *grid, 3)
    packed = ops.prepack_weight(weight, dtype=dtype, isa=isa)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(ops.sparse_conv2d(rows, table, packed)[0])
    assert torch.equal(*results)
    assert error(results[0], reference.sparse_conv2d(rows, table, weight)[0]) < TOLERANCE[dtype]


@pytest.mark.parametrize("isa", [*ISAS, *EMULATED])
def test_bf16_is_rounded_to_nearest_even(isa):
    values = torch.tensor(
        [1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3e38, torch.inf, torch.nan, 0]
    )
    values = values.repeat(5)
    packed = ops.prepack_weight(torch.zeros(len(values), 1, 1, 1), values, dtype=torch.bfloat16, isa=isa)
    rows = torch.tensor([[1.0], [0.0]], dtype=torch.bfloat16)
    out, _ = ops.sparse_conv2d(rows, torch.zeros(1, 1, dtype=torch.int32), packed)
    assert torch.equal(out[0].nan_to_num(nan=7), values.to(torch.bfloat16).nan_to_num(nan=7))


@pytest.mark.parametrize("winograd", [False, True])
def test_children_are_seen_as_one_row(winograd):
    active = torch.arange(6, dtype=torch.int32)
    table = ops.packed_table(active, 1, 2, 3, 3)
    where = ops.tile_table(active, 1, 2, 3, packed=True) if winograd else table
    rows = torch.randn(7, 8)
    rows[-1] = 0
    packed = ops.prepack_weight(torch.rand(80, 8, 3, 3), shuffle=4, winograd=winograd)
    out, _ = ops.sparse_conv2d(rows, where, packed)
    joined = ops.joined_rows(out, 16)
    assert torch.equal(joined[:-1], out[:-1].reshape(6, 80))
    assert joined.shape == (7, 80)
    assert not joined[-1].any()


@on_every_kernel
def test_rows_may_overlap(isa, dtype):
    """A strided convolution over few channels: the taps of one line are one long row."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 3, 13, 17, generator=generator).to(dtype)
    weight = torch.randn(20, 3, 7, 7, generator=generator).to(dtype).float() / 12
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), stride=2, padding=3)
    height, width = expected.shape[-2:]
    padded = torch.zeros(2 * 20 * 24 * 3 + 24, dtype=dtype)  # 24: a width that the stride divides
    padded[: 2 * 20 * 24 * 3].view(2, 20, 24, 3)[:, 3:16, 3:20] = x.permute(0, 2, 3, 1)
    rows = padded.as_strided((2 * 20 * 12 + 1, 21), (6, 1))
    n, y, x_, tap = torch.meshgrid(*map(torch.arange, (2, height, width, 7)), indexing="ij")
    table = ((n * 20 + 2 * y + tap) * 12 + x_).reshape(-1, 7).to(torch.int32)
    lines = weight.permute(0, 3, 1, 2).reshape(20, 21, 7, 1)
    out, _ = ops.sparse_conv2d(rows, table, ops.prepack_weight(lines, dtype=dtype, isa=isa))
    assert error(out[:-1], expected.permute(0, 2, 3, 1).reshape(-1, 20)) < TOLERANCE[dtype]


def test_embedded_weight_carries_its_own_count():
    packed = ops.prepack_weight(torch.rand(48, 8, 3, 3), macs_per_row=16 * 81)
    table = ops.packed_table(torch.arange(6, dtype=torch.int32), 1, 2, 3, 3)
    assert ops.sparse_conv2d(torch.zeros(7, 8), table, packed)[1] == 6 * 16 * 81


ROWS, TABLE = torch.zeros(5, 8), torch.full((4, 9), 4, dtype=torch.int32)
ACTIVE = torch.arange(4, dtype=torch.int32)


def conv(
    rows: torch.Tensor = ROWS,
    table: torch.Tensor = TABLE,
    residual: torch.Tensor | None = None,
    **options: object,
) -> object:
    return ops.sparse_conv2d(rows, table, ops.prepack_weight(torch.rand(12, 8, 3, 3), **options), residual)  # type: ignore[arg-type]


def scatter(
    trunk: torch.Tensor, active: torch.Tensor = ACTIVE, rows: torch.Tensor = ROWS, **options: object
) -> object:
    packed = ops.prepack_weight(torch.rand(8, 8, 3, 3), **options)  # type: ignore[arg-type]
    return ops.sparse_conv2d_scatter_(trunk, rows, TABLE, packed, active)


@pytest.mark.parametrize(
    ("call", "raised", "message"),
    [
        (lambda: conv(torch.zeros(5, 7)), ValueError, "rows of 7 channels and a table of 9 taps need"),
        (lambda: conv(torch.zeros(5)), ValueError, r"rows must have 2 dimensions, got shape \[5\]"),
        (lambda: conv(torch.zeros(8, 5).T), ValueError, "rows must have their channels side by side"),
        (lambda: conv(ROWS.double()), TypeError, "rows must be float32 or bfloat16, got Double"),
        (lambda: conv(table=TABLE[:, :5].contiguous()), ValueError, "a table of 5 taps"),
        (lambda: conv(table=TABLE.long()), TypeError, "table must be Int, got Long"),
        (lambda: conv(table=TABLE + 1), IndexError, "outside of 0 to 4"),
        (lambda: conv(table=TABLE - 9), IndexError, "outside of 0 to 4"),
        (
            lambda: conv(residual=torch.zeros(3, 12)),
            ValueError,
            r"residual must be \[4 or more, 12\], got \[3, 12\]",
        ),
        (lambda: conv(residual=torch.zeros(4, 12).double()), TypeError, "residual must be Float, got Double"),
        (lambda: conv(shuffle=4), ValueError, "shuffle must be at least 1 and its square divide the 12"),
        (lambda: conv(bias=torch.zeros(11)), ValueError, "bias must have one value for each of 12"),
        (lambda: conv(slope=torch.zeros(5)), ValueError, "slope must have one value for each of 12"),
        (lambda: conv(isa="sse9"), ValueError, "unknown instruction set 'sse9'.*portable, avx2"),
        (lambda: conv(dtype=torch.float16), TypeError, "float32 or bfloat16, got Half"),
        (lambda: scatter(torch.zeros(5, 9)), ValueError, r"trunk must be \[rows \+ 1, 8\], got \[5, 9\]"),
        (lambda: scatter(torch.zeros(4, 8)), IndexError, "within the trunk's 3 rows, got 3 at position 3"),
        (lambda: scatter(torch.zeros(5, 8), ACTIVE.flip(0)), IndexError, "ascend"),
        (lambda: scatter(torch.zeros(5, 8), ACTIVE[:3]), ValueError, "each of the table's 4, got 3"),
        (lambda: scatter(ROWS), ValueError, "must not share memory"),
        (lambda: scatter(torch.zeros(5, 8), shuffle=2), ValueError, "cannot shuffle pixels, got .*shuffle=2"),
    ],
)
def test_bad_arguments_say_what_was_got(call, raised, message):
    with pytest.raises(raised, match=message):
        call()
