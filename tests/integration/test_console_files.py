"""The page's files as the service sends them: caching, policy, and that they need nothing from elsewhere."""

import gzip
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import PurePosixPath

import httpx
import pytest

from pixeltier.service.api.routes.console import CONSOLE
from tests.integration.fakes import fake_app, running

SCRIPTS = {path: asset.body.decode() for path, asset in CONSOLE.files.items() if path.endswith(".js")}
STYLES = {path: asset.body.decode() for path, asset in CONSOLE.files.items() if path.endswith(".css")}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as started:
        yield started


async def test_the_document_is_asked_for_again_and_the_files_are_kept(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"If-None-Match": f'"other", W/{page.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    addresses = re.findall(r'(?:src|href)="(console/[^"]+)"', page.text)
    assert len(addresses) > 8
    for address in addresses:
        file = await client.get("/" + address)
        assert file.status_code == 200, address
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"


async def test_another_versions_address_gives_todays_file_but_not_to_keep(client: httpx.AsyncClient) -> None:
    file = await client.get("/console/0123456789abcdef/js/main.js")
    assert (file.status_code, file.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "path", ["js/none.js", "index.html", "../assets.py", "%2e%2e/assets.py", "assets.py", ""]
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    missing = await client.get(f"/console/{CONSOLE.digest}/{path}")
    assert (missing.status_code, missing.json()["type"]) == (404, "not-found")


async def test_compressed_where_asked(client: httpx.AsyncClient) -> None:
    address = f"/console/{CONSOLE.digest}/js/main.js"
    async with client.stream("GET", address, headers={"Accept-Encoding": "br, gzip"}) as sent:
        raw = b"".join([chunk async for chunk in sent.aiter_raw()])
    assert sent.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in sent.headers["vary"]
    assert gzip.decompress(raw) == CONSOLE.files["js/main.js"].body
    for refused in ("identity", "gzip;q=0", "br"):
        plain = await client.get(address, headers={"Accept-Encoding": refused})
        assert "content-encoding" not in plain.headers, refused


async def test_the_policy_lets_nothing_in(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/")).headers["content-security-policy"]
    rules = dict(part.split(" ", 1) for part in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert rules["frame-ancestors"] == "'none'"


def test_nothing_inline() -> None:
    found = []

    class Finder(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            names = dict(attributes)
            if tag == "style" or (tag == "script" and not names.get("src")):
                found.append(tag)
            found.extend(name for name in names if name == "style" or name.startswith("on"))

    Finder().feed(CONSOLE.index.body.decode())
    assert found == []


def test_every_import_names_a_file_that_is_there() -> None:
    for path, text in SCRIPTS.items():
        for name in re.findall(r'(?:from|import) "([^"]+)"', text):
            target = str(PurePosixPath(path).parent / name.removeprefix("./"))
            assert name.startswith("./"), (path, name)
            assert target in SCRIPTS, (path, name)


def test_nothing_from_elsewhere() -> None:
    for path, text in (SCRIPTS | STYLES | {"index.html": CONSOLE.index.body.decode()}).items():
        addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"')]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def test_small_enough_to_load_at_once() -> None:
    sent = sum(
        len(asset.gzipped or asset.body) for path, asset in CONSOLE.files.items() if "samples/" not in path
    )
    assert sent < 70 * 1024
