"""Compressed bytes to sRGB pixels, every image mode on purpose, hostile input expected.

The size is checked from the header before any pixel is decoded. Metadata ends here: only pixels go on.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from pixeltier.service.work.messages import RejectionKind
from pixeltier.service.worker import jpeg_file, png_file

FORMATS = ("JPEG", "PNG", "WEBP")

DRAFT_SHORT_SIDE = 1024
"""A JPEG to be classified may be decoded at 1/2, 1/4 or 1/8 as long as its short side keeps this much: the
classifier looks at 256."""

EXIF_ORIENTATION = 0x0112

# Pillow's own cap warns at this size and raises at twice it; ours, below it, is checked by `_check_pixels`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SRGB = ImageCms.createProfile("sRGB")


class ImageRejectedError(ValueError):
    """The image is at fault; the message is for the client."""

    def __init__(self, kind: RejectionKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright sRGB pixels (mode RGB), and the alpha channel (mode L) where the image had one that matters."""

    rgb: Image.Image
    alpha: Image.Image | None
    pixels: int


def decode(body: bytes, *, max_pixels: int, reduce: bool = False) -> Decoded:
    """Decode the first frame of a JPEG, PNG or WebP.

    Args:
        max_pixels: larger images are rejected from their header.
        reduce: a large JPEG may come at a fraction of its size.

    Raises:
        ImageRejectedError: not an image, truncated, corrupt, too large.
    """
    opened = _open(body, max_pixels)
    width, height = opened.image.size
    _check_pixels(width, height, max_pixels)
    try:
        image = _pixels(opened, reduce=reduce)
        rgb, alpha = _to_srgb(image, opened)
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # decoders raise whatever the bytes provoke: OSError, ValueError, struct.error...
        raise ImageRejectedError(
            "undecodable-image", f"the image cannot be decoded: {_reason(error)}"
        ) from error
    orientation = _orientation(opened)
    return Decoded(
        _turn(rgb, orientation), None if alpha is None else _turn(alpha, orientation), width * height
    )


def flatten(decoded: Decoded, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The image over a plain background, where what takes it knows no alpha."""
    if decoded.alpha is None:
        return decoded.rgb
    canvas = Image.new("RGB", decoded.rgb.size, background)
    canvas.paste(decoded.rgb, mask=decoded.alpha)
    return canvas


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file whose header is read and whose pixels are not, and what only we read of it."""

    image: Image.Image
    png: png_file.PngFile | None = None
    jpeg: jpeg_file.JpegFile | None = None


def _open(body: bytes, max_pixels: int) -> _Opened:
    if not body:
        raise ImageRejectedError("undecodable-image", "the image is empty: zero bytes")
    try:
        if body.startswith(png_file.SIGNATURE):
            return _open_png(body, max_pixels)
        image = Image.open(io.BytesIO(body), formats=FORMATS)
        if body.startswith(jpeg_file.SIGNATURE):
            return _Opened(image, jpeg=jpeg_file.read(body))
        return _Opened(image)
    except Image.DecompressionBombError as error:
        raise ImageRejectedError(
            "image-too-large", "the image has far more pixels than any limit here allows"
        ) from error
    except MemoryError:
        raise
    except ImageRejectedError:
        raise
    except (png_file.PngError, jpeg_file.JpegError) as error:
        raise ImageRejectedError("undecodable-image", f"the image is damaged: {error}") from error
    except Exception as error:
        raise ImageRejectedError(
            "undecodable-image", "this is not a JPEG, PNG or WebP image, or its header is corrupt"
        ) from error


def _open_png(body: bytes, max_pixels: int) -> _Opened:
    """Its image data is decompressed here already, so its size is checked before."""
    png = png_file.read(body)
    width, height, *_ = png.header
    _check_pixels(width, height, max_pixels)
    return _Opened(Image.open(io.BytesIO(png.pixels_only()), formats=("PNG",)), png=png)


def _pixels(opened: _Opened, *, reduce: bool) -> Image.Image:
    """The pixels as they are stored; those of a large JPEG at 1/2, 1/4 or 1/8 if `reduce`."""
    image = opened.image
    if opened.jpeg is None:
        image.load()
        return image
    shortest = None
    scale = min(min(image.size) // DRAFT_SHORT_SIDE, 8) if reduce else 1
    if scale >= 2:
        scale = 1 << scale.bit_length() - 1
        shortest = -(-image.height // scale), -(-image.width // scale)
    pixels = opened.jpeg.pixels(image.mode, shortest)
    return Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels, image.mode)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageRejectedError("undecodable-image", "the image has no pixels")
    if width * height > max_pixels:
        raise ImageRejectedError("image-too-large", too_large(width, height, max_pixels))


def too_large(width: int, height: int, max_pixels: int) -> str:
    """The sentence for an image over the limit."""
    return f"the image is {width}x{height} = {width * height} pixels and the limit is {max_pixels}"


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 120 and "0x" not in text else type(error).__name__


def _orientation(opened: _Opened) -> int:
    """1..8 of the EXIF block; a malformed block means none. Pixels are decoded before: this may load them."""
    try:
        if opened.png is None:
            exif = opened.image.getexif()
        else:
            exif = Image.Exif()
            exif.load(opened.png.exif() or b"")
        value = exif.get(EXIF_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image, opened: _Opened) -> tuple[Image.Image, Image.Image | None]:
    """Colour in sRGB, and alpha unless it is opaque everywhere."""
    png = opened.png
    profile = opened.image.info.get("icc_profile") if png is None else png.profile()
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow's own conversion would clip to white
        image, alpha = _from_16_bit(image)
    else:
        image, alpha = _split_alpha(image)
    rgb = _apply_profile(image, profile) if profile else None
    if rgb is None:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        gamma = None if png is None else png.gamma()
        if gamma is not None:
            rgb = rgb.point(_levels(gamma) * 3)
    return rgb, alpha


def _levels(gamma: float) -> list[int]:
    """Samples stored as light to the power of `gamma` to sRGB's (IEC 61966-2-1)."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [int(level) for level in np.rint(255 * encoded)]


def _from_16_bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image).astype(np.int64)
    gray = Image.fromarray(((np.clip(values, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return gray, None
    return gray, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Take alpha, palettes and colour keys apart from the colour; keep L, RGB and CMYK for their profiles."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        low, _ = alpha.getextrema()
        colour = image.convert("L") if image.mode in {"LA", "La"} else rgba.convert("RGB")
        return colour, None if low == 255 else alpha
    if image.mode in {"L", "RGB", "CMYK"}:
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Through the embedded profile to sRGB; None where it is malformed or of another colour space."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space != {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}[image.mode]:
            return None
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return None
