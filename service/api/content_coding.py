"""Content-Encoding of a request's body (RFC 9110, 8.4): gzip and deflate, undone while the bytes arrive."""

import zlib
from collections.abc import Iterator
from typing import Literal

from starlette.requests import Request

from pixeltier.service.problems import FieldError, Problem, ProblemError

ACCEPTED = "gzip, deflate"

OVERHEAD = 64 * 1024
"""What a coding may add to bytes that do not compress."""

PIECE_BYTES = 256 * 1024
"""Most that is decoded at once: about a millisecond."""

MAX_MEMBERS = 1024
"""A gzip body may be several gzip files end to end (RFC 1952, 2.2), but not a million empty ones."""

_CODINGS: dict[str, Literal["gzip", "deflate"]] = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS

_DEFLATED = 8
"""The low half of the first byte of zlib data (RFC 1950, 2.2); no encoder begins raw deflate data so."""


def decoder_of(request: Request) -> "Decoder | None":
    """What undoes the body's coding; None where it has none.

    Raises:
        ProblemError: unsupported-media-type, for any other coding and for several on top of each other.
    """
    lines = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    codings = [name for line in lines if (name := line.strip()) not in {"", "identity"}]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _CODINGS:
        shown = ", ".join(codings)[:100]
        reason = "only one coding at a time is undone" if len(codings) > 1 else "there is no decoder for it"
        raise ProblemError(
            Problem.UNSUPPORTED_CODING,
            f"Content-Encoding {shown!r} is not accepted: {reason}",
            headers={"Accept-Encoding": ACCEPTED},
        )
    return Decoder(_CODINGS[codings[0]])


class Decoder:
    """Undoes one coding. It never makes more than is asked for, so that a bomb does not go off."""

    def __init__(self, coding: Literal["gzip", "deflate"]) -> None:
        self._coding = coding
        self._stream: zlib._Decompress | None = None
        self._members = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes decode to, in pieces of at most PIECE_BYTES.

        Raises:
            ProblemError: bad-request, where they are corrupt.
        """
        while data:
            if self._stream is None or self._stream.eof:
                data = self._begin(data)
                if self._stream is None or self._stream.eof:  # nothing but padding
                    return
            try:
                yield self._stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise self._bad(f"corrupt ({str(error).rpartition(': ')[2]})") from error
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def finish(self) -> bytes:
        """The last bytes. An empty body is empty in every coding.

        Raises:
            ProblemError: bad-request, where the data ends too early.
        """
        if self._stream is None:
            return b""
        rest = self._stream.flush()
        if not self._stream.eof:
            raise self._bad("truncated: it ends too early")
        return rest

    def _begin(self, data: bytes) -> bytes:
        """Open the first or the next member; gives the data without padding before it."""
        if self._members:
            if self._coding == "deflate":
                raise self._bad("followed by bytes that do not belong to it")
            data = data.lstrip(b"\0")
            if not data:
                return data
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise self._bad(f"of more than {MAX_MEMBERS} members")
        window = _GZIP
        if self._coding == "deflate":  # zlib data by the standard, raw deflate data by some clients
            window = _ZLIB if data[0] & 0x0F == _DEFLATED else _RAW
        self._stream = zlib.decompressobj(window)
        return data

    def _bad(self, what: str) -> ProblemError:
        message = f"the body is {self._coding} data by its Content-Encoding, but {what}"
        return ProblemError(
            Problem.BAD_REQUEST,
            message,
            errors=[FieldError(field="header.content-encoding", message=message)],
            headers={"Connection": "close"},  # the rest of the body may still be under way
        )
