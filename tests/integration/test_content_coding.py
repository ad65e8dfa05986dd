"""Bodies in a content coding (RFC 9110, 8.4), on every route that takes a body."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import brotli
import httpx
import numpy as np
import pytest
import tritonclient.http

from pixeltier.service.api.content_coding import MAX_MEMBERS, OVERHEAD
from tests.images import encoded, photo, png
from tests.integration.fakes import fake_app, running
from tests.integration.server import serving
from tests.tier_table import tiers_file

TOKEN = "a-token-of-the-coding-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}", "If-Match": "*", "Content-Type": "application/json"}
ROUTES = (
    "/v1/classify",
    "/v1/super-resolve",
    "/v2/models/classify/infer",
    "/v2/repository/index",
    "/admin/v1/tiers:dry-run",
)
LIMIT = 200_000
CHANGE = json.dumps({"tiers": {"fast": {"thresholds": {"classify": 0.6}}}, "reason": "a test"}).encode()


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(body) + deflater.flush()


def tensor(body: bytes) -> bytes:
    import base64

    data = [base64.b64encode(body).decode()]
    return json.dumps(
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]}
    ).encode()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZip": gzip.compress,
    "x-gzip": gzip.compress,
    "identity, gzip": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": raw_deflate,
    "identity": bytes,
    "": bytes,
}

GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    settings = {"admin_token_file": tokens, "tiers_file": tiers_file(tmp_path)}
    async with running(fake_app(max_body_bytes=LIMIT, **settings)) as client:
        yield client


@pytest.mark.parametrize("coding", CODINGS)
async def test_every_route_undoes_it(client: httpx.AsyncClient, coding: str) -> None:
    code, headers = CODINGS[coding], {"Content-Encoding": coding}
    blue = encoded(photo(30, 20))
    plain = (await client.post("/v1/super-resolve", content=blue)).content
    answer = await client.post("/v1/super-resolve", content=code(blue), headers=headers)
    assert answer.content == plain, answer.text
    assert (await client.post("/v1/classify", content=code(blue), headers=headers)).status_code == 200
    form = httpx.Request("POST", "http://x", files={"file": ("a.png", blue)}, data={"top_k": "1"})
    answer = await client.post(
        "/v1/classify",
        content=code(form.read()),
        headers=headers | {"Content-Type": form.headers["content-type"]},
    )
    assert len(answer.json()["predictions"]) == 1
    answer = await client.post("/v2/models/classify/infer", content=code(tensor(blue)), headers=headers)
    assert answer.status_code == 200, answer.text
    answer = await client.post("/v2/repository/index", content=code(b'{"ready": true}'), headers=headers)
    assert len(answer.json()) == 2, answer.text
    answer = await client.patch("/admin/v1/tiers", content=code(CHANGE), headers=headers | ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.json()["document"]["tiers"][3]["thresholds"]["classify"]["threshold"] == 0.6


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses_its_requests(algorithm: str) -> None:
    with serving() as url:
        client = tritonclient.http.InferenceServerClient(url.removeprefix("http://"))
        image = tritonclient.http.InferInput("image", [1], "BYTES")
        for binary in (True, False):
            image.set_data_from_numpy(np.array([png(colour=2)], dtype=object), binary_data=True)
            outputs = [tritonclient.http.InferRequestedOutput("labels", binary_data=binary)]
            found = client.infer(
                "classify", [image], outputs=outputs, request_compression_algorithm=algorithm
            )
            assert found.as_numpy("labels")[0][0] in {b"blue", "blue"}
        client.close()


def test_several_members_and_padding_are_one_body() -> None:
    from pixeltier.service.api.content_coding import Decoder

    members = gzip.compress(b"one, ") + gzip.compress(b"two, ") + gzip.compress(b"three") + bytes(512)
    for step in (1, 7, len(members)):
        decoder = Decoder("gzip")
        cut = [members[at : at + step] for at in range(0, len(members), step)]
        found = b"".join(piece for part in cut for piece in decoder.pieces(part)) + decoder.finish()
        assert found == b"one, two, three"


@pytest.mark.parametrize("make", [gzip.compress, zlib.compress, raw_deflate])
@pytest.mark.parametrize("body", [b"", b"x", bytes(3_000_000), np.random.default_rng(1).bytes(400_000)])
def test_whatever_the_cuts_the_body_is_the_same(make: Callable[[bytes], bytes], body: bytes) -> None:
    from pixeltier.service.api.content_coding import PIECE_BYTES, Decoder

    coded = make(body)
    for step in (1, 1000, len(coded)) if len(coded) < 10_000 else (1000, len(coded)):
        decoder = Decoder("gzip" if make is gzip.compress else "deflate")
        pieces = [
            piece for at in range(0, len(coded), step) for piece in decoder.pieces(coded[at : at + step])
        ]
        assert b"".join(pieces) + decoder.finish() == body
        assert max(map(len, pieces), default=0) <= PIECE_BYTES


def _headers(route: str, coding: str) -> dict[str, str]:
    return {"Content-Encoding": coding} | (ADMIN if route.startswith("/admin") else {})


def _said(answer: httpx.Response, type_: str) -> str:
    """The detail, in either of the two forms an error has."""
    document = answer.json()
    if "error" in document:
        assert document["error"].startswith(f"{type_}: ")
        return str(document["error"])
    assert document["type"] == type_
    assert answer.headers["content-type"] == "application/problem+json"
    return str(document["detail"])


@pytest.mark.parametrize(
    ("coding", "code"),
    [
        ("br", brotli.compress),
        ("zstd", bytes),
        ("compress", bytes),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        ("aws-chunked", bytes),
    ],
)
async def test_other_codings_are_refused_with_what_is_accepted(
    client: httpx.AsyncClient, coding: str, code: Callable[[bytes], bytes]
) -> None:
    for route in ROUTES:
        answer = await client.post(route, content=code(png()), headers=_headers(route, coding))
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "gzip, deflate"
        assert coding in _said(answer, "unsupported-media-type")


async def test_two_header_lines_are_a_list(client: httpx.AsyncClient) -> None:
    lines = [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    answer = await client.post("/v1/classify", content=gzip.compress(png()), headers=lines)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("coding", "body", "said"),
    [
        ("gzip", b"this is not gzip", "corrupt"),
        ("gzip", gzip.compress(CHANGE)[:-9], "truncated"),
        ("gzip", gzip.compress(CHANGE)[:5], "truncated"),
        ("gzip", gzip.compress(CHANGE)[:-8] + b"checksum", "corrupt"),
        ("gzip", gzip.compress(CHANGE) + b"and more", "corrupt"),
        ("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1), "members"),
        ("gzip", zlib.compress(CHANGE), "corrupt"),
        ("deflate", zlib.compress(CHANGE)[:-5], "truncated"),
        ("deflate", zlib.compress(CHANGE) + b"more", "do not belong"),
        ("deflate", b"\x07" + bytes(50), "corrupt"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
async def test_broken_data_is_told_as_such(
    client: httpx.AsyncClient, coding: str, body: bytes, said: str
) -> None:
    for route in ROUTES:
        answer = await client.post(route, content=body, headers=_headers(route, coding))
        assert answer.status_code == 400, answer.text
        detail = _said(answer, "bad-request")
        assert said in detail
        assert coding in detail


@pytest.mark.parametrize(("coding", "code"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_bomb_does_not_go_off(
    client: httpx.AsyncClient, coding: str, code: Callable[[bytes], bytes]
) -> None:
    bomb = code(bytes(200 * 2**20))
    for route in ROUTES:
        tracemalloc.start()
        answer = await client.post(route, content=bomb, headers=_headers(route, coding))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert answer.status_code == 413
        _said(answer, "payload-too-large")
        assert peak < 20 * 2**20


async def test_what_does_not_compress_may_be_as_large_as_it_is_plain(client: httpx.AsyncClient) -> None:
    body = np.random.default_rng(2).bytes(LIMIT)
    for content, headers in ((body, {}), (gzip.compress(body), GZIP)):
        answer = await client.post("/v1/classify", content=content, headers=headers)
        assert answer.json()["type"] == "undecodable-image", "read whole, and then no image"
    answer = await client.post("/v1/classify", content=gzip.compress(body + b"x"), headers=GZIP)
    assert answer.json()["type"] == "payload-too-large"


async def test_coded_bytes_are_counted_too(client: httpx.AsyncClient) -> None:
    """Blocks that decode to nothing would otherwise be read for ever."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield gzip.compress(b"")[:10]
        while True:
            sent += 65_000
            yield b"\x00\x00\x00\xff\xff" * 13_000  # stored blocks of no bytes

    answer = await client.post("/v1/classify", content=endless(), headers=GZIP)
    assert answer.status_code == 413
    assert sent < LIMIT + OVERHEAD + 500_000
