"""What a JPEG's segments say, and its pixels by a decoder that reports damage.

libjpeg goes on past damage and warns; Pillow hides the warnings, simplejpeg makes errors of them. What it gets is
what pixels need: junk between header segments and malformed metadata lose no pixel and do not count as damage.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

SIGNATURE = b"\xff\xd8\xff"
END = b"\xff\xd9"

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_ALONE = {0x01, *range(0xD0, 0xD8)}
_KEPT = {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE} | _FRAMES
"""Tables, frames, and the two segments that tell the colours apart: JFIF's and Adobe's."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker in coded data: no stuffed zero, restart or fill byte."""
_PADDING = re.compile(rb"(?<!\xff)\x00+\xff\xd9")
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


class JpegError(ValueError):
    """The file is damaged; the message says how."""


@dataclass(frozen=True, slots=True)
class JpegFile:
    """The file that the decoder gets: header segments that pixels need, then the coded data as it is."""

    body: bytes

    def pixels(self, mode: str, shortest: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """Decode.

        Args:
            mode: Pillow's name: L, RGB or CMYK.
            shortest: height and width that a reduced decoding (1/2, 1/4, 1/8) must not fall below.

        Returns:
            uint8 [H, W, C].

        Raises:
            JpegError: the coded data is damaged or incomplete.
        """
        try:
            return _decode(self.body, mode, shortest)
        except ValueError as error:
            mended = _mended(self.body, str(error))
            if mended is None:
                raise JpegError(_reason(error)) from error
        try:
            return _decode(mended, mode, shortest)
        except ValueError as error:
            raise JpegError(_reason(error)) from error


def read(body: bytes) -> JpegFile:
    """The segments of a file that begins with SIGNATURE.

    Raises:
        JpegError: there is no coded data.
    """
    parts, at = [body[:2]], 2
    while True:
        at = body.find(b"\xff", at)
        while at >= 0 and body[at + 1 : at + 2] == b"\xff":
            at += 1
        if at < 0 or at + 4 > len(body):
            raise JpegError("it ends before its image data")
        marker, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return JpegFile(b"".join((*parts, body[at:])))
        if marker == 0 or marker in _ALONE:
            at += 2
            continue
        if marker in _KEPT:
            parts.append(body[at : at + 2 + length])
        at += 2 + max(2, length)


def _decode(body: bytes, mode: str, shortest: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    height, width = shortest or (0, 0)
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        body, _SPACES[mode], min_height=height, min_width=width, strict=True
    )
    return 255 - pixels if mode == "CMYK" else pixels  # Adobe's way, inverted, as Pillow has it


def _mended(body: bytes, reason: str) -> bytes | None:
    """Without the zeros that some cameras fill up with, or with the end marker that alone is missing.

    Where more is missing the decoder finds too few bits before that marker, or scans are missing.
    """
    if "extraneous bytes before marker 0xd9" in reason:
        return _PADDING.sub(END, body)
    if "Premature end of JPEG file" in reason and _has_every_scan(body):
        return body + END
    return None


def _has_every_scan(body: bytes) -> bool:
    """Whether the scans before the data ends code every coefficient of every component to its last bit."""
    missing: dict[int, set[int]] = {}
    progressive = False
    for found in _MARKER.finditer(body, 2):
        marker, at = found[1][0], found.end()
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            components = body[at + 7]
            missing = {body[at + 8 + 3 * n]: set(range(64)) for n in range(components)}
        elif marker == _START_OF_SCAN:
            count = body[at + 2]
            first, last, bits = body[at + 3 + 2 * count : at + 6 + 2 * count]
            for n in range(count):
                left = missing.get(body[at + 3 + 2 * n], set())
                left -= (
                    set(range(64))
                    if not progressive
                    else set(range(first, last + 1))
                    if not bits & 15
                    else set()
                )
    return bool(missing) and not any(missing.values())


def _reason(error: ValueError) -> str:
    text = str(error)
    return text.splitlines()[0] if text else "its image data is damaged"
