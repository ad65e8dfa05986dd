"""multipart/form-data (RFC 7578, RFC 2046 5.1): the parts `file`, and the other parts as text by their names.

The body is in memory and bounded; a client's file is a slice of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from python_multipart.multipart import parse_options_header

from pixeltier.service.problems import FieldError, Problem, ProblemError

MEDIA_TYPE = "multipart/form-data"

FILE = "file"

MAX_PARTS = 64

MAX_BOUNDARY = 200
"""RFC 2046, 5.1.1 allows 70; clients with longer ones do no harm."""

MAX_PART_HEAD = 8 * 1024

_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1"}

_PLAIN = frozenset({"", "binary", "8bit", "7bit"})
"""Transfer encodings that change nothing; RFC 7578, 4.7 has no others."""

_FOLD = re.compile(rb"\r\n[ \t]+")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form: the name that the client gives it, the media type that its part declares, its bytes."""

    name: str
    type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """A form: its files in their order, and the other fields."""

    files: list[File]
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    filename: str
    headers: dict[str, str] = field(repr=False)
    content: bytes = field(repr=False)


def parse(body: bytes, boundary: bytes) -> Form:
    """Read a form.

    Raises:
        ProblemError: validation: malformed, truncated, no part `file`, another name given twice; each by name.
    """
    parts: dict[str, _Part] = {}
    files: list[File] = []
    for part in _parts(body, boundary):
        if part.name == FILE:
            files.append(File(part.filename, _type(part)[0], part.content))
            continue
        if part.name in parts:
            raise _refused(part.name, "the field is given twice; which one is meant?")
        parts[part.name] = part
    if not files:
        seen = ", ".join(repr(name[:40]) for name in list(parts)[:5]) or "none"
        raise _refused(FILE, f"there is no part named 'file' (parts: {seen})")
    return Form(files, {name: _text(part) for name, part in parts.items()})


def _parts(body: bytes, boundary: bytes) -> Iterator[_Part]:
    """The parts between the delimiters; preamble and epilogue are nobody's."""
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise _malformed(
            f"the Content-Type's boundary has {len(boundary)} characters, not 1 to {MAX_BOUNDARY}"
        )
    delimiter = b"\r\n--" + boundary
    # At the very beginning the delimiter has no line break before it.
    at = -2 if body.startswith(delimiter[2:]) else _find(body, delimiter, 0)
    for _ in range(MAX_PARTS + 1):
        at += len(delimiter)
        if body.startswith(b"--", at):
            return
        line_end = body.find(b"\r\n", at)
        if line_end < 0 or body[at:line_end].strip(
            b" \t"
        ):  # padding is allowed (RFC 2046), anything else is not
            raise _malformed("a line begins with the boundary and goes on, or does not end with CR LF")
        following = _find(body, delimiter, line_end)
        yield _part(body, line_end, following)
        at = following
    raise _malformed(f"there are more than {MAX_PARTS} parts")


def _find(body: bytes, delimiter: bytes, start: int) -> int:
    at = body.find(delimiter, start)
    if at < 0:
        missing = "the closing delimiter" if start else "the Content-Type's boundary"
        raise _malformed(f"{missing} is missing on a line of its own (lines end with CR LF)")
    return at


def _part(body: bytes, start: int, end: int) -> _Part:
    """The part between two line breaks: the one that ends a delimiter's line, the one before the next delimiter."""
    blank = body.find(b"\r\n\r\n", start, end + 2)
    head_end = end if blank < 0 else blank
    if head_end - start > MAX_PART_HEAD:
        raise _malformed(f"the headers of a part are longer than {MAX_PART_HEAD} bytes")
    headers = _headers(body[start + 2 : head_end])
    disposition = parse_options_header(headers.get("content-disposition", ""))[1]
    name = disposition.get(b"name", b"").decode("utf-8", "replace")
    if not name:
        raise _malformed("a part has no name; it is named by Content-Disposition: form-data; name=...")
    encoding = headers.get("content-transfer-encoding", "").lower()
    if encoding not in _PLAIN:
        raise _refused(
            name, f"Content-Transfer-Encoding {encoding[:40]!r} is not accepted; send the bytes as they are"
        )
    filename = disposition.get(b"filename", b"").decode("utf-8", "replace")
    return _Part(name, filename, headers, b"" if blank < 0 else body[blank + 4 : end])


def _headers(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _FOLD.sub(b" ", head).split(b"\r\n") if head else ():
        name, colon, value = line.decode("latin-1").partition(":")
        key = name.strip(" \t").lower()
        if not colon or not key or key in found:
            raise _malformed(f"a part has a bad or repeated header line: {line[:60].decode('latin-1')!r}")
        found[key] = value.strip(" \t")
    return found


def _type(part: _Part) -> tuple[str, str]:
    """The part's declared media type and its charset."""
    type_, options = parse_options_header(part.headers.get("content-type", ""))
    charset = options.get(b"charset", b"").decode("latin-1").lower()
    return type_.decode("latin-1").strip().lower(), charset


def _text(part: _Part) -> str:
    charset = _type(part)[1]
    if charset not in _CHARSETS:
        raise _refused(part.name, f"the charset {charset[:40]!r} is not known; send UTF-8")
    try:
        return part.content.decode(_CHARSETS[charset])
    except UnicodeDecodeError as error:
        raise _refused(part.name, f"the value is not {charset or 'UTF-8'} text") from error


def _malformed(detail: str) -> ProblemError:
    return _refused("", f"the multipart body is malformed: {detail}")


def _refused(name: str, message: str) -> ProblemError:
    place = f"form.{name[:64]}" if name else "form"
    return ProblemError(
        Problem.VALIDATION, f"{place}: {message}", errors=[FieldError(field=place, message=message)]
    )
