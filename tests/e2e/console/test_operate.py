"""The operator's view: what a change will do, the change itself, the history, and what happens when two write."""

import importlib
import json
import re
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SAMPLES, Served
from tests.e2e.console.conftest import CHANGED, PATIENCE, PHONE, ROOT, SHIPPED, TOKEN, Desk, Opener, at_desk

CAT = (SAMPLES / "chelsea.jpg").read_bytes()
BALANCED, FAST, FASTEST = (SHIPPED[name] for name in ("balanced", "fast", "fastest"))

playwright_api = importlib.import_module("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=PATIENCE)


def point(page: Any, tier: str) -> Any:
    return page.get_by_role("slider", name=f"{tier}: threshold")


def threshold(page: Any, tier: str) -> Any:
    return page.get_by_role("spinbutton", name=f"{tier}: threshold")


def save(page: Any, reason: str) -> None:
    page.locator(".predicted, .prediction p").first.wait_for()
    page.get_by_label("Reason", exact=True).fill(reason)
    page.get_by_role("button", name="Save as version").click()


def in_force(page: Any, version: int) -> None:
    expect(page.locator("#version")).to_have_text(f"Version {version} is in force")


def test_a_wrong_token_is_told_so_and_a_right_one_stays_in_this_tab(open_page: Opener) -> None:
    page = open_page("operate")
    page.get_by_label("Token").fill("not-the-token-of-anybody")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("token")
    at_desk(page)
    kept = page.evaluate(
        "[JSON.stringify({...localStorage}), document.cookie, Object.values(sessionStorage)]"
    )
    assert TOKEN not in kept[0] + kept[1]
    assert kept[2] == [TOKEN]
    page.get_by_role("button", name="Forget the token").click()
    page.get_by_label("Token").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_without_an_admin_api_the_page_says_so(open_page: Opener, served: Served) -> None:
    page = open_page("operate", url=served.url)
    expect(page.get_by_role("heading", name="No operator's desk here")).to_be_visible()


def test_drag_predict_save_see_it_act_and_roll_back(operator: Any, desk: Desk) -> None:
    before = desk.table()
    httpx.post(f"{desk.url}/v1/classify?tier=fast", content=CAT, timeout=60)
    box = point(operator, "fast").locator(".knob").bounding_box()
    operator.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    operator.mouse.down()
    operator.mouse.move(box["x"] + 60, box["y"] + 40, steps=6)
    operator.mouse.up()
    chosen = float(threshold(operator, "fast").input_value())
    assert FAST < chosen <= FASTEST
    predicted = operator.locator(".predicted[data-tier=fast]")
    expect(predicted).to_contain_text("MACs saved, curve")
    expect(predicted).to_contain_text(f"{FAST:g} → {chosen:g}")
    button = operator.get_by_role("button", name="Save as version")
    hint = operator.locator("#save-hint")
    expect(hint).to_have_text("To save, say why in Reason.")
    expect(button).to_have_accessible_description("To save, say why in Reason.")
    button.focus()
    operator.keyboard.press("Enter")  # asked, it says why not, and goes where it can be mended
    expect(operator.get_by_label("Reason", exact=True)).to_be_focused()
    expect(operator.get_by_label("Reason", exact=True)).to_have_attribute("aria-invalid", "true")
    assert desk.table()["version"] == before["version"]
    save(operator, "fast may skip more")
    version = before["version"] + 1
    in_force(operator, version)
    expect(operator.locator(".change-panel .notices")).to_have_text(f"Version {version} is in force.")
    answer = httpx.post(f"{desk.url}/v1/classify?tier=fast", content=CAT, timeout=60)
    assert float(answer.headers["x-threshold"]) == pytest.approx(chosen)
    assert answer.headers["x-config-version"] == str(version)
    entry = desk.admin("GET", "audit?limit=1").json()["entries"][0]
    assert (entry["actor"], entry["reason"]) == ("alice", "fast may skip more")

    newest = operator.locator(f".history [data-version='{version}']")
    expect(newest).to_contain_text("fast may skip more")
    expect(newest).to_contain_text("alice")
    older = operator.locator(f".history [data-version='{before['version']}']")
    older.get_by_role("button", name="Compare").click()
    expect(older.locator(".version-details")).to_contain_text(f"{chosen:g} → {FAST:g}")
    older.get_by_label("Reason for the rollback").fill("it lost too much")
    older.get_by_role("button", name="Roll back to").click()
    in_force(operator, version + 1)
    saying = operator.get_by_text(re.compile(r"Version \d+ is in force"))
    for one in saying.all():  # no message speaks of a version that no longer is
        expect(one).to_contain_text(f"Version {version + 1} is in force")
    expect(operator.locator(".change-panel .notices > *")).to_have_count(0)
    assert float(threshold(operator, "fast").input_value()) == FAST
    assert desk.table()["document"] == before["document"]
    assert desk.table()["reason"] == "it lost too much"


def test_points_move_by_keyboard_and_stop_at_their_neighbours(operator: Any) -> None:
    fast = point(operator, "fast")
    fast.focus()
    for key, value in (
        ("ArrowRight", FAST + 0.001),
        ("ArrowLeft", FAST),
        ("Shift+ArrowLeft", FAST - 0.01),
        ("PageDown", FAST - 0.06),
        ("PageUp", FAST - 0.01),
        ("End", FASTEST),
        ("Home", BALANCED),
    ):
        operator.keyboard.press(key)
        expect(fast).to_have_attribute("aria-valuenow", f"{value:g}")
    expect(threshold(operator, "fast")).to_have_value(f"{BALANCED:g}")
    card = json.loads((ROOT / "models" / "weights" / "resnet18.json").read_text())
    (row,) = (row for row in card["expectations"] if row["threshold"] == BALANCED)
    saved, top1 = 100 * row["macs_saved"], 100 * row["metrics"]["top1"]
    expect(fast).to_have_attribute("aria-valuetext", f"{BALANCED:g}: saves {saved:.1f} %, Top-1 {top1:.1f} %")
    assert operator.evaluate("document.activeElement.dataset.tier") == "fast"
    operator.get_by_role("button", name="Discard").click()
    expect(threshold(operator, "fast")).to_have_value(f"{FAST:g}")
    expect(operator.get_by_text("Nothing changed yet.")).to_be_visible()


def test_a_table_out_of_order_is_refused_before_it_is_saved(operator: Any) -> None:
    threshold(operator, "fast").fill("0.2")
    expect(operator.locator(".prediction [role=alert]")).to_contain_text("balanced")
    operator.get_by_label("Reason", exact=True).fill("a mistake")
    expect(operator.get_by_role("button", name="Save as version")).to_be_disabled()
    expect(operator.locator("#save-hint")).to_have_text("To save, first correct what is marked in red.")
    expect(threshold(operator, "fast")).to_have_attribute("aria-invalid", "true")
    expect(threshold(operator, "fast")).to_have_accessible_description(
        f"Below balanced ({BALANCED:g}): a faster tier may not skip less."
    )
    expect(threshold(operator, "fastest")).to_have_attribute("aria-invalid", "false")
    operator.locator("#save").focus()
    operator.keyboard.press("Enter")
    expect(threshold(operator, "fast")).to_be_focused()
    operator.get_by_role("button", name="Undo fast · classify · threshold").click()
    expect(threshold(operator, "fast")).to_have_value(f"{FAST:g}")


def test_what_is_no_threshold_is_said_beside_it(operator: Any) -> None:
    field = threshold(operator, "fast")
    for value in ("1.2", "-0.1", ""):
        field.fill(value)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description("A threshold is a number from 0 to 1.")
        operator.keyboard.press("Tab")
        expect(field).to_have_attribute("aria-invalid", "true")  # it is not taken back in silence
    field.fill(f"{FAST:g}")
    expect(field).to_have_attribute("aria-invalid", "false")
    expect(field).to_have_accessible_description("")


def test_any_threshold_of_three_digits_is_reached_by_keys_and_by_typing(operator: Any) -> None:
    operator.get_by_role("radiogroup", name="Model").get_by_text("Enlarge 4×").click()
    field, slider = threshold(operator, "fast"), point(operator, "fast")
    field.fill("0.993")
    expect(slider).to_have_attribute("aria-valuenow", "0.993")
    assert field.evaluate("input => input.validity.valid")
    field.focus()
    for key, value in (
        ("ArrowUp", "0.994"),
        ("ArrowUp", "0.995"),
        ("Shift+ArrowDown", "0.985"),
        ("PageDown", "0.935"),
    ):
        operator.keyboard.press(key)
        expect(field).to_have_value(value)
    slider.focus()
    for key, value in (("PageUp", "0.985"), ("Shift+ArrowLeft", "0.975"), ("ArrowRight", "0.976")):
        operator.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", value)
    operator.get_by_role("button", name="Discard").click()


def test_what_the_service_refuses_is_said_in_words_and_marked(operator: Any) -> None:
    refusal = {
        "type": "validation", "title": "A parameter is not valid", "status": 422, "request_id": "x",
        "help": "Correct the parameters named in `errors`.",
        "detail": "tiers.high.thresholds.classify: the card cannot say",
        "errors": [{"field": "tiers.high.thresholds.classify.macs_saved", "message": "the card cannot say"}],
    }  # fmt: skip
    operator.route(
        "**/admin/v1/tiers:dry-run",
        lambda route: route.fulfill(
            status=422, content_type="application/problem+json", body=json.dumps(refusal)
        ),
    )
    threshold(operator, "fast").fill(CHANGED)
    told = operator.locator(".prediction [role=alert]")
    expect(told).to_contain_text("High · classify · macs saved: the card cannot say.")
    for api_word in ("`", "errors", "parameter", "tiers.high"):
        assert api_word not in told.inner_text()
    expect(threshold(operator, "high")).to_have_attribute("aria-invalid", "true")
    expect(threshold(operator, "high")).to_have_accessible_description("the card cannot say")
    operator.unroute("**/admin/v1/tiers:dry-run")
    operator.get_by_role("button", name="Discard").click()
    expect(threshold(operator, "high")).to_have_attribute("aria-invalid", "false")


def test_goals(operator: Any, desk: Desk) -> None:
    before = desk.table()
    operator.get_by_role("radiogroup", name="Model").get_by_text("Enlarge 4×").click()
    operator.get_by_role("button", name="fast: rule").click()
    operator.get_by_text("By goals").click()
    operator.get_by_label("MACs saved, at least").fill("90")
    expect(operator.locator(".predicted[data-tier=fast]")).to_contain_text("Threshold")
    save(operator, "a goal instead of a number")
    in_force(operator, before["version"] + 1)
    (fast,) = [tier for tier in desk.table()["tiers"] if tier["name"] == "fast"]
    assert fast["models"]["super-resolve"]["rule"] == {"macs_saved": 0.9}
    assert fast["models"]["super-resolve"]["expected"]["macs_saved"] >= 0.899
    expect(threshold(operator, "fast")).to_have_value(f"{fast['models']['super-resolve']['threshold']:.4g}")
    expect(operator.locator("tr[data-tier=fast] .rule")).to_have_text("saves ≥ 90 %")
    desk.admin("POST", "tiers:rollback", json={"version": before["version"]}, headers={"If-Match": "*"})
    in_force(operator, before["version"] + 2)  # the page sees by itself that somebody else acted


def test_brownout_and_shadow(operator: Any, desk: Desk) -> None:
    before = desk.table()["version"]
    operator.get_by_text("Under load, and shadow").click()
    operator.get_by_text("Brownout: answer from faster tiers").click()
    operator.get_by_label("Shadow, % of requests").fill("5")
    operator.get_by_label("Candidate, classify").fill("0.6")
    expect(operator.locator(".change-panel .changes li")).to_have_count(3)
    save(operator, "try brownout")
    in_force(operator, before + 1)
    document = desk.table()["document"]
    assert document["brownout"]["enabled"] is True
    assert document["shadow"]["share"] == 0.05
    assert document["shadow"]["thresholds"]["classify"] == 0.6
    desk.admin("POST", "tiers:rollback", json={"version": before}, headers={"If-Match": "*"})


def test_two_writers(operator: Any, desk: Desk) -> None:
    """The second is told, keeps what they typed, and saves it on top once they have seen the other's change."""
    stale = desk.admin("GET", "live").text
    operator.route(
        "**/admin/v1/live*", lambda route: route.fulfill(body=stale, content_type="application/json")
    )
    version = desk.table()["version"]
    threshold(operator, "fast").fill(CHANGED)
    operator.locator(".predicted").wait_for()
    desk.patch({"tiers": {"high": {"thresholds": {"classify": 0.3}}}})
    save(operator, "mine")
    told = operator.locator(".change-panel .notices [role=alert]")
    expect(told).to_contain_text(f"ersion {version + 1} is in force")
    expect(told).to_contain_text("Nothing of it touches what you changed")
    in_force(operator, version + 1)
    expect(threshold(operator, "high")).to_have_value("0.3")
    expect(threshold(operator, "fast")).to_have_value(CHANGED)
    expect(operator.get_by_label("Reason", exact=True)).to_have_value("mine")
    operator.get_by_role("button", name=f"Save as version {version + 2}").click()
    in_force(operator, version + 2)
    rules = {tier["name"]: tier["thresholds"]["classify"] for tier in desk.table()["document"]["tiers"]}
    assert (rules["high"]["threshold"], rules["fast"]["threshold"]) == (0.3, float(CHANGED))
    desk.admin("POST", "tiers:rollback", json={"version": version}, headers={"If-Match": "*"})


def test_an_unsaved_change_outlives_a_reload(operator: Any) -> None:
    threshold(operator, "fast").fill(CHANGED)
    operator.locator(".predicted").wait_for()
    operator.reload()
    expect(threshold(operator, "fast")).to_have_value(CHANGED)
    expect(operator.locator(".change-panel .changes")).to_contain_text("fast · classify · threshold")
    operator.get_by_role("button", name="Discard").click()


def test_a_token_withdrawn_meanwhile(operator: Any, desk: Desk) -> None:
    kept = desk.tokens.read_text()
    threshold(operator, "fast").fill(f"{float(CHANGED) + 0.01:g}")
    operator.locator(".predicted").wait_for()
    desk.tokens.write_text("bob:another-token-for-the-tests\n")
    try:
        expect(operator.get_by_role("alert")).to_contain_text("token")
    finally:
        desk.tokens.write_text(kept)
    at_desk(operator)
    expect(threshold(operator, "fast")).to_have_value(
        f"{float(CHANGED) + 0.01:g}"
    )  # the change was not lost with it
    operator.get_by_role("button", name="Discard").click()


def test_live_numbers(operator: Any, desk: Desk) -> None:
    for _ in range(3):
        assert httpx.post(f"{desk.url}/v1/classify?tier=high", content=CAT, timeout=60).status_code == 200
    row = operator.locator("tr[data-tier=high]")
    expect(row.locator("td[data-label='p50 now']")).to_have_text(re.compile(r"\d m?s$"))
    expect(row.locator("td[data-label='Saved now']")).to_contain_text("%")
    expect(operator.locator(".tile").first.locator("strong")).not_to_have_text("0")


def test_on_a_phone(open_page: Opener) -> None:
    page = at_desk(open_page("operate", viewport=PHONE, has_touch=True, is_mobile=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    threshold(page, "fast").fill(CHANGED)
    page.locator(".predicted").wait_for()
    page.get_by_role("button", name="Review").tap()
    expect(page.get_by_label("Reason", exact=True)).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_curve_is_the_cards(operator: Any, desk: Desk) -> None:
    points = desk.table()["curves"]["classify"]["points"]
    for tier in desk.table()["tiers"]:
        expected = tier["models"]["classify"]["expected"]
        text = operator.locator(f"tr[data-tier={tier['name']}] td[data-label='MACs saved']").inner_text()
        assert text.splitlines()[-1].replace("−", "-") == f"{100 * expected['macs_saved']:.1f} %"
    assert len(points) >= operator.locator(".dot-measured").count() > 2
