"""Decoding and encoding: every mode of the contract, and whatever else the bytes may be."""

import contextlib
import io
import random

import numpy as np
import pytest
from PIL import Image, ImageCms

from pixeltier.service.api import image_header
from pixeltier.service.worker.decode import ImageRejectedError, decode, flatten
from pixeltier.service.worker.encode import check_output, encode
from tests.images import encoded, opened, photo

LIMIT = 10**6


def _rgb(body: bytes) -> np.ndarray:
    return np.asarray(decode(body, max_pixels=LIMIT).rgb).astype(int)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "JPEG"])
def test_formats(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    found = decode(encoded(photo(), format_, **options), max_pixels=LIMIT)
    assert found.rgb.mode == "RGB"
    assert found.alpha is None
    assert found.pixels == 64 * 48
    assert np.abs(np.asarray(found.rgb).astype(int) - np.asarray(photo())).mean() < 3


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": "4:2:0"}, {"optimize": True}])
def test_jpeg_kinds(options: dict[str, object]) -> None:
    assert decode(encoded(photo(), "JPEG", **options), max_pixels=LIMIT).rgb.size == (64, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(photo(8, 4), "PNG", exif=exif)
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(opened(body))
    found = decode(body, max_pixels=LIMIT).rgb
    assert found.size == ((8, 4) if orientation < 5 else (4, 8))
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0" + b"garbage" * 9, b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*", b"Exif\0\0"]
)
def test_malformed_exif_means_none(exif: bytes) -> None:
    for format_ in ("JPEG", "PNG", "WEBP"):
        assert decode(encoded(photo(), format_, exif=exif), max_pixels=LIMIT).rgb.size == (64, 48)


def test_orientation_out_of_range_means_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(encoded(photo(8, 4), "PNG", exif=exif), max_pixels=LIMIT).rgb.size == (8, 4)


def test_gray_and_bilevel() -> None:
    gray = photo().convert("L")
    assert np.array_equal(_rgb(encoded(gray))[..., 0], np.asarray(gray))
    bits = gray.convert("1")
    assert np.array_equal(_rgb(encoded(bits))[..., 1], np.asarray(bits).astype(int) * 255)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
    found = _rgb(encoded(Image.fromarray(values.astype(np.uint16))))
    assert np.abs(found[..., 0] - values / 257).max() <= 0.51


def test_sixteen_bit_colour_key() -> None:
    values = np.full((4, 4), 40000, np.uint16)
    values[0, 0] = 7
    found = decode(encoded(Image.fromarray(values), transparency=7), max_pixels=LIMIT)
    assert found.rgb.size == (4, 4)
    if found.alpha is not None:
        assert np.asarray(found.alpha)[0, 0] == 0


def test_palette_with_and_without_transparency() -> None:
    palette = photo().convert("P", palette=Image.Palette.ADAPTIVE)
    plain = decode(encoded(palette), max_pixels=LIMIT)
    assert plain.alpha is None
    assert np.array_equal(np.asarray(plain.rgb), np.asarray(palette.convert("RGB")))
    see_through = decode(encoded(palette, transparency=palette.getpixel((0, 0))), max_pixels=LIMIT)
    assert see_through.alpha is not None
    assert np.asarray(see_through.alpha)[0, 0] == 0


def test_alpha_of_rgba_la_and_colour_keys() -> None:
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))
    for base in (photo(), photo().convert("L")):
        image = base.copy()
        image.putalpha(ramp)
        for format_ in ("PNG", "WEBP"):
            options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
            found = decode(encoded(image, format_, **options), max_pixels=LIMIT)
            assert found.alpha is not None
            assert np.array_equal(np.asarray(found.alpha), np.asarray(ramp))
            assert np.array_equal(np.asarray(found.rgb), np.asarray(base.convert("RGB"))), (
                "colour under alpha stays"
            )
    keyed = decode(encoded(photo(), transparency=photo().getpixel((0, 0))), max_pixels=LIMIT)
    assert keyed.alpha is not None


def test_opaque_alpha_is_no_alpha() -> None:
    image = photo()
    image.putalpha(255)
    assert decode(encoded(image), max_pixels=LIMIT).alpha is None


def test_cmyk() -> None:
    found = _rgb(encoded(photo().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found - np.asarray(photo())).mean() < 6


def test_icc_is_converted_to_srgb() -> None:
    # A profile that swaps nothing but the gamma: linear sRGB primaries are not in Pillow, XYZ-based LAB is no
    # RGB space, so take sRGB itself: identical pixels, and the profile is gone.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = _rgb(encoded(photo(), icc_profile=profile))
    assert np.abs(found - np.asarray(photo())).max() <= 1


@pytest.mark.parametrize("profile", [b"garbage", bytes(128), b""])
def test_a_malformed_profile_is_ignored(profile: bytes) -> None:
    assert np.array_equal(_rgb(encoded(photo(), icc_profile=profile)), np.asarray(photo()))


def test_a_profile_of_another_space_is_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(_rgb(encoded(photo(), icc_profile=profile)), np.asarray(photo()))


@pytest.mark.parametrize("format_", ["WEBP", "PNG"])
def test_the_first_frame_of_an_animation(format_: str) -> None:
    frames = [photo(colour=n) for n in range(3)]
    options = {"lossless": True} if format_ == "WEBP" else {}
    body = encoded(frames[0], format_, save_all=True, append_images=frames[1:], duration=50, **options)
    assert np.array_equal(_rgb(body), np.asarray(frames[0]))


def test_other_formats_are_refused() -> None:
    for format_ in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(ImageRejectedError) as caught:
            decode(encoded(photo(), format_), max_pixels=LIMIT)
        assert caught.value.kind == "undecodable-image"


def test_large_jpegs_are_reduced_for_classification_only() -> None:
    body = encoded(photo(4400, 2200), "JPEG")
    reduced = decode(body, max_pixels=10**8, reduce=True)
    assert reduced.rgb.size == (2200, 1100)
    assert reduced.pixels == 4400 * 2200
    assert decode(body, max_pixels=10**8).rgb.size == (4400, 2200)
    assert decode(encoded(photo(2000, 2000), "JPEG"), max_pixels=10**8, reduce=True).rgb.size == (2000, 2000)


def test_flatten_puts_white_below() -> None:
    image = photo(4, 4)
    image.putalpha(0)
    assert np.asarray(flatten(decode(encoded(image), max_pixels=LIMIT))).min() == 255


@pytest.mark.parametrize(("format_", "keeps"), [("png", True), ("webp", True), ("jpeg", False)])
def test_encode_keeps_alpha_where_the_format_can(format_: str, keeps: bool) -> None:
    image = photo(6, 5)
    image.putalpha(Image.fromarray(np.tile(np.array([0, 0, 0, 255, 255, 255], np.uint8), (5, 1))))
    source = decode(encoded(image), max_pixels=LIMIT)
    large = np.asarray(source.rgb).repeat(4, 0).repeat(4, 1)
    found = opened(encode(large, source, (large.shape[1], large.shape[0]), format_, 90))  # type: ignore[arg-type]
    assert found.size == (24, 20)
    assert (found.mode == "RGBA") is keeps
    corner = found.convert("RGBA").getpixel((0, 0))
    assert isinstance(corner, tuple)
    assert (corner[3] == 0) if keeps else min(corner[:3]) > 240


def test_output_limits() -> None:
    check_output(16383, 1, "webp", 10**9)
    for width, format_, limit in ((16384, "webp", 10**9), (65501, "jpeg", 10**9), (100, "png", 99)):
        with pytest.raises(ImageRejectedError):
            check_output(width, 1, format_, limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_header_sizes(format_: str) -> None:
    for size in ((1, 1), (64, 48), (300, 7)):
        kinds = [{}, {"lossless": True}] if format_ == "WEBP" else [{}]
        for options in kinds:
            header = image_header.read(encoded(photo(*size), format_, **options))
            assert header is not None
            assert header.size == size
    image = photo(30, 20)
    image.putalpha(9)
    header = image_header.read(encoded(image if format_ != "JPEG" else photo(30, 20), format_))
    assert header is not None
    assert header.size == (30, 20)
    assert image_header.read(b"GIF89a") is None


def test_mutated_images_end_in_pixels_or_a_rejection() -> None:
    """Two thousand damaged files; the fault suite sends ten thousand through the service."""
    chance = random.Random(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = photo(40, 30)
    seeds = [encoded(image, f, exif=exif.tobytes(), icc_profile=profile) for f in ("JPEG", "PNG", "WEBP")]
    seeds.append(encoded(image.convert("P"), transparency=0))
    for n in range(2000):
        body = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 12)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if n % 3 == 0:
            del body[chance.randrange(len(body)) :]
        image_header.read(bytes(body))
        with contextlib.suppress(ImageRejectedError):
            assert decode(bytes(body), max_pixels=LIMIT, reduce=bool(n % 2)).rgb.mode == "RGB"


def test_io_is_not_confused_by_a_long_text_chunk() -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("big", "x" * (80 * 2**20), zip=True)
    out = io.BytesIO()
    photo().save(out, "PNG", pnginfo=info)
    with contextlib.suppress(ImageRejectedError):
        decode(out.getvalue(), max_pixels=LIMIT)
