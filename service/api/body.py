"""A request's body, bounded on the stream: the raw image, or a form with one part `file` or several."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from pixeltier.service.api import multipart
from pixeltier.service.api.content_coding import OVERHEAD, Decoder, decoder_of
from pixeltier.service.api.multipart import File
from pixeltier.service.problems import FieldError, Problem, ProblemError

IMAGE_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})

UNDECLARED = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"}
)
"""Types that say nothing, judged by the content: the last is what `curl --data-binary @cat.jpg` declares."""

MULTIPART_OVERHEAD = 16 * 1024
"""What boundaries, part headers and the other fields may add to the image's own bytes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Images, and the form fields that came beside them. A raw body is one image without a name."""

    images: list[File]
    fields: dict[str, str] = field(default_factory=dict)


def media_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """The declared media type in lower case, empty if none is, and its parameters.

    Raises:
        ProblemError: validation, where it is declared twice.
    """
    declared = request.headers.getlist("content-type")
    if len(declared) > 1:
        message = "the header is given twice; which one is meant?"
        raise ProblemError(
            Problem.VALIDATION,
            f"header.content-type: {message}",
            errors=[FieldError(field="header.content-type", message=message)],
        )
    type_, options = parse_options_header("".join(declared))
    return type_.decode("latin-1").strip().lower(), options


def is_form(request: Request) -> bool:
    """Whether the body is a form, whose fields are parameters too."""
    return media_type(request)[0] == multipart.MEDIA_TYPE


async def read_upload(request: Request, max_bytes: int, max_images: int = 1) -> Upload:
    """Read the images and the fields beside them; all images together have no more than `max_bytes`.

    Raises:
        ProblemError: unsupported-media-type, payload-too-large, bad-request (a broken content coding), validation (a
            malformed form, too many images).
        ClientDisconnect: the client went away meanwhile.
    """
    declared, options = media_type(request)
    if declared != multipart.MEDIA_TYPE:
        check_type(declared)
        return Upload([File("", declared, await _read(request, max_bytes, max_bytes))])
    body = await _read(request, max_bytes + MULTIPART_OVERHEAD, max_bytes)
    form = multipart.parse(body, options.get(b"boundary", b""))
    if len(form.files) > max_images:
        message = f"the form holds {len(form.files)} images and the limit is {max_images}"
        raise ProblemError(
            Problem.VALIDATION,
            f"form.file: {message}",
            errors=[FieldError(field="form.file", message=message)],
        )
    if len(form.files) == 1:
        check_type(form.files[0].type)
    if sum(len(file.content) for file in form.files) > max_bytes:
        raise _too_large(max_bytes)
    return Upload(form.files, form.fields)


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a body of any type; raises as `read_upload`."""
    return await _read(request, max_bytes, max_bytes)


def check_type(declared: str) -> None:
    """Refuse a declared media type that is not an image's; of several images each is told by itself.

    Raises:
        ProblemError: unsupported-media-type.
    """
    if declared not in IMAGE_TYPES and declared not in UNDECLARED:
        raise ProblemError(Problem.UNSUPPORTED_MEDIA_TYPE, f"{declared[:100]!r} is not accepted")


async def _read(request: Request, limit: int, stated_limit: int) -> bytes:
    """The body with its content coding undone; both forms of it are bounded."""
    decoder = decoder_of(request)
    on_the_wire = limit if decoder is None else limit + OVERHEAD
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > on_the_wire):
        raise _too_large(stated_limit)  # the server discards the announced rest, the connection lives on
    chunks: list[bytes] = []
    size = 0
    stream = _counted(request, on_the_wire, stated_limit)
    async for chunk in stream if decoder is None else _decoded(stream, decoder):
        size += len(chunk)
        if size > limit:
            raise _too_large(stated_limit, close=True)  # nobody knows how much more would come
        chunks.append(chunk)
    return b"".join(chunks)


async def _counted(request: Request, limit: int, stated_limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(stated_limit, close=True)
        yield chunk


async def _decoded(stream: AsyncIterator[bytes], decoder: Decoder) -> AsyncIterator[bytes]:
    async for chunk in stream:
        for piece in decoder.pieces(chunk):
            yield piece
            await asyncio.sleep(0)  # one body's decoding holds up nobody
    yield decoder.finish()


def _too_large(limit: int, *, close: bool = False) -> ProblemError:
    headers = {"Connection": "close"} if close else None
    return ProblemError(Problem.PAYLOAD_TOO_LARGE, f"the limit is {limit} bytes", headers=headers)
