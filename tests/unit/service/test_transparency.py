"""Colours that nobody sees do not show in what is made of an image."""

import io

import numpy as np
import pytest
from PIL import Image

from pixeltier.models.engine import SuperResolver
from pixeltier.models.images import classify_input
from pixeltier.service.work.messages import OutputFormat
from pixeltier.service.worker.decode import decode, flatten
from pixeltier.service.worker.encode import encode
from pixeltier.service.worker.transparency import visible_colours
from tests.images import encoded

LIMIT = 10**7


def disc(hidden: int, soft: bool = False) -> Image.Image:
    """A white disc of 32x32 pixels over hidden gray."""
    y, x = np.mgrid[0:32, 0:32] - 15.5
    edge = np.clip(11 - np.hypot(x, y), 0, 1) if soft else (np.hypot(x, y) < 11).astype(float)
    pixels = np.full((32, 32, 4), hidden, np.uint8)
    pixels[..., 3] = np.rint(255 * edge)
    pixels[edge > 0, :3] = 255
    return Image.fromarray(pixels)


def on_white(image: Image.Image) -> np.ndarray:
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return np.asarray(canvas.convert("RGB"))


@pytest.fixture(scope="module")
def resolver() -> SuperResolver:
    return SuperResolver.load()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("format_", ["png", "webp", "jpeg"])
def test_a_white_disc_over_hidden_black_stays_white(
    resolver: SuperResolver, soft: bool, format_: OutputFormat
) -> None:
    source = decode(encoded(disc(0, soft)), max_pixels=LIMIT)
    for threshold in (0.0, 1.0):
        large = resolver.upscale(np.array(visible_colours(source)), threshold).image
        found = Image.open(io.BytesIO(encode(large, source, (large.shape[1], large.shape[0]), format_, 90)))
        assert on_white(found).min() >= 245
    assert classify_input(flatten(source)).min() >= 245


def test_visible_colours_are_kept() -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    pixels[..., 3] = chance.choice([0, 40, 255], (40, 50))
    source = decode(encoded(Image.fromarray(pixels)), max_pixels=LIMIT)
    seen = pixels[..., 3] > 0
    assert np.array_equal(np.asarray(visible_colours(source))[seen], pixels[seen][:, :3])


def test_a_faint_image_is_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    pixels[..., 3] = 9
    source = decode(encoded(Image.fromarray(pixels)), max_pixels=LIMIT)
    assert np.array_equal(np.asarray(visible_colours(source)), pixels[..., :3])


def test_hidden_pixels_take_the_nearest_visible_colours() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :8] = (200, 10, 10, 255)
    pixels[:, 56:] = (10, 10, 200, 255)
    filled = np.asarray(visible_colours(decode(encoded(Image.fromarray(pixels)), max_pixels=LIMIT)))
    assert np.array_equal(filled[:, 10], np.full((64, 3), (200, 10, 10)))
    assert np.array_equal(filled[:, 53], np.full((64, 3), (10, 10, 200)))
    assert filled[:, :, 0].min() >= 10


def test_gray_stays_gray_under_alpha() -> None:
    image = disc(90, soft=True).convert("LA")
    filled = np.asarray(visible_colours(decode(encoded(image), max_pixels=LIMIT)))
    assert np.array_equal(filled, filled[..., :1].repeat(3, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
def test_nothing_visible_at_all(size: tuple[int, int]) -> None:
    source = decode(encoded(Image.new("RGBA", size, (7, 8, 9, 0))), max_pixels=LIMIT)
    assert visible_colours(source).size == size
