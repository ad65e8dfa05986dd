"""Whether an image was compressed with loss, by what its file says."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixeltier.service.worker.input_quality import MOST_QUALITY, jpeg_quality, was_compressed
from tests.images import photo


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


@given(quality=st.integers(25, 100), mode=st.sampled_from(["RGB", "L"]), progressive=st.booleans())
def test_the_quality_that_a_jpeg_was_written_at_is_found(quality: int, mode: str, progressive: bool) -> None:
    body = saved(photo(40, 30).convert(mode), "JPEG", quality=quality, progressive=progressive)
    found = jpeg_quality(body)
    assert found is not None
    assert found == pytest.approx(quality, abs=1.5)  # of whole numbers, clipped below 25


@pytest.mark.parametrize(
    ("format_", "options", "compressed"),
    [
        ("JPEG", {"quality": 75}, True),
        ("JPEG", {"quality": MOST_QUALITY - 2}, True),
        ("JPEG", {"quality": 100}, False),
        ("PNG", {}, False),
        ("WEBP", {"quality": 80}, True),
        ("WEBP", {"lossless": True}, False),
    ],
)
def test_files(format_: str, options: dict[str, Any], compressed: bool) -> None:
    assert was_compressed(saved(photo(40, 30), format_, **options)) is compressed


@pytest.mark.parametrize("lossless", [True, False])
def test_a_container_says_what_its_frames_are(lossless: bool) -> None:
    transparent = photo(40, 30).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize((40, 30)))
    assert was_compressed(saved(transparent, "WEBP", lossless=lossless, exact=True)) is not lossless
    frames = [photo(40, 30), photo(40, 30).rotate(90)]
    moving = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless)
    assert was_compressed(moving) is not lossless


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8X"]),
)
def test_any_bytes_are_clean_or_compressed(body: bytes, start: bytes) -> None:
    assert was_compressed(start + body) in {True, False}
