"""On a phone of 360 px: no name over another, a state in words, whatever is tapped 44 px high."""

from typing import Any

import pytest

from tests.e2e.conftest import SAMPLES
from tests.e2e.console.conftest import Desk, Opener, at_desk, done, give

SMALL = {"width": 360, "height": 760}

OVERLAPS = """selector => {
  const boxes = [...document.querySelectorAll(selector)].filter(node => node.getClientRects().length)
    .map(node => [node.textContent, node.getBoundingClientRect()]);
  const cross = (a, b, from, to) => a[from] < b[to] - 0.5 && b[from] < a[to] - 0.5;
  const touch = (a, b) => cross(a, b, 'left', 'right') && cross(a, b, 'top', 'bottom');
  const touched = (a, others) => others.filter(([, b]) => touch(a, b)).map(([name]) => name);
  return {
    count: boxes.length,
    over: boxes.flatMap(([name, a], i) => touched(a, boxes.slice(i + 1)).map(other => `${name} ${other}`)),
    out: boxes.filter(([, box]) => box.left < 0 || box.right > innerWidth).map(([name]) => name),
  };
}"""

# The browser's own boxes lie in their labels, which take the tap.
SMALL_TARGETS = """() => {
  const tapped = node => ['radio', 'checkbox'].includes(node.type) ? node.closest('label') : node;
  return [...document.querySelectorAll('button, select, summary, input, textarea, nav a, .brand, .button')]
    .filter(node => node.type !== 'file' && node.getClientRects().length)
    .map(node => [node.getAttribute('aria-label') || node.textContent || node.id, tapped(node).getBoundingClientRect()])
    .filter(([, box]) => box.height < 43.5 || box.width < 23.5)
    .map(([name, box]) => `${name}: ${box.width.toFixed(0)} x ${box.height.toFixed(0)}`);
}"""


@pytest.fixture
def phone(open_page: Opener) -> Any:
    def open_(view: str) -> Any:
        return open_page(view, viewport=SMALL, has_touch=True, is_mobile=True)

    return open_


def sound(page: Any) -> None:
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]


def apart(page: Any, selector: str, count: int) -> None:
    found = page.evaluate(OVERLAPS, selector)
    assert found == {"count": count, "over": [], "out": []}


@pytest.mark.parametrize("task", ["Classify", "Enlarge 4×"])
def test_trying_it(phone: Any, task: str) -> None:
    page = phone("try")
    page.get_by_role("radiogroup", name="Tier").wait_for()
    sound(page)
    page.get_by_role("radiogroup", name="Task").get_by_text(task, exact=True).tap()
    give(page, (SAMPLES / "chelsea.jpg").read_bytes())
    done(page)
    sound(page)
    apart(page, ".tick > span", 5)
    status = page.locator("#status .status-text")
    assert status.inner_text() == "Ready"
    box = status.bounding_box()
    assert box["width"] > 20
    assert box["x"] + box["width"] <= SMALL["width"]


def test_operating_it(phone: Any, desk: Desk) -> None:
    page = at_desk(phone("operate"))
    sound(page)
    for task in ("Classify", "Enlarge 4×"):
        page.get_by_role("radiogroup", name="Model").get_by_text(task, exact=True).tap()
        apart(page, ".knob-label", 5)
    # Close to each other, all of them:
    for tier, value in (("fastest", 0.997), ("fast", 0.996), ("balanced", 0.995), ("high", 0.994)):
        page.get_by_role("spinbutton", name=f"{tier}: threshold").fill(str(value))
    apart(page, ".knob-label", 5)
    page.get_by_role("button", name="fast: rule").tap()
    page.get_by_text("By goals").tap()
    page.get_by_text("Under load, and shadow").tap()
    page.get_by_role("button", name="Show").tap()
    sound(page)
    page.get_by_role("button", name="Discard").tap()
    reach = page.locator(".handle .hit").first.bounding_box()
    assert min(reach["width"], reach["height"]) >= 43.5
