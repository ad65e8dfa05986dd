"""axe-core finds nothing to object to, in any view, light and dark, wide and narrow."""

import importlib
from typing import Any

import pytest

from tests.e2e.conftest import SAMPLES
from tests.e2e.console.conftest import CHANGED, PHONE, WIDE, Opener, at_desk, cropped, done, give

axe_module = importlib.import_module("axe_playwright_python.sync_playwright")


LOOKS = [(scheme, viewport) for scheme in ("light", "dark") for viewport in (WIDE, PHONE)]

# The browser changes its colours a moment after it is told.
SETTLED = """async dark => {
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  const bright = colour => Number(colour.match(/\\d+/)[0]) > 128;
  const settled = () => bright(getComputedStyle(document.body).backgroundColor) !== dark;
  while (!settled()) await frame();
  for (let count = 0; count < 2; count += 1) await frame();
}"""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def check(page: Any, what: str) -> None:
    """The page as it stands, in every look."""
    for scheme, viewport in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size(viewport)
        page.evaluate(SETTLED, scheme == "dark")
        results = axe_module.Axe().run(page, options={"runOnly": RULES})
        for one in results.response["violations"]:
            places = "\n".join(f"{node['html'][:200]} {node['failureSummary']}" for node in one["nodes"][:4])
            pytest.fail(f"{what}, {scheme}, {viewport['width']}: {one['id']}: {one['help']}\n{places}")


def test_the_public_view(page: Any) -> None:
    page.get_by_role("radiogroup", name="Tier").wait_for()
    check(page, "welcome")
    give(page, (SAMPLES / "chelsea.jpg").read_bytes())
    done(page)
    check(page, "classified")
    page.get_by_role("radiogroup", name="Task").get_by_text("Enlarge 4×").click()
    give(page, cropped(40, 40))
    page.locator("#likeness").wait_for()
    done(page)
    check(page, "enlarged")
    give(page, b"nothing")
    page.get_by_role("alert").wait_for()
    check(page, "a problem")


def test_the_operators_view(open_page: Opener) -> None:
    page = open_page("operate")
    page.get_by_label("Token").wait_for()
    check(page, "gate")
    at_desk(page)
    page.get_by_role("spinbutton", name="fast: threshold").fill(CHANGED)
    page.locator(".predicted").wait_for()
    page.get_by_role("button", name="high: rule").click()
    page.get_by_text("By goals").click()
    page.get_by_text("Under load, and shadow").click()
    page.locator(".history button").first.click()
    page.locator("pre.document").wait_for()
    check(page, "desk")
