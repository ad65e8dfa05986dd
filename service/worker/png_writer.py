"""PNG files (W3C PNG, third edition) of 8-bit pixels, written for speed.

Every row is filtered by `up`, which suits photos and is one subtraction, then compressed by ISA-L; where that is not
installed, by zlib at its fastest level. Measured on 2048x2048 pixels of a photo (Zen 4, one thread): 34 ms, by zlib
130 ms, by Pillow at level 1 300 ms, sizes within 2 % of each other.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pixeltier.service.worker.png_file import SIGNATURE, chunk

try:
    from isal import isal_zlib
except ImportError:  # no wheel for this machine
    isal_zlib = None  # type: ignore[assignment]

COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG's colour type of so many channels: gray, RGB, RGBA."""

_UP = 2
_ISAL_LEVEL, _ZLIB_LEVEL = 2, 1
_BAND_BYTES = 2**20
_MOST_CHUNK_BYTES = 2**30


def write_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Compress pixels without loss and without metadata.

    Args:
        pixels: uint8 [H, W, C], C of 1 (gray), 3 (RGB) or 4 (RGBA, not premultiplied); sides from 1 to 2^31 - 1.

    Raises:
        ValueError: another number of channels, or no pixels.
    """
    height, width, channels = pixels.shape
    if channels not in COLOUR_TYPES or not pixels.size:
        raise ValueError(f"a PNG has 1, 3 or 4 channels and at least one pixel, not {pixels.shape}")
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    data = _compress(np.ascontiguousarray(pixels).reshape(height, -1))
    parts = (data[start : start + _MOST_CHUNK_BYTES] for start in range(0, len(data), _MOST_CHUNK_BYTES))
    chunks = [(b"IHDR", header), *((b"IDAT", part) for part in parts), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def _compress(rows: npt.NDArray[np.uint8]) -> bytes:
    """Rows [H, bytes of a row] as a zlib stream, band by band."""
    compressor = isal_zlib.compressobj(_ISAL_LEVEL) if isal_zlib else zlib.compressobj(_ZLIB_LEVEL)
    return b"".join([*(compressor.compress(band.data) for band in _filtered(rows)), compressor.flush()])


def _filtered(rows: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Bands of rows, each row its filter's number and its difference to the row above, modulo 256."""
    height, row_bytes = rows.shape
    band_rows = max(1, _BAND_BYTES // row_bytes)
    for start in range(0, height, band_rows):
        end = min(height, start + band_rows)
        band = np.empty((end - start, row_bytes + 1), np.uint8)
        band[:, 0] = _UP
        band[0, 1:] = rows[start] - rows[start - 1] if start else rows[0]
        np.subtract(rows[start + 1 : end], rows[start : end - 1], out=band[1:, 1:])
        yield band
