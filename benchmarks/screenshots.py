"""The README's pictures of the page: a service is started, used a little, and photographed in headless Chromium.

python -m benchmarks.screenshots --out docs/images
"""

import argparse
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.processes import SERVE, started

TOKEN = "token-for-the-screenshots"
SAMPLE = Path(__file__).parents[1] / "docs" / "samples" / "chelsea.jpg"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LIMIT_BYTES = 300_000
PATIENCE_MS = 120_000


def main() -> None:
    """Write console-*.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium here: apt-get install chromium fonts-inter")
    out.mkdir(parents=True, exist_ok=True)
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with serving() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*sandbox, "--disable-dev-shm-usage"])
        wide = opened(browser, url, "light", WIDE)
        classified(wide)
        save(wide, out / "console-classify.png")
        wide = opened(browser, url, "dark", WIDE)
        enlarged(wide)
        save(wide, out / "console-enlarge.png")
        phone = opened(browser, url, "dark", PHONE)
        classified(phone)
        save(phone, out / "console-phone.png")
        use(url)
        desk = opened(browser, url, "light", WIDE, view="operate")
        tried_out(desk)
        save(desk, out / "console-operate.png")
        browser.close()


@contextmanager
def serving() -> Iterator[str]:
    """A service with an operator on a free port; gives its URL."""
    with tempfile.TemporaryDirectory() as place:
        tokens = Path(place) / "tokens"
        tokens.write_text(f"alice:{TOKEN}\n")
        settings = {"PIXELTIER_ADMIN_TOKEN_FILE": str(tokens), "PIXELTIER_STATE_DIR": place}
        with started([*SERVE, "--log-level", "error"], os.environ | settings) as own:
            use(own.url)
            yield own.url


def use(url: str) -> None:
    """Some requests, so that the desk has something to show."""
    for tier in ("exact", "high", "balanced", "fast", "fast", "fastest") * 2:
        httpx.post(f"{url}/v1/classify?tier={tier}", content=SAMPLE.read_bytes(), timeout=120)


def opened(browser: Any, url: str, scheme: str, viewport: dict[str, int], view: str = "try") -> Any:
    """A page in one look."""
    scale = 2 if viewport is PHONE else 1
    context = browser.new_context(viewport=viewport, color_scheme=scheme, device_scale_factor=scale)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{url}/#{view}")
    return page


def classified(page: Any) -> None:
    """The cat at `fast`."""
    page.get_by_role("radiogroup", name="Tier").get_by_text("fast", exact=True).click()
    page.get_by_role("button", name="Cat").click()
    page.locator(".verdict").wait_for()
    page.locator(".work:not([aria-busy])").wait_for()


def enlarged(page: Any) -> None:
    """The astronaut at `balanced`."""
    page.get_by_role("radiogroup", name="Tier").get_by_text("balanced", exact=True).click()
    page.get_by_role("radiogroup", name="Task").get_by_text("Enlarge 4×").click()
    page.get_by_role("button", name="Astronaut").click()
    page.locator("#likeness").wait_for()
    page.locator(".work:not([aria-busy])").wait_for()


def tried_out(page: Any) -> None:
    """A change of `fast`, predicted and not saved."""
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.locator(".tile").first.wait_for()
    page.wait_for_timeout(9_000)  # a few live readings for the small lines
    page.get_by_role("spinbutton", name="fast: threshold").fill("0.68")
    page.locator(".predicted").wait_for()
    page.get_by_label("Reason", exact=True).fill("fast may skip a little more")
    page.wait_for_timeout(500)


def save(page: Any, path: Path) -> None:
    """The window as a PNG of 256 colours; raises where it is too large for the repository."""
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256)
    picture.save(path, optimize=True)
    if path.stat().st_size > LIMIT_BYTES:
        raise RuntimeError(f"{path} has {path.stat().st_size} bytes and may have {LIMIT_BYTES}")


if __name__ == "__main__":
    main()
