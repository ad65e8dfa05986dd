"""Hostile and mistaken requests: the documented problem, and the worker alive afterwards."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.images import encoded, photo, png, png_header
from tests.integration.fakes import FAIL, fake_app, running

JPEG = encoded(photo(200, 150), "JPEG")
ROUTES = ("/v1/classify", "/v1/super-resolve")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app(max_body_bytes=200_000)) as client:
        yield client


async def _check(
    client: httpx.AsyncClient, answer: httpx.Response, status: int, type_: str
) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == type_
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["help"]
    assert "Traceback" not in answer.text
    assert (await client.post("/v1/classify", content=png())).status_code == 200, "the worker is gone"
    return document


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("body", "status", "type_"),
    [
        (b"", 422, "undecodable-image"),
        (b"this is not an image", 422, "undecodable-image"),
        (b"GIF89a" + bytes(100), 422, "undecodable-image"),
        (JPEG[: len(JPEG) // 2], 422, "undecodable-image"),
        (JPEG[:30], 422, "undecodable-image"),
        (b"\xff\xd8\xff", 422, "undecodable-image"),
        (png()[:-40], 422, "undecodable-image"),
        (png_header(50, 50), 422, "undecodable-image"),
        (png_header(0, 50), 422, "undecodable-image"),
        (png_header(10_000, 10_000), 413, "image-too-large"),
        (png_header(2**31 - 1, 2**31 - 1), 413, "image-too-large"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(40), 422, "undecodable-image"),
        (bytes(200_001), 413, "payload-too-large"),
    ],
    ids=lambda value: f"{len(value)}-bytes" if isinstance(value, bytes) else None,
)
async def test_bad_bodies(
    client: httpx.AsyncClient, route: str, body: bytes, status: int, type_: str
) -> None:
    await _check(client, await client.post(route, content=body), status, type_)


async def test_a_bomb_behind_an_unreadable_header_is_caught_in_the_slot(client: httpx.AsyncClient) -> None:
    # A JPEG whose frame header stands beyond a broken segment chain: the front's parser gives up.
    bomb = bytearray(encoded(photo(64, 64), "JPEG"))
    at = bomb.index(b"\xff\xc0")
    bomb[at + 5 : at + 9] = (9000).to_bytes(2, "big") * 2
    answer = await client.post("/v1/super-resolve", content=bytes(bomb[:2] + b"\xff\xff\xff" + bomb[2:]))
    await _check(client, answer, 413, "image-too-large")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("threshold=1.5", "query.threshold"),
        ("threshold=-0.1", "query.threshold"),
        ("threshold=nan", "query.threshold"),
        ("threshold=abc", "query.threshold"),
        ("top_k=0", "query.top_k"),
        ("top_k=1001", "query.top_k"),
        ("include=everything", "query.include"),
        ("treshold=0.5", "query.treshold"),
        ("tier=fast&threshold=0.5", "threshold"),
    ],
)
async def test_bad_parameters(client: httpx.AsyncClient, query: str, field: str) -> None:
    document = await _check(
        client, await client.post(f"/v1/classify?{query}", content=png()), 422, "validation"
    )
    assert document["errors"][0]["field"] == field
    if field == "query.treshold":
        assert "threshold" in document["errors"][0]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Threshold": "2"},
        {"X-Request-Timeout-Ms": "soon"},
        {"X-Request-Timeout-Ms": "0"},
        {"X-Top-K": "many"},
    ],
)
async def test_bad_header_parameters(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    await _check(client, await client.post("/v1/classify", content=png(), headers=headers), 422, "validation")


@pytest.mark.parametrize("tier", ["turbo", "", "EXACT", "custom", "none", "'; drop table"])
async def test_unknown_tier_lists_the_known(client: httpx.AsyncClient, tier: str) -> None:
    answer = await client.post("/v1/classify", params={"tier": tier}, content=png())
    document = await _check(client, answer, 422, "unknown-tier")
    assert document["known_tiers"] == ["exact", "high", "balanced", "fast", "fastest"]
    metrics = (await client.get("/metrics")).text
    assert "turbo" not in metrics
    assert 'pixeltier_requests_total{model="classify",outcome="unknown-tier",tier="none"} 1.0' in metrics


@pytest.mark.parametrize(
    "type_", ["text/plain", "application/json", "image/gif", "image/tiff", "image/svg+xml"]
)
async def test_wrong_content_type(client: httpx.AsyncClient, type_: str) -> None:
    raw = await client.post("/v1/classify", content=png(), headers={"content-type": type_})
    await _check(client, raw, 415, "unsupported-media-type")
    part = await client.post("/v1/classify", files={"file": ("a", png(), type_)})
    await _check(client, part, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=x", b""),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--x--\r\n',
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x"),
    ],
)
async def test_bad_multipart(client: httpx.AsyncClient, content_type: str, body: bytes) -> None:
    answer = await client.post("/v1/classify", content=body, headers={"content-type": content_type})
    await _check(client, answer, 422, "validation")


async def test_bytes_are_counted_on_the_stream(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    # No Content-Length: only counting can stop this.
    await _check(client, await client.post("/v1/classify", content=endless()), 413, "payload-too-large")
    assert sent < 500_000


async def test_outputs_the_format_cannot_hold(client: httpx.AsyncClient) -> None:
    wide = encoded(photo(5000, 1))
    answer = await client.post("/v1/super-resolve?format=webp", content=wide)
    assert (await _check(client, answer, 413, "output-too-large"))["detail"].startswith(
        "the result would be 20000x4"
    )
    assert (await client.post("/v1/super-resolve?format=png", content=wide)).status_code == 200


async def test_an_exception_in_the_model_is_told_without_its_traceback(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/v1/classify?threshold={FAIL}", content=png())
    await _check(client, answer, 500, "internal")
    assert "lever" not in answer.text


async def test_unknown_routes_and_methods(client: httpx.AsyncClient) -> None:
    await _check(client, await client.get("/nowhere"), 404, "not-found")
    await _check(client, await client.get("/v1/classify/"), 404, "not-found")
    answer = await client.get("/v1/classify")
    await _check(client, answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert 'route="none"' in (await client.get("/metrics")).text
    assert "nowhere" not in (await client.get("/metrics")).text
