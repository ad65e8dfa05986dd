"""One target a parser of outside bytes. Each takes any bytes and returns, or there is a bug.

A target lets through only what its parser documents that it raises. The signature is that of atheris' TestOneInput, so
`python -m tests.fuzz.run --atheris NAME` can drive it by coverage; without atheris the same command mutates seeds.
"""

import asyncio
import contextlib
import gzip
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from pixeltier.service.api import access, admin_requests, image_header, negotiate, tensors
from pixeltier.service.api.admin_tokens import AdminTokens
from pixeltier.service.api.body import read_bytes, read_upload
from pixeltier.service.api.parameters import headers_of, merge, query_of
from pixeltier.service.api.proxy import ProxyMiddleware, local_path
from pixeltier.service.configuration.token_file import TokenFileError
from pixeltier.service.problems import ProblemError
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.telemetry import trace_context
from pixeltier.service.tiers import patch, schema
from pixeltier.service.worker.decode import ImageRejectedError, decode
from tests.images import encoded, photo

MAX_PIXELS = 1 << 20

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
DEFAULT_TIERS = schema.read()
DOCUMENT = schema.parse(DEFAULT_TIERS, source="default").document()


def _request(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """A head and the rest: the first line feed stands between them."""
    head, _, rest = data.partition(b"\n")
    return head, rest


def header_of_image(data: bytes) -> None:
    """Size from the first bytes; whatever it says must be a size."""
    header = image_header.read(data)
    if header is not None and header.size is not None:
        assert all(isinstance(side, int) and side >= 0 for side in header.size)


def image(data: bytes) -> None:
    """Decoding, EXIF and ICC included. What is too large must never be decoded."""
    for reduce in (False, True):
        with contextlib.suppress(ImageRejectedError):
            decoded = decode(data, max_pixels=MAX_PIXELS, reduce=reduce)
            assert decoded.rgb.mode == "RGB"
            assert decoded.pixels <= MAX_PIXELS
            header = image_header.read(data)
            assert header is not None, "the worker accepts what the front would never send it"


def multipart(data: bytes) -> None:
    """Content-Type, then a form body."""
    head, body = _split(data)
    with contextlib.suppress(ProblemError):
        asyncio.run(read_upload(_request([(b"content-type", head)], body), 1 << 16))


def content_coding(data: bytes) -> None:
    """Content-Encoding, then a body; what it decodes to stays within the limit."""
    head, body = _split(data)
    with contextlib.suppress(ProblemError):
        assert len(asyncio.run(read_bytes(_request([(b"content-encoding", head)], body), 1 << 16))) <= 1 << 16


def prefix(data: bytes) -> None:
    """X-Forwarded-Prefix, then a path: whatever they are, the routes see a path of the request's."""
    head, rest = _split(data)
    path = "/" + rest.decode("latin-1")
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {
        "type": "http",
        "path": path,
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-prefix", head)],
    }
    proxied = ProxyMiddleware(app, trusted=["127.0.0.1"], prefix="/px", told_is_cut=True)
    asyncio.run(proxied(scope, None, None))  # type: ignore[arg-type]
    assert path.endswith(local_path(seen[0]))
    assert scope["path"] == path


def tensor(data: bytes) -> None:
    """Inference-Header-Content-Length (empty: absent), then a request of the Open Inference Protocol."""
    head, body = _split(data)
    with contextlib.suppress(tensors.TensorError):
        request, found = tensors.parse(body, head.decode("latin-1") or None)
        assert found
        assert all(isinstance(image, bytes) for image in found)
        outputs = [tensors.Tensor("labels", "BYTES", [1, 1], ["x"])]
        tensors.compose({"id": request.id}, tensors.select(request, outputs))


def tier_toml(data: bytes) -> None:
    """The tier file."""
    with contextlib.suppress(schema.TierTableError):
        table = schema.parse(data.decode("utf-8", "replace"), source="fuzz")
        assert schema.validate(table.document()) == table


def tier_json(data: bytes) -> None:
    """An operator's document, and the same bytes as a patch of the packaged table."""
    with contextlib.suppress(schema.TierTableError):
        value = schema.parse_json(data)
        with contextlib.suppress(schema.TierTableError):
            table = schema.validate(value)
            assert schema.validate(table.document()) == table
        patched = schema.validate(patch.apply(DOCUMENT, value))
        patch.differences(DOCUMENT, patched.document())


def accept(data: bytes) -> None:
    """Content negotiation."""
    offered = ("image/png", "image/webp", "image/jpeg")
    assert negotiate.choose(data.decode("latin-1"), offered) in {*offered, None}


def parameters(data: bytes) -> None:
    """A query, then headers, of every task: `a=b&c=d` each."""
    head, rest = (
        dict(pair.partition("=")[::2] for pair in part.decode("latin-1").split("&")) for part in _split(data)
    )
    for spec in SPECS.values():
        with contextlib.suppress(ValidationError):
            query, headers = query_of(spec).model_validate(head), headers_of(spec).model_validate(rest)
            options = merge(spec, query, headers)
            assert 0 <= options.urgency <= 7


def conditions(data: bytes) -> None:
    """If-Match and If-None-Match."""
    head, rest = _split(data)
    with contextlib.suppress(ProblemError):
        admin_requests.expected_version(_request([(b"if-match", head)]), 7)
    admin_requests.not_modified(_request([(b"if-none-match", rest)]), 7)


def trace(data: bytes) -> None:
    """W3C traceparent and tracestate."""
    head, rest = _split(data)
    trace_context.read([(b"traceparent", head), (b"tracestate", rest)])


def api_keys(data: bytes) -> None:
    """The key file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(access.AccessFileError):
            access.load(Path(file.name))


def admin_tokens(data: bytes) -> None:
    """The file of admin tokens."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(TokenFileError):
            AdminTokens(Path(file.name))


@dataclass(frozen=True)
class Target:
    """A function, and inputs it should see near."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


_FORM = (
    b'multipart/form-data; boundary=x\n--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\nbytes\r\n--x--\r\n"
)
_TENSOR = b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["aGVsbG8="]}],"parameters":{"tier":"x"}}'
_BINARY = (
    b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":9}}],'
    b'"outputs":[{"name":"labels","parameters":{"binary_data":true}}]}'
)
_JSON = schema.parse(DEFAULT_TIERS, source="default").model_dump_json(by_alias=True).encode()

TARGETS = {
    "header_of_image": Target(
        header_of_image, tuple(encoded(photo(9, 7), name) for name in ("JPEG", "PNG", "WEBP"))
    ),
    "image": Target(image, tuple(encoded(photo(9, 7), name) for name in ("JPEG", "PNG", "WEBP"))),
    "multipart": Target(multipart, (_FORM, b"image/png\nbytes")),
    "content_coding": Target(
        content_coding,
        (b"gzip\n" + gzip.compress(b"bytes", mtime=0), b"deflate\n" + zlib.compress(b"bytes")),
    ),
    "prefix": Target(prefix, (b"/told\nv1/tiers", b"/a, /b\npx/v1/tiers")),
    "tensor": Target(
        tensor, (b"\n" + _TENSOR, b"%d\n" % len(_BINARY) + _BINARY + struct.pack("<I", 5) + b"bytes")
    ),
    "tier_toml": Target(tier_toml, (DEFAULT_TIERS.encode(),)),
    "tier_json": Target(tier_json, (_JSON, b'{"tiers": {"fast": {"thresholds": {"classify": 0.6}}}}')),
    "accept": Target(accept, (b"image/webp;q=0.8, image/*;q=0.5, */*;q=0.1", b"text/html")),
    "parameters": Target(
        parameters, (b"tier=fast&top_k=3\npriority=u=1&x-threshold=0.5", b"format=webp&quality=3\n")
    ),
    "conditions": Target(conditions, (b'"7", W/"8"\n*', b'*\n"7"')),
    "trace": Target(trace, (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nvendor=value",)),
    "api_keys": Target(api_keys, (access.new_key("team-a")[1].encode() + b'tiers = ["fast"]\nrate = 5.0\n',)),
    "admin_tokens": Target(admin_tokens, (b"# who\nalice:0123456789abcdefghij\n",)),
}
