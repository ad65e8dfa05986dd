"""What a PNG's chunks say, checked before the decoder sees them.

The decoder behind Pillow skips the checksums of image data and takes a stream that ends early for black lines, so
both are checked here. It then gets what pixels need and nothing else; profile and EXIF are read here, bounded.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MOST_PROFILE_BYTES = 32 * 2**20
"""Largest colour profile, decompressed; those of printers and scanners reach a few MiB."""

MOST_EXIF_BYTES = 2**20
"""Larger text that might hold EXIF is not read for its orientation."""

LEAST_GAMMA, MOST_GAMMA = 0.1, 10.0
"""Beyond these a picture would be black or white: the value is a mistake and ignored."""

DECODED_AHEAD = 32 * 2**20
"""Image data up to this size reaches the decoder decompressed, so that it is decompressed once."""

_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and the steps, of each pass of an interlaced image (PNG 8.1)."""

Chunk = tuple[bytes, memoryview]


class PngError(ValueError):
    """The file is damaged; the message says where."""


@dataclass(frozen=True, slots=True)
class PngFile:
    """A checked file: its chunks but the image data, and the image data apart."""

    chunks: Sequence[Chunk]
    data: Sequence[memoryview]

    def first(self, kind: bytes) -> bytes | None:
        """The contents of the first chunk of a kind."""
        return next((bytes(data) for name, data in self.chunks if name == kind), None)

    @property
    def header(self) -> tuple[int, int, int, int, bool]:
        """Width, height, bits a sample, colour type, whether interlaced."""
        data = self.first(b"IHDR") or b""
        return _number(data[:4]), _number(data[4:8]), data[8], data[9], bool(data[12])

    def pixels_only(self) -> bytes:
        """The file that the decoder gets, its image data whole.

        Raises:
            PngError: the image data is damaged.
        """
        parts = [SIGNATURE]
        for kind, data in self.chunks:
            if kind == b"IEND":
                parts.append(chunk(b"IDAT", self._checked_data()))
            if kind in _PIXELS:
                parts.append(chunk(kind, data))
        return b"".join(parts)

    def profile(self) -> bytes | None:
        """The embedded colour profile (iCCP, PNG 11.3.2.3); None where there is none or it is malformed.

        Raises:
            PngError: it is larger than MOST_PROFILE_BYTES.
        """
        data = self.first(b"iCCP")
        if data is None:
            return None
        _, separator, rest = data.partition(b"\0")
        if not separator or rest[:1] != b"\0":
            return None
        profile = _inflated(rest[1:], MOST_PROFILE_BYTES)
        if profile is not None and len(profile) > MOST_PROFILE_BYTES:
            raise PngError(f"its colour profile is larger than {MOST_PROFILE_BYTES} bytes")
        return profile

    def gamma(self) -> float | None:
        """Of a file that tells its colours in no better way (gAMA, PNG 11.3.2.2); None where it says nothing."""
        data = self.first(b"gAMA")
        if data is None or len(data) != 4 or any(self.first(kind) is not None for kind in (b"sRGB", b"cICP")):
            return None
        value = _number(data) / 100_000
        return value if LEAST_GAMMA <= value <= MOST_GAMMA else None

    def exif(self) -> bytes | None:
        """The EXIF block: its chunk, or the text that ImageMagick writes instead."""
        found = self.first(b"eXIf")
        if found is not None:
            return found
        for kind, data in self.chunks:
            if kind not in {b"tEXt", b"zTXt"} or not bytes(data[:21]).startswith(b"Raw profile type exif"):
                continue
            _, _, text = bytes(data).partition(b"\0")
            plain = _inflated(text[1:], MOST_EXIF_BYTES) if kind == b"zTXt" else text
            if plain is not None and len(plain) <= MOST_EXIF_BYTES:
                return _from_hexadecimal(plain)
        return None

    def _checked_data(self) -> bytes:
        """The image data as one chunk: inflated whole, of the right length, with the right checksum."""
        wanted = raw_bytes(*self.header)
        stream = zlib.decompressobj()
        kept: list[bytes] | None = [] if wanted <= DECODED_AHEAD else None
        got = 0
        for piece in _pieces(stream, self.data):
            got += len(piece)
            if kept is not None:
                kept.append(piece)
            if got > wanted:
                raise PngError("it has more image data than pixels")
        if not stream.eof or got < wanted:
            raise PngError(f"its image data ends after {got} of {wanted} bytes")
        if kept is None:
            return b"".join(self.data)
        return zlib.compress(b"".join(kept), 0)


def read(body: bytes) -> PngFile:
    """The chunks of a file that begins with SIGNATURE.

    Raises:
        PngError: a chunk is cut off, out of place or missing, or its checksum is wrong.
    """
    view = memoryview(body)
    at, chunks, data = len(SIGNATURE), list[Chunk](), list[memoryview]()
    while not chunks or chunks[-1][0] != b"IEND":
        length, kind = _number(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = at + 12 + length
        if end > len(body):
            raise PngError("it ends in the middle" if chunks else "its header is cut off")
        if not kind.isalpha():
            raise PngError("a chunk's name is damaged")
        if zlib.crc32(view[at + 4 : end - 4]) != _number(view[end - 4 : end]):
            raise PngError(f"the checksum of its chunk {kind.decode()} is wrong")
        contents = view[at + 8 : end - 4]
        if kind == b"IDAT":
            if data and chunks[-1][0] != b"IDAT":
                raise PngError("its image data is interrupted")
            data.append(contents)
        chunks.append((kind, contents))
        at = end
    _check(chunks, data)
    return PngFile([chunk for chunk in chunks if chunk[0] != b"IDAT"], data)


def raw_bytes(width: int, height: int, bits: int, colour_type: int, interlaced: bool) -> int:
    """Bytes of the image data once decompressed: each line of each pass begins with its filter (PNG 7.2, 8)."""
    deep = bits * _CHANNELS[colour_type]

    def lines(across: int, down: int) -> int:
        return down * (1 + -(-across * deep // 8)) if across else 0

    if not interlaced:
        return lines(width, height)
    return sum(
        lines(
            -(-(width - left) // across) if width > left else 0,
            -(-(height - top) // down) if height > top else 0,
        )
        for left, top, across, down in _PASSES
    )


def _check(chunks: Sequence[Chunk], data: Sequence[memoryview]) -> None:
    kind, header = chunks[0]
    if kind != b"IHDR" or len(header) != 13:
        raise PngError("its header is damaged")
    if header[9] not in _CHANNELS:
        raise PngError(f"its colour type {header[9]} does not exist")
    if not data:
        raise PngError("it has no image data")


def _pieces(stream: "zlib._Decompress", data: Sequence[memoryview]) -> Iterator[bytes]:
    """The stream inflated a mebibyte at a time.

    Raises:
        PngError: it is damaged.
    """
    try:
        for part in data:
            rest: bytes | memoryview = part
            while rest and not stream.eof:
                yield stream.decompress(rest, 2**20)
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise PngError(f"its image data is damaged ({str(error).rpartition(': ')[2]})") from error


def _inflated(data: bytes, most: int) -> bytes | None:
    """Inflate to at most a byte more than `most`; None where the data is damaged."""
    try:
        return zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        return None


def _from_hexadecimal(text: bytes) -> bytes | None:
    """ImageMagick's text: a name, a length, then lines of hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except ValueError:
        return None


def chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """Length, kind, data, checksum of both (PNG 5.3)."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((len(data).to_bytes(4, "big"), kind, data, checksum.to_bytes(4, "big")))


def _number(data: bytes | memoryview) -> int:
    return int.from_bytes(data, "big")
