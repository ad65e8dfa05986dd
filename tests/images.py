"""Synthetic images for the service's tests."""

import io
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image


def photo(width: int = 64, height: int = 48, colour: int = 0) -> Image.Image:
    """A smooth picture with an edge in it; `colour` 0, 1, 2 makes red, green or blue the strongest."""
    y, x = np.mgrid[0:height, 0:width]
    base = 60 + 60 * np.sin(x / 7) * np.cos(y / 5) + 20 * (x > width / 2)
    pixels = np.stack([base, base, base], axis=2)
    pixels[..., colour] += 80
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def png(width: int = 64, height: int = 48, colour: int = 0) -> bytes:
    return encoded(photo(width, height, colour))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_chunks(body: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        chunks.append((body[at + 4 : at + 8], body[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels never come."""
    ihdr = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return png_of([(b"IHDR", ihdr), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")])
