"""The composed image against the reference: shapes, threads, and what the input holds it to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixeltier.native import ops, reference


def said(x: Tensor, added: Tensor) -> Tensor:
    """The bicubic enlargement of x and what is added to it, as pixels [N*H*W, 48]."""
    images, _, height, width = x.shape
    if not x.numel():
        return added
    plain = F.interpolate(x, scale_factor=4, mode="bicubic").view(images, 3, height, 4, width, 4)
    return plain.permute(0, 2, 4, 3, 5, 1).reshape(-1, 48) + added


@given(
    grid=st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20)),
    spread=st.sampled_from([0.0, 0.1, 2.0]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_reference(grid, spread, seed):
    images, height, width = grid
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, 3, height, width, generator=generator)
    pixels = spread * torch.randn(images * height * width, 48, generator=generator)
    pixels = said(x, pixels)
    image = ops.compose(x, pixels)
    expected = reference.compose(x, pixels)
    assert image.shape == expected.shape
    off = (image.int() - expected.int()).abs()
    assert off.numel() == 0 or int(off.max()) <= 1
    assert float(off.float().mean() if off.numel() else 0) < 0.01  # a value at the edge of two bytes is rare


def test_is_the_same_on_any_number_of_threads():
    x = torch.rand(1, 3, 50, 30)
    pixels = said(x, torch.randn(1500, 48) / 10)
    threads = torch.get_num_threads()
    try:
        images = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            images.append(ops.compose(x, pixels))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_values_beyond_the_range_are_clamped():
    x, pixels = torch.full((1, 3, 2, 2), 0.5), torch.zeros(4, 48)
    x[..., 1] = 0.6
    for place, value in enumerate((torch.inf, -torch.inf, torch.nan, 1e30)):
        pixels[place] = value
    image = ops.compose(x, pixels)
    assert torch.equal(image, reference.compose(x, pixels))
    assert int(image.max()) - int(image.min()) > 40  # bounded by the range of the input, which is 0.1


@pytest.mark.parametrize("colour", [(0.0, 0.0, 1.0), (20 / 255, 40 / 255, 220 / 255), (1.0, 1.0, 1.0)])
def test_a_flat_area_stays_flat(colour):
    level = torch.tensor(colour).view(1, 3, 1, 1)
    x = level.repeat(1, 1, 20, 20)
    x[..., :4] = torch.rand(3, 20, 4)
    image = ops.compose(x, said(x, torch.randn(400, 48) / 10))[0, :, 4 * (4 + 5) :]
    assert torch.equal(image, (255 * level).round().to(torch.uint8).view(3).expand_as(image))


def test_gray_stays_gray():
    x = torch.rand(1, 1, 70, 31).repeat(1, 3, 1, 1)
    image = ops.compose(x, said(x, torch.randn(70 * 31, 48)))[0]
    assert torch.equal(image, image[..., :1].expand_as(image))
    assert float(image.float().std()) > 20


@pytest.mark.parametrize("pattern", ["noise", "checker", "rows", "columns"])
def test_the_mean_stays(pattern):
    """A drift of 25 levels is taken back, of a plain area and of single pixels that reach black and white."""
    down, across = torch.arange(32)[:, None], torch.arange(32)
    cells = {
        "noise": 0.3 + 0.4 * torch.rand(32, 32, generator=torch.Generator().manual_seed(0)),
        "checker": ((down + across) % 2).float(),
        "rows": (down % 2).expand(32, 32).float(),
        "columns": (across % 2).expand(32, 32).float(),
    }
    x = cells[pattern].expand(1, 3, 32, 32).contiguous()
    image = ops.compose(x, said(x, torch.full((32 * 32, 48), -0.1))).float()
    assert abs(float(image.mean() - 255 * x.mean())) < 1.5


def test_gives_the_input_again_when_reduced():
    x = F.interpolate(torch.rand(1, 3, 12, 12), scale_factor=4, mode="bicubic").clamp(0, 1)
    image = ops.compose(x, said(x, torch.randn(48 * 48, 48) / 20)).permute(0, 3, 1, 2).double() / 255
    plain = (F.interpolate(x, scale_factor=4, mode="bicubic").double()).clamp(0, 1)
    assert float((reference._reduced(image) - x).abs().mean()) < 0.004
    assert image.sub(plain).abs().mean() > 0.02  # and is not the bicubic enlargement


def test_nothing_beyond_the_reach_is_read():
    """Of `pixels`; x is read two cells further, where a network has read it already."""
    x = torch.rand(1, 3, 60, 9)
    pixels = said(x, torch.randn(540, 48) / 10)
    whole = ops.compose(x, pixels)[0]
    other = pixels.clone()
    other[30 * 9 :] += 1
    assert torch.equal(
        ops.compose(x, other)[0, : 4 * (30 - ops.COMPOSE_REACH)], whole[: 4 * (30 - ops.COMPOSE_REACH)]
    )
    cut = ops.compose(x[:, :, :32].contiguous(), pixels[: 32 * 9])[0]
    assert torch.equal(whole[: 4 * (30 - ops.COMPOSE_REACH)], cut[: 4 * (30 - ops.COMPOSE_REACH)])


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="pixels"):
        ops.compose(torch.rand(1, 3, 2, 2), torch.rand(3, 48))
    with pytest.raises(ValueError, match="grid"):
        ops.compose(torch.rand(1, 3, 0, 2), torch.rand(0, 48))
