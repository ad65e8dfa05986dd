"""The public view: an image in, the tier beside exact, the threshold by hand."""

import importlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SAMPLES
from tests.e2e.console.conftest import (
    PATIENCE,
    PHONE,
    SHIPPED,
    Desk,
    Opener,
    cropped,
    done,
    give,
    shown_percent,
    stretched,
)

CAT = (SAMPLES / "chelsea.jpg").read_bytes()

playwright_api = importlib.import_module("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=PATIENCE)


def set_threshold(page: Any, value: float) -> None:
    page.locator("#threshold").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(value),
    )


def choose(page: Any, group: str, name: str) -> None:
    page.get_by_role("radiogroup", name=group).get_by_text(name, exact=True).click()


def test_a_sample_shows_the_tier_beside_exact(page: Any, desk: Desk) -> None:
    page.get_by_role("button", name="Cat").click()
    done(page)
    answer = httpx.post(f"{desk.url}/v1/classify?tier=balanced", content=CAT, timeout=60).json()
    assert shown_percent(page.locator("#macs-saved").inner_text()) == pytest.approx(
        answer["macs"]["saved_ratio"], abs=6e-4
    )
    names = page.locator(".predictions .class-name").all_inner_texts()
    assert names == [one["label"].replace("_", " ") for one in answer["predictions"]]
    assert page.locator(".predictions .mark").count() >= 3  # where exact stands
    expect(page.locator(".side-label.before")).to_have_text("exact")
    expect(page.locator(".side-label.after")).to_have_text("balanced")
    assert re.fullmatch(r"−?[\d.]+ m?s", page.locator("#ms-saved").inner_text())


def test_drop_and_paste(page: Any) -> None:
    page.get_by_role("button", name="Choose an image").wait_for()
    carry = """([name, bytes]) => {
      const file = new File([new Uint8Array(bytes)], name, {type: 'image/jpeg'});
      const data = new DataTransfer();
      data.items.add(file);
      return data;
    }"""
    data = page.evaluate_handle(carry, ["dropped.jpg", list(CAT)])
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(".welcome", event, {"dataTransfer": data})
    done(page)
    expect(page.locator(".file-name")).to_contain_text("dropped.jpg 451 × 300")
    data = page.evaluate_handle(carry, ["pasted.jpg", list(CAT)])
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))",
        data,
    )
    expect(page.locator(".file-name")).to_contain_text("pasted.jpg")
    done(page)


def test_several_images_are_a_strip_of_outcomes(page: Any) -> None:
    files = [("cat.jpg", CAT), ("broken.png", b"no image"), ("part.png", cropped(90, 60))]
    page.get_by_label("Image file").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": body} for name, body in files]
    )
    strip = page.get_by_role("list", name="Images").get_by_role("button")
    expect(strip).to_have_count(3)
    done(page)
    expect(strip.nth(0)).to_contain_text("% saved")
    expect(strip.nth(1)).to_contain_text("this is not a JPEG, PNG or WebP image")
    expect(strip.nth(2)).to_contain_text("% saved")
    expect(strip.nth(0)).to_have_attribute("aria-pressed", "true")
    strip.nth(2).click()
    expect(page.locator(".file-name")).to_contain_text("part.png 90 × 60")
    done(page)
    before = strip.nth(0).inner_text()
    page.get_by_text("exact", exact=True).first.click()
    done(page)
    expect(strip.nth(0)).not_to_contain_text("…")
    assert strip.nth(0).inner_text() != before
    page.get_by_role("button", name="Cat").first.click()
    expect(page.get_by_role("list", name="Images")).to_be_hidden()


@pytest.mark.parametrize(
    ("task", "size"), [("classify", (131, 90)), ("super-resolve", (64, 48)), ("super-resolve", (37, 53))]
)
def test_what_the_browser_counts_is_what_the_service_computed(
    page: Any, desk: Desk, task: str, size: tuple[int, int]
) -> None:
    body = cropped(*size)
    if task == "super-resolve":
        choose(page, "Task", "Enlarge 4×")
    give(page, body)
    done(page)
    for threshold in (0, 0.05, 0.2, 0.33, 0.45, 0.55, 0.7, 0.85, 0.95, 1):
        set_threshold(page, threshold)
        answer = httpx.post(
            f"{desk.url}/v1/{task}?threshold={threshold}&include=importance", content=body, timeout=60
        ).json()
        shown = float(page.locator("#skipped").get_attribute("data-share"))
        assert shown == pytest.approx(answer["active_share"], abs=1e-6), threshold
        values = [value for row in answer["importance"]["values"] for value in row]
        dimmed = page.locator("canvas.map").evaluate(
            """(canvas, [columns, rows]) => {
              const side = canvas.width / columns, pixels = canvas.getContext('2d');
              let count = 0;
              for (let y = 0; y < rows; y += 1) for (let x = 0; x < columns; x += 1)
                count += pixels.getImageData((x + 0.5) * side, (y + 0.5) * side, 1, 1).data[3] > 0 ? 1 : 0;
              return count;
            }""",
            [answer["importance"]["width"], answer["importance"]["height"]],
        )
        assert dimmed == sum(value < threshold for value in values), threshold


def test_the_estimate_agrees_with_the_run(page: Any) -> None:
    choose(page, "Task", "Enlarge 4×")
    give(page, cropped(64, 64))
    done(page)
    set_threshold(page, 0.3)
    estimate = shown_percent(page.locator("#estimate").inner_text())
    page.get_by_role("button", name="Run at 0.3").click()
    expect(page.locator(".side-label.after")).to_have_text("at 0.3")
    done(page)
    assert shown_percent(page.locator("#macs-saved").inner_text()) == pytest.approx(estimate, abs=2e-3)
    expect(page.locator("#run-threshold")).to_be_disabled()


def test_enlarging_and_downloading(page: Any, tmp_path: Path) -> None:
    choose(page, "Task", "Enlarge 4×")
    give(page, cropped(40, 30))
    done(page)
    expect(page.locator("#likeness")).to_have_text(
        re.compile(r"dB PSNR against exact|Every pixel as in exact")
    )
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG, 160 × 120").click()
    download.value.save_as(tmp_path / "result.png")
    from PIL import Image

    assert Image.open(tmp_path / "result.png").size == (160, 120)
    choose(page, "Compare with", "input")
    expect(page.locator(".side-label.before")).to_have_text("input")


def test_a_large_photo_is_enlarged_in_part_until_the_whole_is_wanted(page: Any) -> None:
    choose(page, "Task", "Enlarge 4×")
    give(page, (SAMPLES / "astronaut.jpg").read_bytes())
    done(page)
    expect(page.locator(".results .button")).to_have_text("Download PNG, 1024 × 1024")
    expect(page.get_by_role("radiogroup", name="What to enlarge")).to_be_visible()


WIDE_PHOTO = (2100, 96)  # three tiles


def jobs_held(desk: Desk) -> int:
    lines = httpx.get(f"{desk.url}/metrics", timeout=60).text.splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("pixeltier_jobs{")))


def test_the_tiles_of_a_large_image_are_a_bar(page: Any, desk: Desk) -> None:
    choose(page, "Task", "Enlarge 4×")
    choose(page, "Tier", "exact")
    give(page, stretched(*WIDE_PHOTO))
    done(page)
    choose(page, "What to enlarge", "Whole image")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_text(re.compile(r"[0-3] of 3 tiles"))
    assert 0 <= int(bar.get_attribute("aria-valuenow")) <= int(bar.get_attribute("aria-valuemax")) == 3
    line = page.locator(".progress").bounding_box()
    assert line is not None
    assert line["width"] > 300
    assert line["height"] >= 4
    expect(page.locator(".results .button")).to_have_text("Download PNG, 8400 × 384")
    expect(bar).to_be_hidden()
    assert jobs_held(desk) == 0


def test_what_is_not_waited_for_any_longer_is_cancelled(page: Any, desk: Desk) -> None:
    choose(page, "Task", "Enlarge 4×")
    choose(page, "Tier", "exact")
    give(page, stretched(*WIDE_PHOTO))
    done(page)
    choose(page, "What to enlarge", "Whole image")
    expect(page.get_by_role("progressbar")).to_be_visible()
    assert jobs_held(desk) == 1
    give(page, cropped(40, 30))
    expect(page.locator(".results .button")).to_have_text("Download PNG, 160 × 120")
    assert jobs_held(desk) == 0


def test_the_divider_moves_by_keyboard_and_mouse(page: Any) -> None:
    page.get_by_role("button", name="Cat").click()
    done(page)
    divider = page.get_by_role("slider", name="Divider between exact and balanced")
    divider.focus()
    for key, value in (
        ("ArrowRight", "52"),
        ("ArrowLeft", "50"),
        ("End", "100"),
        ("Home", "0"),
        ("PageUp", "10"),
    ):
        page.keyboard.press(key)
        expect(divider).to_have_attribute("aria-valuenow", value)
    box = page.locator(".compare-view").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "75")
    left = page.locator(".layer").nth(1).evaluate("node => parseFloat(node.style.clipPath.split(' ').at(-1))")
    assert left == pytest.approx(75, abs=0.5)


def test_zoom_by_button_keyboard_and_drag(page: Any) -> None:
    page.get_by_role("button", name="Cat").click()
    done(page)
    place = page.locator(".content").first
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".zoom-label")).to_have_text("1.5×")
    page.locator(".compare-view").focus()
    page.keyboard.press("+")
    expect(page.locator(".zoom-label")).to_have_text("2.3×")
    before = place.evaluate("node => node.style.transform")
    page.keyboard.press("ArrowRight")
    assert place.evaluate("node => node.style.transform") != before
    page.keyboard.press("0")
    expect(page.locator(".zoom-label")).to_have_text("1×")


def test_the_overlays(page: Any) -> None:
    page.get_by_role("button", name="Cat").click()
    done(page)
    choose(page, "Overlay", "Plain")
    assert page.locator("canvas.map").count() == 0
    choose(page, "Overlay", "Importance")
    assert page.locator("canvas.map").evaluate("canvas => [canvas.width, canvas.height]") == [14, 14]
    set_threshold(page, 0.8)  # shows what would be skipped, whatever was shown before
    assert page.locator("canvas.map").evaluate("canvas => canvas.width") > 14


def test_by_keyboard_alone(page: Any) -> None:
    page.get_by_role("radiogroup", name="Tier").wait_for()

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement?.matches(selector)", selector):
                return
        pytest.fail(f"Tab never came to {selector}")

    tab_to(".skip-link")
    tab_to("[data-sample='cat.jpg']")
    page.keyboard.press("Enter")
    done(page)
    page.keyboard.press("Shift+Tab")
    page.evaluate("document.activeElement.blur(); document.body.focus()")
    tab_to(".tier-place input")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".side-label.after")).to_have_text("fast")
    done(page)
    assert page.evaluate("document.activeElement.value") == "fast"  # the focus stays where it was
    tab_to(".divider")
    page.keyboard.press("End")
    expect(page.locator(".divider")).to_have_attribute("aria-valuenow", "100")
    tab_to("#threshold")
    page.keyboard.press("ArrowRight")
    chosen = f"{SHIPPED['fast'] + 0.001:g}"
    expect(page.get_by_role("button", name=f"Run at {chosen}")).to_be_enabled()
    page.keyboard.press("Enter")
    expect(page.locator(".side-label.after")).to_have_text(f"at {chosen}")
    done(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # the button stands before the slider
    expect(page.locator(".side-label.after")).to_have_text(f"at {SHIPPED['fast'] + 0.002:g}")
    done(page)


@pytest.mark.parametrize("task", ["Classify", "Enlarge 4×"])
def test_a_phone_never_scrolls_sideways(open_page: Opener, task: str) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.get_by_role("radiogroup", name="Tier").wait_for()
    choose(page, "Task", task)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("button", name="Astronaut").tap()
    done(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    clipped = page.evaluate(
        """() => [...document.querySelectorAll('button, input, .choices span')]
          .filter(node => node.getClientRects().length && node.type !== 'file')
          .filter(node => node.getBoundingClientRect().right > innerWidth)
          .map(node => node.outerHTML)"""
    )
    assert clipped == []


def test_dark_by_the_system_light_by_choice(open_page: Opener) -> None:
    page = open_page(color_scheme="dark")
    page.locator("#theme[aria-label]").wait_for()

    def paper() -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert paper() < 100
    page.get_by_role("button", name="Theme: as the system").click()
    assert paper() > 700
    page.reload()
    page.get_by_role("button", name="Theme: light").click()
    assert paper() < 100
    page.get_by_role("button", name="Theme: dark").click()
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: as the system")
