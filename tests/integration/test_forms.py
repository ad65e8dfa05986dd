"""multipart/form-data, and where parameters may stand: query over header over form."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixeltier.service.api.multipart import MAX_PARTS
from tests.images import opened, png
from tests.integration.fakes import fake_app, running

IMAGE = png(9, 5)

FORM = "multipart/form-data; boundary=XYZ"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-the-form-test")
    async with running(fake_app(admin_token_file=tokens)) as client:
        yield client


def part(name: str, content: bytes, *headers: str, disposition: str = "") -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"{disposition}', *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


FILE = part("file", IMAGE, "Content-Type: image/png", disposition='; filename="a.png"')


def form(*parts: bytes, boundary: bytes = b"XYZ", padding: bytes = b"") -> bytes:
    delimiter = b"--" + boundary
    lines = [delimiter + padding + b"\r\n" + one for one in parts]
    return b"\r\n".join([*lines, delimiter + b"--" + padding + b"\r\n"])


async def _post(
    client: httpx.AsyncClient, body: bytes, type_: str = FORM, query: str = "", **headers: str
) -> httpx.Response:
    return await client.post(
        f"/v1/super-resolve{query}", content=body, headers={"Content-Type": type_, **headers}
    )


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (form(FILE), FORM),
        (b"This is a preamble\r\n" + form(FILE), FORM),
        (b"--XYnot yet\r\n\r\n--X\r\n" + form(FILE), FORM),
        (b"\r\n" + form(FILE), FORM),
        (form(FILE) + b"epilogue", FORM),
        (form(FILE) + b"epilogue\r\n--XYZ\r\n" + part("file", b"not this one") + b"\r\n--XYZ--\r\n", FORM),
        (form(FILE)[:-2], FORM),
        (form(FILE, padding=b" \t "), FORM),
        (form(FILE), 'multipart/form-data; boundary="XYZ"'),
        (form(FILE), 'Multipart/Form-Data; charset="utf-8" ; Boundary=XYZ'),
        (form(FILE, boundary=b"a b:c/d?e=f"), 'multipart/form-data; boundary="a b:c/d?e=f"'),
        (form(FILE, boundary=b"-" * 60), "multipart/form-data; boundary=" + "-" * 60),
        (form(part("file", IMAGE)), FORM),
        (
            form(part("file", IMAGE, disposition="; filename*=UTF-8''%e2%82%ac.png; filename=\"x;y.png\"")),
            FORM,
        ),
        (form(part("file", IMAGE, disposition=';\r\n filename="folded.png"')), FORM),
        (form(part("file", IMAGE, "Content-Transfer-Encoding: binary")), FORM),
        (form(b"content-disposition:form-data;name=file\r\n\r\n" + IMAGE), FORM),
        (form(b"CONTENT-DISPOSITION:\tform-data;\tname=file\r\n\r\n" + IMAGE), FORM),
        (form(FILE, part("format", b"png")), FORM),
        (form(part("format", b"png"), FILE), FORM),
    ],
)
async def test_forms_as_the_standards_allow_them(client: httpx.AsyncClient, body: bytes, type_: str) -> None:
    answer = await _post(client, body, type_)
    assert answer.status_code == 200, answer.text
    assert opened(answer.content).size == (36, 20)


async def test_an_image_may_hold_line_breaks_and_dashes(client: httpx.AsyncClient) -> None:
    """Bytes of the file are its own, up to the line break before the delimiter."""
    from pixeltier.service.api.multipart import parse

    for content in (
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"--XY\r\n",
        b"\r\n--XY\r\nx",
        bytes(range(256)) * 300,
    ):
        assert [file.content for file in parse(form(part("file", content)), b"XYZ").files] == [content]
        assert parse(form(part("file", content), part("tier", b"fast")), b"XYZ").fields == {"tier": "fast"}


async def _validation(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 422, answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == "validation"
    return document


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "boundary is missing"),
        (form(FILE)[:-10], "closing delimiter"),
        (form(FILE).replace(b"\r\n--XYZ--", b""), "closing delimiter"),
        (form(FILE).replace(b"\r\n", b"\n"), "CR LF"),
        (form(), "no part named 'file'"),
        (form(part("image", IMAGE)), "'image'"),
        (form(b"\r\nno headers"), "no name"),
        (form(b"Content-Disposition: form-data\r\n\r\nx"), "no name"),
        (form(b"what is this\r\n\r\nx"), "header line"),
        (form(FILE + b"\r\n--XYZabc\r\n"), "goes on"),
        (form(part("file", b"aGVsbG8=", "Content-Transfer-Encoding: base64")), "Content-Transfer-Encoding"),
        (form(FILE, part("tier", b"\xff")), "UTF-8"),
        (form(FILE, part("tier", b"fast", "Content-Type: text/plain; charset=utf-16")), "utf-16"),
        (form(FILE, *[part(f"n{n}", b"") for n in range(MAX_PARTS)]), "parts"),
        (form(part("file", IMAGE, "X-Long: " + "x" * 9000)), "longer than"),
    ],
)
async def test_malformed_forms_say_how(client: httpx.AsyncClient, body: bytes, said: str) -> None:
    document = await _validation(await _post(client, body))
    assert said in document["detail"]
    assert document["errors"][0]["field"].startswith("form")


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 300])
async def test_a_form_without_a_usable_boundary(client: httpx.AsyncClient, boundary: str) -> None:
    document = await _validation(await _post(client, form(FILE), f"multipart/form-data{boundary}"))
    assert "boundary" in document["detail"]


# ---- parameters --------------------------------------------------------------------------------------


async def _tier(
    client: httpx.AsyncClient, fields: dict[str, str], query: str = "", **headers: str
) -> httpx.Response:
    return await client.post(
        f"/v1/classify{query}", files={"file": ("a.png", IMAGE)}, data=fields, headers=headers
    )


@pytest.mark.parametrize(
    ("fields", "query", "headers", "tier"),
    [
        ({"tier": "exact"}, "", {}, "exact"),
        ({"tier": "exact"}, "", {"X-Tier": "fast"}, "fast"),
        ({"tier": "exact"}, "?tier=high", {"X-Tier": "fast"}, "high"),
        ({"threshold": "0.5"}, "", {"X-Tier": "fast"}, "fast"),
        ({"tier": "exact"}, "?threshold=0.5", {}, "custom"),
        ({"threshold": "0.5"}, "", {}, "custom"),
        ({"tier": "exact"}, "?top_k=1", {}, "exact"),
        ({"max_macs_ratio": "0.9", "tier": "high"}, "", {}, "high"),
        ({}, "", {}, "balanced"),
    ],
)
async def test_the_query_wins_then_the_header_then_the_form(
    client: httpx.AsyncClient, fields: dict[str, str], query: str, headers: dict[str, str], tier: str
) -> None:
    answer = await _tier(client, fields, query, **headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-tier"] == tier
    assert answer.json()["tier"] == tier


async def test_every_parameter_may_be_a_field(client: httpx.AsyncClient) -> None:
    given = {"threshold": "0.25", "max_macs_ratio": "1", "max_latency_ms": "60000", "degradable": "false"}
    answer = await _tier(client, given | {"top_k": "2", "include": "importance"})
    assert len(answer.json()["predictions"]) == 2
    assert answer.json()["importance"]["values"]
    assert answer.headers["x-threshold"] == "0.25"
    files = {"file": ("a.png", IMAGE)}
    answer = await client.post("/v1/super-resolve", files=files, data={"format": "jpg", "quality": "50"})
    assert answer.headers["content-type"] == "image/jpeg"
    answer = await client.post(
        "/v1/super-resolve", files=files, data={"format": "webp"}, headers={"Accept": "text/plain"}
    )
    assert answer.headers["content-type"] == "image/webp", (
        "the field is stronger than Accept, as the query's is"
    )


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ([("tierr", "fast")], "form.tierr", "did you mean tier?"),
        ([("comment", "hello")], "form.comment", "no such parameter"),
        ([("format", "png")], "form.format", "no such parameter"),
        ([("threshold", "2")], "form.threshold", "less than or equal"),
        ([("tier", "fast"), ("tier", "exact")], "form.tier", "twice"),
        ([("tier", "fast"), ("tier", "fast")], "form.tier", "twice"),
        ([("tier", "fast"), ("threshold", "0.5")], "threshold", "not both"),
    ],
)
async def test_what_is_wrong_with_a_field_is_told_by_name(
    client: httpx.AsyncClient, fields: list[tuple[str, str]], field: str, said: str
) -> None:
    body = form(FILE, *[part(name, value.encode()) for name, value in fields])
    answer = await client.post("/v1/classify", content=body, headers={"Content-Type": FORM})
    document = await _validation(answer)
    assert document["errors"][0]["field"] == field
    assert said in document["errors"][0]["message"]


async def test_an_unknown_tier_of_a_form_lists_the_known(client: httpx.AsyncClient) -> None:
    answer = await _tier(client, {"tier": "turbo"})
    assert (answer.status_code, answer.json()["type"]) == (422, "unknown-tier")
    assert "exact" in answer.json()["known_tiers"]


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("?tier=fast&tier=fast", [], "query.tier"),
        ("?tier=fast&tier=exact", [], "query.tier"),
        ("?top_k=1&tier=fast&top_k=2", [], "query.top_k"),
        ("?nonsense=1&nonsense=1", [], "query.nonsense"),
        ("", [("X-Tier", "fast"), ("X-Tier", "exact")], "header.x-tier"),
        ("?tier=fast", [("X-Tier", "fast"), ("X-Tier", "exact")], "header.x-tier"),
        (
            "",
            [("X-Request-Timeout-Ms", "9000"), ("X-Request-Timeout-Ms", "1")],
            "header.x-request-timeout-ms",
        ),
        ("", [("Content-Type", "image/png"), ("Content-Type", "image/jpeg")], "header.content-type"),
        ("?tier=fast", [("X-Tier", "fast"), ("X-Threshold", "0.5")], "threshold"),
    ],
)
async def test_nothing_is_said_twice_in_one_place(
    client: httpx.AsyncClient, query: str, headers: list[tuple[str, str]], field: str
) -> None:
    answer = await client.post(f"/v1/classify{query}", content=IMAGE, headers=headers)
    assert (await _validation(answer))["errors"][0]["field"] == field


async def test_lists_and_identities_may_have_several_lines(client: httpx.AsyncClient) -> None:
    lines = [("Priority", "i"), ("Priority", "u=5"), ("X-Request-Id", "mine"), ("X-Request-Id", "a-proxy-s")]
    answer = await client.post("/v1/classify", content=IMAGE, headers=lines)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine"
    lines = [("Accept", "text/plain"), ("Accept", "image/webp;q=0.5"), ("Accept", "image/jpeg;q=0.4")]
    answer = await client.post("/v1/super-resolve", content=IMAGE, headers=lines)
    assert answer.headers["content-type"] == "image/webp"


async def test_the_admin_api_is_asked_nothing_twice(client: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer a-token-of-the-form-test"}
    answer = await client.get("/admin/v1/live?seconds=10&seconds=20", headers=headers)
    assert (await _validation(answer))["errors"][0]["field"] == "query.seconds"


async def test_the_document_names_the_fields(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for route, own in (("/v1/classify", {"top_k"}), ("/v1/super-resolve", {"format", "quality"})):
        operation = paths[route]["post"]
        schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        query = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        assert set(schema["properties"]) == query | {"file"}
        assert own < query
        assert schema["required"] == ["file"]
        assert schema["additionalProperties"] is False
