"""Convolutions over images as lines, on every cell and on active ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pixeltier.models.inference.image_convolution import LineConvolution
from pixeltier.native import ops

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}


def head(outputs: int = 64, kernel: int = 9, seed: int = 0) -> tuple[nn.Conv2d, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Conv2d(3, outputs, kernel, padding=kernel // 2), torch.rand(outputs)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kernel", [3, 9])
def test_equals_conv2d(dtype, kernel):
    conv, slope = head(kernel=kernel)
    pixels = torch.randint(256, (13, 18, 3), dtype=torch.uint8)
    image = (pixels.permute(2, 0, 1).float() / 255).contiguous()
    with torch.inference_mode():
        expected = F.prelu(conv.double()(image[None].double()), slope.double())[0].flatten(1).t()
        layer = LineConvolution(conv.float(), slope, dtype)
        from_floats, from_bytes = layer(image), layer(pixels)
    assert from_floats.shape == (13 * 18 + 1, 64)
    assert not from_floats[-1].any()
    assert torch.equal(from_bytes, layer(image)) or dtype == torch.float32
    for rows in (from_floats, from_bytes):
        assert (rows[:-1].double() - expected).norm() < TOLERANCE[dtype] * expected.norm()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_active_cells_have_the_rows_of_the_whole(dtype, grid, share, seed):
    conv, slope = head(seed=seed)
    importance = torch.rand(1, *grid)
    active = ops.plan(importance, torch.full((1,), 1 - share))
    layer = LineConvolution(conv, slope, dtype)
    image = layer.rows(torch.rand(3, *grid))
    whole, dense_macs = layer.over(image)
    rows, macs = layer.over(image, active)
    assert torch.equal(rows[:-1], whole[active.long()])
    assert rows.shape == (len(active) + 1, 64)
    assert not rows[-1].any()
    assert macs == len(active) * 15_552
    assert dense_macs == grid[0] * grid[1] * 15_552
