"""The request's image: the raw body, or the multipart part named `file`. Limits hold on the stream."""

from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.api.problems import FieldError, Problem, ProblemError

IMAGE_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})

UNDECLARED = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
)
"""Types that say nothing, judged by the content: the last is what `curl --data-binary @cat.jpg` declares."""

MULTIPART = "multipart/form-data"

MULTIPART_OVERHEAD = 16 * 1024
"""What boundaries, part headers and small other fields may add to the image's own bytes."""


async def read_image(request: Request, max_bytes: int) -> bytes:
    """Read the image's bytes.

    Raises:
        ProblemError: unsupported-media-type, payload-too-large, validation (no part named file).
        ClientDisconnect: the client went away meanwhile.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    declared = content_type.decode("latin-1").strip().lower()
    if declared == MULTIPART:
        body = await _read(request, max_bytes + MULTIPART_OVERHEAD, max_bytes)
        return _file_part(body, options.get(b"boundary", b""), max_bytes)
    _check_type(declared)
    return await _read(request, max_bytes, max_bytes)


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a body of any type; raises payload-too-large."""
    return await _read(request, max_bytes, max_bytes)


def _check_type(declared: str) -> None:
    if declared not in IMAGE_TYPES and declared not in UNDECLARED:
        raise ProblemError(Problem.UNSUPPORTED_MEDIA_TYPE, f"{declared[:100]!r} is not accepted")


async def _read(request: Request, limit: int, stated_limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(stated_limit)  # the server discards the announced rest, the connection lives on
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(stated_limit, close=True)  # nobody knows how much more would come
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int, *, close: bool = False) -> ProblemError:
    headers = {"Connection": "close"} if close else None
    return ProblemError(Problem.PAYLOAD_TOO_LARGE, f"the limit is {limit} bytes", headers=headers)


@dataclass(slots=True)
class _Parts:
    """Callbacks of the parser; keeps the first part named `file`."""

    body: bytes
    names: list[str] = field(default_factory=list)
    file: list[bytes] | None = None
    file_type: str = ""
    _header: bytes = b""
    _value: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _keep: bool = False

    def on_part_begin(self) -> None:
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self.names.append(name)
        self._keep = name == "file" and self.file is None
        if self._keep:
            self.file = []
            self.file_type = parse_options_header(self._headers.get(b"content-type", b""))[0].decode(
                "latin-1"
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._keep and self.file is not None:
            self.file.append(data[start:end])


def _file_part(body: bytes, boundary: bytes, max_bytes: int) -> bytes:
    parts = _Parts(body)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.on_part_begin,
                "on_header_field": parts.on_header_field,
                "on_header_value": parts.on_header_value,
                "on_header_end": parts.on_header_end,
                "on_headers_finished": parts.on_headers_finished,
                "on_part_data": parts.on_part_data,
            },
        )
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError, AssertionError) as error:
        raise _malformed(f"the multipart body is malformed: {error}") from error
    if parts.file is None:
        seen = ", ".join(repr(name[:40]) for name in parts.names[:5]) or "none"
        raise _malformed(f"there is no part named 'file' (parts: {seen})")
    _check_type(parts.file_type.strip().lower())
    image = b"".join(parts.file)
    if len(image) > max_bytes:
        raise _too_large(max_bytes)
    return image


def _malformed(detail: str) -> ProblemError:
    return ProblemError(Problem.VALIDATION, detail, errors=[FieldError(field="body.file", message=detail)])
