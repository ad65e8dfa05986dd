"""The stem in one call and the pooling of windows against plain torch: shapes, instruction sets, threads."""

from __future__ import annotations

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


def random_levels(channels: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(channels, 256, generator=generator).to(dtype)


@pytest.mark.parametrize(("isa", "dtype"), KERNELS, ids=str)
@given(data=st.data())
def test_stem_equals_convolution_activation_and_pool(isa, dtype, data):
    images, height, width = data.draw(st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40)))
    channels, outputs = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 70))
    kernel, stride = data.draw(st.sampled_from([1, 3, 7])), data.draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    pixels = torch.randint(256, (images, height, width, channels), generator=generator, dtype=torch.uint8)
    levels = random_levels(channels, dtype, generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator).to(dtype).float() / kernel
    bias = torch.randn(outputs, generator=generator) if data.draw(st.booleans()) else None
    slope = torch.rand(outputs, generator=generator) if data.draw(st.booleans()) else None
    packed = ops.prepack_weight(ops.line_weight(weight), bias, slope, dtype=dtype, isa=isa)
    actual = ops.pooled_stem(pixels, levels, packed, stride)
    expected = reference.pooled_stem(pixels, levels, weight, bias, slope, stride)
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    assert torch.equal(actual[-1], torch.zeros(outputs, dtype=dtype))
    difference = (actual.double() - expected.double()).norm()
    assert difference <= TOLERANCE[dtype] * expected.double().norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("images", [1, 3])
def test_stem_is_the_same_on_any_number_of_threads(dtype, images):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (images, 61, 50, 3), generator=generator, dtype=torch.uint8)
    packed = ops.prepack_weight(torch.randn(64, 21, 7, 1, generator=generator), dtype=dtype)
    levels = random_levels(3, dtype, generator)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(ops.pooled_stem(pixels, levels, packed, 2))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_stem_refuses_what_does_not_fit():
    packed = ops.prepack_weight(torch.rand(8, 21, 7, 1))
    pixels, levels = torch.zeros(1, 9, 9, 3, dtype=torch.uint8), torch.zeros(3, 256)
    with pytest.raises(ValueError, match=r"levels must be \[3, 256\]"):
        ops.pooled_stem(pixels, levels[:2], packed, 2)
    with pytest.raises(TypeError, match="pixels must be"):
        ops.pooled_stem(pixels.float(), levels, packed, 2)
    with pytest.raises(ValueError, match="packed weights"):
        ops.pooled_stem(pixels[..., :2].contiguous(), levels[:2], packed, 2)
    with pytest.raises(ValueError, match="stride must be"):
        ops.pooled_stem(pixels, levels, packed, 0)
    with pytest.raises(TypeError, match="levels must be float32 or bfloat16"):
        ops.pooled_stem(pixels, levels.half(), packed, 2)


@given(
    grid=st.tuples(st.integers(0, 3), st.integers(1, 13), st.integers(1, 13)),
    channels=st.integers(1, 70),
    window=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_windows_have_their_means_and_maxima(grid, channels, window, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    count = grid[0] * grid[1] * grid[2]
    rows = torch.randn(count + 1, channels, generator=generator).to(dtype)
    actual = ops.pool_windows(rows, *grid, window)
    expected = reference.pool_windows(rows, *grid, window)
    assert torch.equal(actual[:, channels:], expected[:, channels:])
    assert torch.equal(actual[-1], expected[-1])
    tolerance = 1e-5 if dtype == torch.float32 else 8e-3  # one step of a bfloat16: sums are in float32
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_windows_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="more cells than there are rows"):
        ops.pool_windows(torch.zeros(8, 4), 1, 3, 3, 2)
    with pytest.raises(ValueError, match="window must be at least 1"):
        ops.pool_windows(torch.zeros(10, 4), 1, 3, 3, 0)
