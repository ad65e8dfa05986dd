"""PNG files of ours: other decoders read the pixels that were written."""

import io
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import numpy.typing as npt
import png
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixeltier.service.worker import png_writer
from pixeltier.service.worker.png_file import read
from pixeltier.service.worker.png_writer import write_png

Pixels = npt.NDArray[np.uint8]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def _images() -> st.SearchStrategy[Pixels]:
    shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from(sorted(MODES)))
    return shapes.flatmap(lambda shape: npst.arrays(np.uint8, shape))


def _by_pillow(body: bytes) -> tuple[str, Pixels]:
    with Image.open(io.BytesIO(body)) as image:
        return image.mode, np.asarray(image)


def _by_pypng(body: bytes) -> Pixels:
    width, height, rows, info = png.Reader(bytes=body).read()
    assert (info["bitdepth"], info["interlace"]) == (8, 0)
    return np.array([bytes(row) for row in rows]).view(np.uint8).reshape(height, width, info["planes"])


def _check(pixels: Pixels) -> None:
    body = write_png(pixels)
    mode, by_pillow = _by_pillow(body)
    assert mode == MODES[pixels.shape[2]]
    assert np.array_equal(by_pillow.reshape(pixels.shape), pixels)
    assert np.array_equal(_by_pypng(body), pixels)
    read(body).pixels_only()  # checksums and sizes


@pytest.fixture(params=["isal", "zlib"])
def compressor(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(png_writer, "isal_zlib", None)
    else:
        assert png_writer.isal_zlib is not None


@pytest.mark.usefixtures("compressor")
@pytest.mark.parametrize("band_bytes", [1, 100, 2**20])
def test_any_pixels_come_back(band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "_BAND_BYTES", band_bytes)

    @settings(max_examples=60, deadline=None)
    @given(pixels=_images())
    def check(pixels: Pixels) -> None:
        _check(pixels)

    check()


@pytest.mark.usefixtures("compressor")
def test_a_photo_becomes_smaller_and_views_are_taken_as_they_are() -> None:
    y, x = np.mgrid[0:300, 0:400]
    photo = np.stack([(x + y) % 256, x % 256, y % 256], axis=2).astype(np.uint8)
    _check(photo[::2, ::-1])
    assert len(write_png(photo)) < photo.size / 20


def test_image_data_in_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "_MOST_CHUNK_BYTES", 7)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    assert write_png(pixels).count(b"IDAT") > 10
    _check(pixels)


@pytest.mark.parametrize("shape", [(4, 4, 2), (0, 4, 3), (4, 0, 1)])
def test_what_a_png_cannot_hold(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a PNG has 1, 3 or 4 channels"):
        write_png(np.zeros(shape, np.uint8))
