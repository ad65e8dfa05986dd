"""The page in headless Chromium, against a real service. Debian's chromium, driven by Playwright."""

import importlib
import io
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.conftest import SAMPLES, serve

ROOT = SAMPLES.parents[1]

SHIPPED: dict[str, float] = {
    tier["name"]: tier["thresholds"]["classify"]
    for tier in tomllib.loads((ROOT / "service" / "tiers" / "default.toml").read_text())["tiers"]
}

CHANGED = f"{(SHIPPED['balanced'] + SHIPPED['fastest']) / 2:.2f}"
"""A threshold that `fast` may be moved to."""

TOKEN = "token-of-alice-for-the-tests"

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}

PATIENCE = 60_000  # milliseconds: a busy machine may stand still for a while


@dataclass(frozen=True)
class Desk:
    """A service with an operator."""

    url: str
    tokens: Path

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        return httpx.request(method, f"{self.url}/admin/v1/{path}", headers=headers, timeout=30, **options)

    def table(self) -> dict[str, Any]:
        table: dict[str, Any] = self.admin("GET", "tiers").json()
        return table

    def patch(self, changes: dict[str, Any]) -> dict[str, Any]:
        answer = self.admin(
            "PATCH", "tiers", json=changes | {"reason": "by another"}, headers={"If-Match": "*"}
        )
        assert answer.status_code == 200, answer.text
        after: dict[str, Any] = answer.json()
        return after


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (apt-get install chromium)")
    place = tmp_path_factory.mktemp("desk")
    tokens = place / "tokens"
    tokens.write_text(f"alice:{TOKEN}\n")
    state = place / "state"
    state.mkdir()
    with serve(place / "log", admin_token_file=str(tokens), state_dir=str(state), slots="1") as running:
        yield Desk(running.url, tokens)


@pytest.fixture(scope="module")  # not longer: Playwright's event loop would be in the way of other tests' own
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (apt-get install chromium)")
    playwright = importlib.import_module("playwright.sync_api")
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


Opener = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, desk: Desk) -> Iterator[Opener]:
    """Opens pages; afterwards none may have raised an error or broken the content security policy."""
    contexts, errors = [], []

    def heard(message: Any) -> None:
        # A refused request is also logged as an error by the browser itself; those are tested as answers.
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    def open_(
        view: str = "try", *, url: str | None = None, viewport: dict[str, int] = WIDE, **options: Any
    ) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
        page.on("console", heard)
        page.goto(f"{url or desk.url}/#{view}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Opener) -> Any:
    return open_page()


@pytest.fixture
def operator(open_page: Opener) -> Any:
    return at_desk(open_page("operate"))


def at_desk(page: Any) -> Any:
    """Give the token and wait for the table."""
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.locator(".tiers tbody tr").first.wait_for()
    page.locator(".tile").first.wait_for()
    return page


def give(page: Any, body: bytes, name: str = "photo.png") -> None:
    """Pick a file."""
    page.get_by_label("Image file").set_input_files({"name": name, "mimeType": "image/png", "buffer": body})


def done(page: Any) -> None:
    """Wait until both the tier and exact have answered."""
    page.locator(".work:not([aria-busy])").wait_for()
    page.locator("#macs-saved").wait_for()


def cropped(width: int, height: int, photo: str = "astronaut.jpg") -> bytes:
    """A part of a sample photo as PNG."""
    out = io.BytesIO()
    Image.open(SAMPLES / photo).crop((150, 40, 150 + width, 40 + height)).save(out, "PNG")
    return out.getvalue()


def stretched(width: int, height: int, photo: str = "astronaut.jpg") -> bytes:
    """A sample photo of another size, as PNG."""
    out = io.BytesIO()
    Image.open(SAMPLES / photo).resize((width, height)).save(out, "PNG")
    return out.getvalue()


def shown_percent(text: str) -> float:
    """What "39.9 %" says, as a share."""
    return float(text.replace("−", "-").removesuffix(" %")) / 100
