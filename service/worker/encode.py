"""Pixels to compressed bytes, without metadata."""

import io
from fractions import Fraction

import numpy as np
from PIL import Image

from pixeltier.models.results import Pixels
from pixeltier.service.tasks import SCALE
from pixeltier.service.work.messages import OutputFormat, TargetSize
from pixeltier.service.worker.decode import Decoded, ImageRejectedError
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


def output_size(source: tuple[int, int], target: TargetSize) -> tuple[int, int]:
    """Width and height of the result for an image of `source` (width, height).

    Raises:
        ImageRejectedError: with kind output-too-large: more than four times the image.
    """
    width, height = source
    wanted = target.width, target.height
    if target.width is None and target.height is None:
        return width * target.scale, height * target.scale
    if target.width is None or target.height is None:
        factor = Fraction(target.width or 0, width) + Fraction(target.height or 0, height)
        wanted = max(1, round(width * factor)), max(1, round(height * factor))
    found = (target.width or wanted[0] or 1, target.height or wanted[1] or 1)
    if found[0] > SCALE * width or found[1] > SCALE * height:
        raise ImageRejectedError(
            "output-too-large",
            f"the result would be {found[0]}x{found[1]}; an image of {width}x{height} gives at most "
            f"{SCALE * width}x{SCALE * height}",
        )
    return found


def resized_alpha(alpha: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Alpha is resized on its own: it is a shape, not texture, and the network never saw one."""
    return alpha.resize(size, Image.Resampling.BICUBIC)


def encode(
    pixels: Pixels, source: Decoded, size: tuple[int, int], format_: OutputFormat, quality: int
) -> bytes:
    """Compress uint8 [H, W, 3] with the source's alpha where the format can; quality is for JPEG and WebP.

    Args:
        size: width and height of the result; a smaller one than the pixels' is reduced to, antialiased (Pillow's
            bicubic, whose support grows with the reduction).
    """
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    if source.alpha is not None:
        alpha = resized_alpha(source.alpha, size)
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
