"""Damaged files are refused whole, whatever their decoders make of them; harmless oddities are not damage."""

import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pixeltier.service.worker import jpeg_file
from pixeltier.service.worker.decode import ImageRejectedError, decode
from pixeltier.service.worker.jpeg_file import JpegError
from pixeltier.service.worker.png_file import raw_bytes
from tests.images import encoded, opened, photo, png_chunks, png_of

LIMIT = 10**7


def refused(body: bytes) -> str:
    with pytest.raises(ImageRejectedError) as caught:
        decode(body, max_pixels=LIMIT)
    assert caught.value.kind == "undecodable-image"
    return caught.value.detail


def with_data(body: bytes, data: bytes) -> bytes:
    """The PNG with other (compressed) image data, its checksum right."""
    chunks = [chunk for chunk in png_chunks(body) if chunk[0] != b"IDAT"]
    return png_of([*chunks[:-1], (b"IDAT", data), chunks[-1]])


def png_data(body: bytes) -> bytes:
    return b"".join(data for kind, data in png_chunks(body) if kind == b"IDAT")


@pytest.mark.parametrize("exif", [True, False])
def test_a_png_whose_stream_is_corrupt(exif: bool) -> None:
    body = encoded(photo(), exif=Image.Exif().tobytes()) if exif else encoded(photo())
    data = bytearray(png_data(body))
    data[len(data) // 2] ^= 0xFF
    assert "damaged" in refused(with_data(body, bytes(data)))


def test_a_png_whose_stream_ends_early_but_well() -> None:
    """Pillow leaves the missing lines black."""
    body = encoded(photo())
    raw = zlib.decompress(png_data(body))
    assert "its image data ends after" in refused(with_data(body, zlib.compress(raw[: len(raw) // 2])))
    opened(with_data(body, zlib.compress(raw[: len(raw) // 2])))


def test_a_png_of_wrong_checksums() -> None:
    body = encoded(photo(), pnginfo=PngImagePlugin.PngInfo())
    stream = png_data(body)
    refused(with_data(body, stream[:-4] + bytes(4)))  # zlib's
    for at, name in ((8 + 4 + 4 + 3, "IHDR"), (body.index(b"IDAT") + 40, "IDAT")):
        damaged = bytearray(body)
        damaged[at] ^= 1
        assert name in refused(bytes(damaged))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_every_truncation(format_: str) -> None:
    body = encoded(photo(), format_)
    for keep in (*range(0, len(body) - 12, 97), len(body) - 12):
        refused(body[:keep])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_coded_data_is_corrupt(progressive: bool) -> None:
    """Damage that desynchronises the code, so that the decoder finds too few or too many bits; some codes resume."""
    body = encoded(photo(400, 300), "JPEG", quality=90, progressive=progressive)
    start = body.index(b"\xff\xda") + 20
    chance = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        damaged = bytearray(body)
        at = int(chance.integers(start, len(body) - 60))
        damaged[at : at + 40] = bytes(chance.integers(0, 255, 40, dtype=np.uint8))
        try:
            decode(bytes(damaged), max_pixels=LIMIT)
        except ImageRejectedError:
            found += 1
    assert found >= 12


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
def test_a_jpeg_that_lacks_only_its_end_marker(options: dict[str, object]) -> None:
    body = encoded(photo(200, 120), "JPEG", **options)
    whole = decode(body, max_pixels=LIMIT)
    assert np.array_equal(np.asarray(decode(body[:-2], max_pixels=LIMIT).rgb), np.asarray(whole.rgb))
    assert np.array_equal(np.asarray(decode(body[:-1], max_pixels=LIMIT).rgb), np.asarray(whole.rgb))
    refused(body[:-3])
    refused(body[:-6])


def test_a_progressive_jpeg_cut_between_scans() -> None:
    body = encoded(photo(200, 120), "JPEG", progressive=True)
    scans = [at for at in range(len(body)) if body[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    tables = body.rindex(b"\xff\xc4", 0, scans[-1])
    refused(body[: min(tables, scans[-1])])


def test_harmless_oddities_of_jpegs() -> None:
    body = encoded(photo(), "JPEG")
    wanted = np.asarray(decode(body, max_pixels=LIMIT).rgb)
    tables = body.index(b"\xff\xdb")
    for odd in (
        body[:tables] + bytes(5) + body[tables:],  # junk between header segments
        body[:-2] + bytes(6) + body[-2:],  # padding before the end
        body + b"junk",
        body[:2]
        + b"\xff\xe2\x00\x12ICC_PROFILE\0\x07\x03ab"
        + body[2:],  # a profile in pieces that never come
    ):
        assert np.array_equal(np.asarray(decode(odd, max_pixels=LIMIT).rgb), wanted)
    refused(body[:-2] + 10 * b"\x12\x34\x56" + body[-2:])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_pixels_equal_pillows(mode: str) -> None:
    body = encoded(photo(90, 70).convert(mode), "JPEG", quality=90)
    found = np.asarray(decode(body, max_pixels=LIMIT).rgb)
    assert np.array_equal(found, np.asarray(opened(body).convert("RGB")))


def test_metadata_after_the_image_data_counts_and_a_damaged_file_with_it_is_refused() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    chunks = png_chunks(encoded(photo(8, 4)))
    late = png_of([*chunks[:-1], (b"eXIf", exif.tobytes()[6:]), chunks[-1]])
    assert decode(late, max_pixels=LIMIT).rgb.size == (4, 8)
    refused(late[:-20])


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt"])
def test_long_text_is_no_reason_to_refuse(kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt("note", "x" * (3 * 2**20), zip=True)
    else:
        info.add_text("note", "x" * (3 * 2**20), zip=kind == "zTXt")
    body = encoded(photo(), pnginfo=info)
    assert np.array_equal(np.asarray(decode(body, max_pixels=LIMIT).rgb), np.asarray(photo()))


def test_a_large_profile_is_applied_and_an_enormous_one_refused_truly() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = profile + bytes(2 * 2**20)
    assert (
        np.abs(
            np.asarray(decode(encoded(photo(), icc_profile=large), max_pixels=LIMIT).rgb).astype(int)
            - np.asarray(photo())
        ).max()
        <= 1
    )
    bomb = encoded(photo(), icc_profile=profile + bytes(40 * 2**20))
    assert len(bomb) < 2**20
    assert "colour profile is larger" in refused(bomb)


def test_gamma_is_applied_unless_the_file_says_srgb() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(2, 0)).convert("RGB")
    first, *rest = png_chunks(encoded(ramp))
    linear = (b"gAMA", (100_000).to_bytes(4, "big"))
    found = np.asarray(decode(png_of([first, linear, *rest]), max_pixels=LIMIT).rgb)[0, :, 0].astype(int)
    assert found[[0, 55, 128, 255]].tolist() == [0, 128, 188, 255]  # linear light to sRGB
    for other in ((b"sRGB", b"\0"), (b"cICP", bytes([1, 13, 0, 1]))):
        kept = np.asarray(decode(png_of([first, linear, other, *rest]), max_pixels=LIMIT).rgb)
        assert np.array_equal(kept, np.asarray(ramp))
    broken = (b"gAMA", bytes(4))
    assert np.array_equal(
        np.asarray(decode(png_of([first, broken, *rest]), max_pixels=LIMIT).rgb), np.asarray(ramp)
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (9, 17), (64, 48)])
@pytest.mark.parametrize("bits", [1, 8])
def test_lengths_of_interlaced_data(size: tuple[int, int], bits: int) -> None:
    """Against a pass-by-pass walk over the pattern of PNG 8.2."""
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    total = 0
    for number in "1234567":
        rows = [sum(pattern[y % 8][x % 8] == number for x in range(size[0])) for y in range(size[1])]
        total += sum(1 + -(-row * bits // 8) for row in rows if row)
    assert raw_bytes(*size, bits, 0, True) == total


def test_damage_behind_a_large_image_is_found_without_keeping_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixeltier.service.worker.png_file.DECODED_AHEAD", 100)
    body = encoded(photo())
    assert np.array_equal(np.asarray(decode(body, max_pixels=LIMIT).rgb), np.asarray(photo()))
    refused(with_data(body, png_data(body)[:-4] + bytes(4)))


@pytest.mark.parametrize(
    "body", [b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe0\xff\xf0" + bytes(40), b"\xff\xd8\xff\xff\xff"]
)
def test_a_jpeg_of_nothing_but_a_header(body: bytes) -> None:
    refused(body)
    with pytest.raises(JpegError, match="before its image data"):
        jpeg_file.read(body)
