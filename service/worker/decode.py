"""Compressed bytes to sRGB pixels, every image mode on purpose, hostile input expected.

The size is checked from the header before any pixel is decoded. Metadata ends here: only pixels go on.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from service.worker.messages import RejectionKind

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
    image = _open(body)
    width, height = image.size
    _check_pixels(width, height, max_pixels)
    if reduce and image.format in {"JPEG", "MPO"}:
        short = min(width, height)
        if short >= 2 * DRAFT_SHORT_SIDE:
            scale = short // DRAFT_SHORT_SIDE
            image.draft(image.mode, (width // scale, height // scale))
    try:
        orientation = _orientation(image)
        image.load()
        rgb, alpha = _to_srgb(image)
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # decoders raise whatever the bytes provoke: OSError, ValueError, struct.error...
        raise ImageRejectedError(
            "undecodable-image", f"the image cannot be decoded: {_reason(error)}"
        ) from error
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


def _open(body: bytes) -> Image.Image:
    if not body:
        raise ImageRejectedError("undecodable-image", "the image is empty: zero bytes")
    try:
        return Image.open(io.BytesIO(body), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageRejectedError(
            "image-too-large", "the image has far more pixels than any limit here allows"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        raise ImageRejectedError(
            "undecodable-image", "this is no JPEG, PNG or WebP image, or its header is corrupt"
        ) from error


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


def _orientation(image: Image.Image) -> int:
    """1..8 of the EXIF block; a malformed block means none."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
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


def _to_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour in sRGB, and alpha unless it is opaque everywhere."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow's own conversion would clip to white
        image, alpha = _from_16_bit(image)
    else:
        image, alpha = _split_alpha(image)
    rgb = _apply_profile(image, profile) if profile else None
    if rgb is None:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb, alpha


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
