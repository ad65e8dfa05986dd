"""Pixels to compressed bytes, without metadata."""

import io

import numpy as np
from PIL import Image

from pixeltier.service.tasks import SCALE
from pixeltier.service.work.messages import OutputFormat
from pixeltier.service.worker.decode import Decoded, ImageRejectedError
from pixeltier.service.worker.interface import Pixels
from pixeltier.service.worker.png_writer import write_png

SIDE_LIMITS: dict[OutputFormat, int] = {"webp": 16383, "jpeg": 65500}
"""Longest side each format can hold."""

KEEPS_ALPHA: dict[OutputFormat, bool] = {"png": True, "webp": True, "jpeg": False}


def check_output(width: int, height: int, format_: OutputFormat, max_pixels: int) -> None:
    """Reject an output that the limit or the format cannot hold, before it is computed.

    Args:
        width: of the output.
        height: of the output.

    Raises:
        ImageRejectedError: with kind output-too-large.
    """
    if width * height > max_pixels:
        raise ImageRejectedError(
            "output-too-large", f"the result would be {width}x{height} pixels and the limit is {max_pixels}"
        )
    limit = SIDE_LIMITS.get(format_)
    if limit is not None and max(width, height) > limit:
        raise ImageRejectedError(
            "output-too-large",
            f"the result would be {width}x{height}; {format_} holds {limit} a side, png more",
        )


def enlarge_alpha(alpha: Image.Image) -> Image.Image:
    """Alpha is resized on its own: it is a shape, not texture, and the network never saw one."""
    return alpha.resize((alpha.width * SCALE, alpha.height * SCALE), Image.Resampling.BICUBIC)


def encode(
    pixels: Pixels,
    source: Decoded,
    format_: OutputFormat,
    quality: int,
) -> bytes:
    """Compress uint8 [H, W, 3] with the source's alpha where the format can; quality is for JPEG and WebP."""
    image = Image.fromarray(pixels)
    if source.alpha is not None:
        alpha = enlarge_alpha(source.alpha)
        if KEEPS_ALPHA[format_]:
            image.putalpha(alpha)
        else:
            canvas = Image.new("RGB", image.size, (255, 255, 255))
            canvas.paste(image, mask=alpha)
            image = canvas
    if format_ == "png":
        return write_png(np.asarray(image))
    out = io.BytesIO()
    if format_ == "webp":
        image.save(out, "WEBP", quality=quality, method=2, exact=True)
    else:
        image.save(out, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
    return out.getvalue()
