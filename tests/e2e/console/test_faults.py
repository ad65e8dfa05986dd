"""Nothing an answer says, and no restart, breaks the page or loses what the user gave."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SAMPLES, free_port, serve
from tests.e2e.console.conftest import CHANGED, PATIENCE, TOKEN, Opener, at_desk, done, give

CAT = (SAMPLES / "chelsea.jpg").read_bytes()

playwright_api = importlib.import_module("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=PATIENCE)


def problem(status: int, type_: str, detail: str, **more: Any) -> dict[str, Any]:
    body = {
        "type": type_,
        "title": "A title",
        "status": status,
        "detail": detail,
        "help": "Do this.",
        "request_id": "x",
    }
    return {"status": status, "content_type": "application/problem+json", "body": json.dumps(body | more)}


def fulfilled(**answer: Any) -> Callable[[Any], None]:
    """Answers a request without asking the service."""
    return lambda route: route.fulfill(**answer)


ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("no json", {"status": 200, "body": "not json"}, "did not answer with JSON"),
    ("a list", {"status": 200, "body": "[]"}, "does not say what it cost"),
    ("null", {"status": 200, "body": "null"}, "did not answer with an object"),
    ("an empty object", {"status": 200, "body": "{}"}, "does not say what it cost"),
    ("a proxy's page", {"status": 500, "body": "<h1>nginx</h1>"}, "HTTP 500"),
    ("too large", problem(413, "image-too-large", "the limit is 4 megapixels"), "The limit is 4 megapixels."),
    (
        "fields",
        problem(422, "validation", "wrong", errors=[{"field": "query.tier", "message": "too long"}]),
        "Tier: too long.",
    ),
    ("odd errors", problem(422, "validation", "wrong", errors=[None, 3, {}], help=7), "Wrong."),
    ("deadline", problem(504, "deadline-exceeded", "2 minutes are over"), "2 minutes are over"),
]


def test_any_answer_is_shown_and_survived(page: Any) -> None:
    for name, answer, said in ANSWERS:
        page.route("**/v1/classify*", fulfilled(**answer))
        give(page, CAT, f"{name}.png")
        expect(page.locator(".file-name")).to_contain_text(name)
        expect(page.get_by_role("alert")).to_contain_text(said)
        page.unroute("**/v1/classify*")
    page.get_by_role("button", name="Try again").click()
    done(page)
    assert page.get_by_role("alert").count() == 0


@pytest.mark.parametrize(("status", "type_"), [(503, "overloaded"), (429, "rate-limited")])
def test_what_passes_is_tried_again_by_itself(page: Any, status: int, type_: str) -> None:
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.post_data_buffer)
        if len(asked) <= 2:
            route.fulfill(**problem(status, type_, "64 jobs wait"), headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/v1/classify*", answer)
    give(page, CAT)
    expect(page.get_by_role("alert")).to_contain_text("64 jobs wait")
    expect(page.get_by_role("alert")).to_contain_text("Nothing is lost")
    done(page)
    assert asked[0] == asked[2] == CAT


def test_the_services_own_words_about_a_file_that_is_no_image(page: Any) -> None:
    give(page, b"this is not an image", "notes.png")
    expect(page.get_by_role("alert")).to_contain_text("This is not a JPEG, PNG or WebP image")
    give(page, CAT)
    done(page)


@pytest.mark.parametrize(
    ("content", "name"), [(CAT, "cat.jpg"), (b"this is not an image", "notes.png")], ids=["image", "text"]
)
def test_an_image_that_is_given_before_the_tiers_have_come(page: Any, content: bytes, name: str) -> None:
    waiting: list[Any] = []
    page.route("**/v1/tiers", lambda route: waiting.append(route))  # noqa: PLW0108  (Playwright inspects it)
    page.reload()
    give(page, content, name)
    expect(page.locator(".file-name")).to_contain_text(name)
    for route in waiting:
        route.continue_()
    if content is CAT:
        done(page)
    else:
        expect(page.get_by_role("alert")).to_contain_text("This is not a JPEG, PNG or WebP image")


def test_a_service_that_needs_a_key(page: Any) -> None:
    seen = []

    def answer(route: Any) -> None:
        seen.append(route.request.headers.get("authorization"))
        if seen[-1] == "Bearer pxt_key":
            route.continue_(headers={k: v for k, v in route.request.headers.items() if k != "authorization"})
        else:
            route.fulfill(**problem(401, "unauthorized", "this service needs a key"))

    page.route("**/v1/classify*", answer)
    give(page, CAT)
    expect(page.get_by_role("alert")).to_contain_text("This service needs a key")
    page.get_by_label("API key").fill("pxt_key")
    page.keyboard.press("Enter")
    done(page)
    assert seen[:2] == [None, "Bearer pxt_key"]


def test_a_tier_list_that_makes_no_sense(page: Any) -> None:
    for body in ("{}", "[1]", "nonsense", '{"tiers": []}', '{"tiers": [{"name": 1}]}'):
        page.route("**/v1/tiers", fulfilled(body=body, content_type="application/json"))
        page.reload()
        expect(page.get_by_role("alert")).to_be_visible()
        page.unroute("**/v1/tiers")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("radiogroup", name="Tier").wait_for()


def test_admin_answers_that_make_no_sense(open_page: Opener) -> None:
    page = open_page("operate")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    for body in ("{}", "[]", "nonsense", '{"version": 3, "document": {"tiers": []}, "tiers": []}'):
        for path in ("live*", "versions*", "audit*"):
            page.route(
                f"**/admin/v1/{path}",
                fulfilled(body=body, content_type="application/json"),
            )
        page.reload()
        page.locator(".tiers tbody tr").first.wait_for()
        page.route(
            "**/admin/v1/tiers",
            fulfilled(body=body, content_type="application/json"),
        )
        page.reload()
        page.locator("[role=alert], #version").first.wait_for()
        page.unroute_all()
    page.reload()
    page.locator(".tiers tbody tr").first.wait_for()


@pytest.mark.parametrize("status", [412, 422, 503, 507])
def test_a_change_that_is_refused_is_kept(operator: Any, status: int) -> None:
    def answer(route: Any) -> None:
        if route.request.method == "PATCH":
            route.fulfill(**problem(status, "some-problem", f"refused with {status}"))
        else:
            route.continue_()

    operator.route("**/admin/v1/tiers", answer)
    field = operator.get_by_role("spinbutton", name="fast: threshold")
    field.fill(CHANGED)
    operator.locator(".predicted").wait_for()
    operator.get_by_label("Reason", exact=True).fill("because")
    operator.get_by_role("button", name="Save as version").click()
    expect(operator.locator(".change-panel .notices [role=alert]")).to_contain_text(f"Refused with {status}")
    expect(field).to_have_value(CHANGED)
    expect(operator.get_by_label("Reason", exact=True)).to_have_value("because")
    operator.get_by_role("button", name="Discard").click()


def test_a_restart_loses_nothing(open_page: Opener, tmp_path: Path) -> None:
    """The image and an unsaved change stay in the page; both go on by themselves when the service is back."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"alice:{TOKEN}\n")
    settings = {"admin_token_file": str(tokens), "slots": "1"}
    port = free_port()
    with serve(tmp_path / "first", port, **settings) as first:
        page = open_page(url=first.url)
        desk = at_desk(open_page("operate", url=first.url))
        give(page, CAT)
        done(page)
        desk.get_by_role("spinbutton", name="fast: threshold").fill(CHANGED)
        desk.locator(".predicted").wait_for()
    page.get_by_role("radiogroup", name="Tier").get_by_text("fast", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing is lost")
    expect(page.locator("#status")).to_have_attribute("data-state", "away")
    expect(desk.get_by_role("alert").first).to_contain_text("Nothing is lost")
    with serve(tmp_path / "second", port, **settings):
        expect(page.locator(".side-label.after")).to_have_text("fast")
        done(page)
        assert page.get_by_role("alert").count() == 0
        expect(desk.get_by_role("alert")).to_have_count(0)
        expect(desk.get_by_role("spinbutton", name="fast: threshold")).to_have_value(CHANGED)
        desk.get_by_label("Reason", exact=True).fill("after the restart")
        desk.get_by_role("button", name="Save as version").click()
        expect(desk.locator("#version")).to_contain_text("is in force")
        expect(desk.locator(".change-panel [role=status]")).to_contain_text("is in force")
