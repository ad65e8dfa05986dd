"""Width and height from the first bytes of a file: bombs are turned away before they wait in the queue.

This never decides that a file is good: what it cannot read, the worker's decoder judges.
"""

from typing import Literal, NamedTuple


class Header(NamedTuple):
    """The format by its signature, and the size where it could be read."""

    format: Literal["jpeg", "png", "webp"]
    size: tuple[int, int] | None


def read(body: bytes) -> Header | None:
    """The header of a JPEG, PNG or WebP; None for anything else."""
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return Header("png", _png(body))
    if body.startswith(b"\xff\xd8\xff"):
        return Header("jpeg", _jpeg(body))
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return Header("webp", _webp(body))
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _png(body: bytes) -> tuple[int, int] | None:
    return (_big(body[16:20]), _big(body[20:24])) if body[12:16] == b"IHDR" and len(body) >= 24 else None


def _jpeg(body: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(body) and body[at] == 0xFF:
        marker = body[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no payload
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # a frame header
            return _big(body[at + 7 : at + 9]), _big(body[at + 5 : at + 7])
        else:
            at += 2 + _big(body[at + 2 : at + 4])
    return None


def _webp(body: bytes) -> tuple[int, int] | None:
    if len(body) < 30:
        return None
    chunk = body[12:16]
    if chunk == b"VP8X":
        return 1 + _little(body[24:27]), 1 + _little(body[27:30])
    if chunk == b"VP8L" and body[20] == 0x2F:
        bits = _little(body[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and body[23:26] == b"\x9d\x01\x2a":
        return _little(body[26:28]) & 0x3FFF, _little(body[28:30]) & 0x3FFF
    return None
