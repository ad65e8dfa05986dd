"""The keyboard's focus never falls to the body (WCAG 2.4.3), whatever goes away under it."""

import importlib
from typing import Any

import pytest

from tests.e2e.conftest import SAMPLES
from tests.e2e.console.conftest import (
    CHANGED,
    PATIENCE,
    SHIPPED,
    TOKEN,
    Desk,
    Opener,
    at_desk,
    cropped,
    done,
    give,
)

playwright_api = importlib.import_module("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=PATIENCE)

FAST = SHIPPED["fast"]

FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body || !node.getClientRects().length) return 'lost';
  return `${node.tagName.toLowerCase()} ${node.id || node.getAttribute('aria-label') || node.textContent}`;
}"""


def focused(page: Any) -> str:
    """What has the focus, once the page has settled."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    text: str = page.evaluate(FOCUSED)
    return text


def press(page: Any, name: str) -> None:
    """A button, by keyboard."""
    page.get_by_role("button", name=name).first.focus()
    page.keyboard.press("Enter")


def test_signing_in_and_out(open_page: Opener) -> None:
    page = open_page("operate")
    page.get_by_label("Token").fill("a-token-of-nobody-at-all")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This token is not valid here")
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.get_by_label("Token")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Token").fill(f"{TOKEN[:5]}\u200b{TOKEN[5:]}")  # as some pages give it to copy
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Character 6 of it is one that no token has")
    expect(page.get_by_label("Token")).to_be_focused()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator(".tile").first.wait_for()
    expect(page.locator("#version")).to_be_focused()
    press(page, "Forget the token")
    expect(page.get_by_label("Token")).to_be_focused()


def test_a_page_that_opens_takes_no_focus(open_page: Opener) -> None:
    page = at_desk(open_page("operate"))
    page.reload()
    page.locator(".tile").first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("document.activeElement === document.body")


def test_saving_undoing_and_rolling_back(operator: Any, desk: Desk) -> None:
    before = desk.table()["version"]
    field = operator.get_by_role("spinbutton", name="fast: threshold")
    field.fill(CHANGED)
    operator.get_by_role("spinbutton", name="high: threshold").fill("0.3")
    operator.locator(".predicted").first.wait_for()
    press(operator, "Undo high")
    assert focused(operator).startswith("button Undo fast")
    press(operator, "Undo fast")
    assert focused(operator) == "h2 Change"
    field.fill(f"{float(CHANGED) + 0.01:g}")
    operator.locator(".predicted").first.wait_for()
    press(operator, "Discard")
    assert focused(operator) == "h2 Change"

    field.fill(CHANGED)
    operator.locator(".predicted").first.wait_for()
    operator.get_by_label("Reason", exact=True).fill("to see")
    expect(operator.get_by_role("button", name="Save as version")).to_be_enabled()
    press(operator, "Save as version")
    expect(operator.locator("#version")).to_have_text(f"Version {before + 1} is in force")
    operator.locator(f".history [data-version='{before + 1}']").wait_for()
    assert focused(operator) == f"div Version {before + 1} is in force."
    operator.keyboard.press("Tab")
    assert focused(operator) != "lost"

    older = operator.locator(f".history [data-version='{before}']")
    older.get_by_role("button", name="Compare").focus()
    operator.keyboard.press("Enter")
    older.get_by_label("Reason for the rollback").focus()
    operator.keyboard.press("Enter")  # a rollback says by itself why
    expect(operator.locator("#version")).to_have_text(f"Version {before + 2} is in force")
    operator.locator(f".history [data-version='{before + 2}']").wait_for()
    assert focused(operator).startswith(
        f"div Version {before + 2} is in force, with the tiers of version {before}"
    )
    assert desk.table()["reason"] == f"back to version {before}"


def test_another_operators_change_takes_no_focus_away(operator: Any, desk: Desk) -> None:
    before = desk.table()["version"]
    field = operator.get_by_role("spinbutton", name="fast: threshold")
    field.focus()
    operator.keyboard.press("ArrowUp")
    desk.patch({"tiers": {"high": {"thresholds": {"classify": 0.3}}}})
    expect(operator.locator("#version")).to_have_text(f"Version {before + 1} is in force")
    expect(field).to_be_focused()
    expect(field).to_have_value(f"{FAST + 0.001:g}")
    press(operator, "fast: rule")
    operator.get_by_label("Description").focus()
    desk.admin("POST", "tiers:rollback", json={"version": before}, headers={"If-Match": "*"})
    expect(operator.locator("#version")).to_have_text(f"Version {before + 2} is in force")
    expect(operator.get_by_label("Description")).to_be_focused()
    press(operator, "Discard")


def test_what_goes_away_under_it(operator: Any) -> None:
    """A problem's own button, and a list that is drawn anew."""
    operator.route("**/admin/v1/tiers:dry-run", lambda route: route.fulfill(status=503, body="{}"))
    operator.get_by_role("spinbutton", name="fast: threshold").fill(CHANGED)
    again = operator.locator(".prediction").get_by_role("button", name="Try again")
    again.focus()
    operator.unroute("**/admin/v1/tiers:dry-run")
    operator.keyboard.press("Enter")
    operator.locator(".predicted").first.wait_for()
    assert focused(operator) != "lost"
    press(operator, "Discard")


@pytest.mark.parametrize("task", ["Classify", "Enlarge 4×"])
def test_the_public_view(page: Any, task: str) -> None:
    page.get_by_role("radiogroup", name="Tier").wait_for()
    page.get_by_role("radiogroup", name="Task").get_by_text(task, exact=True).click()
    page.locator("[data-sample='cat.jpg']").focus()
    page.keyboard.press("Enter")
    done(page)
    assert focused(page) == "button Another image"  # the samples' place at the start is gone
    page.locator("#threshold").focus()
    page.keyboard.press("Shift+ArrowRight")
    press(page, "Run at")
    page.locator(".side-label.after", has_text="at 0").wait_for()
    done(page)
    assert focused(page) == "button run-threshold"
    give(page, b"nothing")
    page.get_by_role("alert").wait_for()
    again = page.get_by_role("button", name="Try again")
    again.focus()
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert focused(page) != "lost"
    give(page, cropped(64, 64))
    done(page)
    assert focused(page) != "lost"


def test_leaving_it_by_a_click_is_respected(page: Any) -> None:
    give(page, (SAMPLES / "chelsea.jpg").read_bytes())
    done(page)
    page.locator("#threshold").focus()
    page.locator(".side").click(position={"x": 5, "y": 5})
    left = page.evaluate("document.activeElement.id")
    assert left != "threshold"
    page.evaluate("document.body.classList.add('changed')")
    page.wait_for_timeout(200)
    assert page.evaluate("document.activeElement.id") == left
