"""The two tasks through the whole service, on the fake engine."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from pixeltier.service.tiers.schema import load
from tests.images import encoded, opened, photo, png
from tests.integration.fakes import fake_app, running

FAST_RULES = next(tier.thresholds for tier in load().tiers if tier.name == "fast")
FAST_CLASSIFY = FAST_RULES.classify.threshold or 0.0

TIERS = ("exact", "high", "balanced", "fast", "fastest")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as client:
        yield client


async def test_classify_names_the_colour(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify", content=png(colour=2), params={"tier": "exact", "top_k": 3})
    assert answer.status_code == 200
    document = answer.json()
    assert document["predictions"][0]["label"] == "blue"
    assert len(document["predictions"]) == 3
    assert document["tier"] == "exact"
    assert document["threshold"] == 0
    assert document["macs"]["dense"] == document["macs"]["executed"] == 1000
    assert "importance" not in document
    assert document["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "image/png"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/x-www-form-urlencoded"},  # what curl --data-binary declares
    ],
)
async def test_raw_body_with_any_honest_or_silent_type(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.post("/v1/classify", content=png(), headers=headers)).status_code == 200


async def test_multipart(client: httpx.AsyncClient) -> None:
    body = png(9, 5)
    answer = await client.post(
        "/v1/super-resolve", files={"file": ("a.png", body, "image/png")}, data={"format": "png"}
    )
    assert answer.status_code == 200
    assert opened(answer.content).size == (36, 20)


async def test_all_headers(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/super-resolve?tier=fast", content=png(), headers={"x-request-id": "mine_1-2"}
    )
    headers = answer.headers
    assert headers["x-request-id"] == "mine_1-2"
    assert headers["x-tier"] == headers["x-tier-effective"] == "fast"
    assert float(headers["x-threshold"]) == FAST_RULES.super_resolve.threshold
    assert headers["x-config-version"] == "1"
    assert headers["x-model-version"] == "7"
    dense, executed = int(headers["x-macs-dense"]), int(headers["x-macs-executed"])
    assert float(headers["x-macs-saved-ratio"]) == pytest.approx(1 - executed / dense, abs=1e-6)
    stages = [part.split(";")[0].strip() for part in headers["server-timing"].split(",")]
    assert stages == ["queue", "decode", "importance", "infer", "encode", "total"]


@pytest.mark.parametrize("given", ["", "has space", "a" * 65, "ütf", "semi;colon"])
async def test_a_bad_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/healthz", headers={"x-request-id": given.encode()})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


async def test_query_wins_over_header(client: httpx.AsyncClient) -> None:
    headers = {"X-Tier": "fast", "X-Top-K": "2"}
    by_header = await client.post("/v1/classify", content=png(), headers=headers)
    assert by_header.headers["x-tier"] == "fast"
    assert len(by_header.json()["predictions"]) == 2
    by_query = await client.post("/v1/classify?tier=high&top_k=4", content=png(), headers=headers)
    assert by_query.headers["x-tier"] == "high"
    assert len(by_query.json()["predictions"]) == 4
    other_kind = await client.post("/v1/classify?threshold=0.25", content=png(), headers=headers)
    assert other_kind.headers["x-tier"] == "custom"
    assert other_kind.headers["x-threshold"] == "0.25"


async def test_default_tier_and_falling_macs(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/classify", content=png())).headers["x-tier"] == "balanced"
    executed = [
        int((await client.post(f"/v1/super-resolve?tier={tier}", content=png())).headers["x-macs-executed"])
        for tier in TIERS
    ]
    assert executed == sorted(executed, reverse=True)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (7, 3), (1, 100), (255, 1), (33, 65)])
async def test_exactly_four_times(client: httpx.AsyncClient, size: tuple[int, int]) -> None:
    answer = await client.post("/v1/super-resolve", content=png(*size))
    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).size == (4 * size[0], 4 * size[1])


@pytest.mark.parametrize(
    ("accept", "query", "expected"),
    [
        (None, "", "image/png"),
        ("*/*", "", "image/png"),
        ("image/*", "", "image/png"),
        ("image/webp", "", "image/webp"),
        ("image/webp;q=0.5, image/jpeg;q=0.9", "", "image/jpeg"),
        ("image/png;q=0, */*;q=0.1", "", "image/webp"),
        ("image/png;q=0.2, image/*;q=0.8", "", "image/webp"),
        ("text/html, image/avif, */*;q=0.1", "", "image/png"),
        ("image/png", "?format=jpg", "image/jpeg"),
        ("text/html", "?format=webp", "image/webp"),
        ("IMAGE/WEBP ; Q=1.0", "", "image/webp"),
    ],
)
async def test_negotiation(client: httpx.AsyncClient, accept: str | None, query: str, expected: str) -> None:
    client.headers.pop("accept", None)
    headers = {} if accept is None else {"accept": accept}
    answer = await client.post(f"/v1/super-resolve{query}", content=png(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == expected
    assert "Accept" in answer.headers["vary"].split(", ")
    assert opened(answer.content).format == expected.removeprefix("image/").upper()


@pytest.mark.parametrize(
    ("route", "accept", "query"),
    [
        ("super-resolve", "text/html", ""),
        ("super-resolve", "image/gif", ""),
        ("super-resolve", "*/*;q=0", ""),
        ("super-resolve", "application/json", ""),
        ("super-resolve", "text/html", "?include=importance"),
        ("classify", "image/png", ""),
        ("classify", "application/json;q=0", ""),
    ],
)
async def test_not_acceptable(client: httpx.AsyncClient, route: str, accept: str, query: str) -> None:
    answer = await client.post(f"/v1/{route}{query}", content=png(), headers={"accept": accept})
    assert answer.status_code == 406
    assert answer.json()["type"] == "not-acceptable"


async def test_importance_of_classify(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify?include=importance", content=png())
    shown = answer.json()["importance"]
    assert (shown["height"], shown["width"]) == (28, 28)
    assert len(shown["values"]) == 28
    assert all(0 <= value <= 1 for row in shown["values"] for value in row)


@pytest.mark.parametrize("accept", ["*/*", "image/webp", "application/json"])
async def test_importance_of_super_resolve(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.post(
        "/v1/super-resolve?include=importance", content=png(20, 10), headers={"accept": accept}
    )
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    image = opened(base64.b64decode(document["image"]["base64"]))
    assert image.size == (document["image"]["width"], document["image"]["height"]) == (80, 40)
    assert document["image"]["media_type"] == ("image/webp" if accept == "image/webp" else "image/png")
    assert (document["importance"]["height"], document["importance"]["width"]) == (10, 20)


async def test_quality_matters(client: httpx.AsyncClient) -> None:
    sizes = [
        len((await client.post(f"/v1/super-resolve?format=jpeg&quality={q}", content=png())).content)
        for q in (20, 95)
    ]
    assert sizes[0] < sizes[1]


async def test_no_metadata_leaves(client: httpx.AsyncClient) -> None:
    source = photo()
    exif = source.getexif()
    exif[0x010F] = "Secret Camera"
    for format_ in ("png", "webp", "jpeg"):
        body = encoded(source, "JPEG", exif=exif, comment=b"Secret comment", dpi=(300, 300))
        answer = await client.post(f"/v1/super-resolve?format={format_}", content=body)
        assert b"Secret" not in answer.content


@pytest.mark.parametrize("given", ["https://a.example,https://b.example", '["https://b.example"]'])
async def test_cors_allows_the_origins_named_and_no_other(given: str) -> None:
    async with running(fake_app(cors_origins=given)) as client:
        for origin, allowed in (("https://b.example", "https://b.example"), ("https://c.example", None)):
            answer = await client.get("/healthz", headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed


async def test_cors_exposes_our_headers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify", content=png(), headers={"origin": "http://page.example"})
    exposed = answer.headers["access-control-expose-headers"].lower()
    for name in ("x-macs-executed", "x-tier-effective", "server-timing", "x-request-id"):
        assert name in exposed
    preflight = await client.options(
        "/v1/classify", headers={"origin": "http://page.example", "access-control-request-method": "POST"}
    )
    assert preflight.status_code == 200


async def test_tiers_and_models(client: httpx.AsyncClient) -> None:
    document = (await client.get("/v1/tiers")).json()
    assert [tier["name"] for tier in document["tiers"]] == list(TIERS)
    assert document["default"] == "balanced"
    fast = document["tiers"][3]["models"]["classify"]
    assert fast["threshold"] == FAST_CLASSIFY
    assert fast["expected"]["macs_saved"] == pytest.approx(0.9 * FAST_CLASSIFY)
    assert fast["expected"]["metrics"]["top1"] == pytest.approx(0.7 - 0.1 * FAST_CLASSIFY)
    models = (await client.get("/v1/models")).json()["models"]
    assert {model["task"] for model in models} == {"classify", "super-resolve"}
    assert models[0]["card"]["name"].startswith("fake-")


async def test_pages(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    assert (await client.get("/readyz")).json()["status"] == "ready"
    assert (await client.get("/docs")).status_code == 200
    head = await client.head("/v1/tiers")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 100
    assert (await client.head("/v1/classify")).status_code == 405
    assert (await client.get("/openapi.json")).json()["info"]["title"] == "Pixeltier"
