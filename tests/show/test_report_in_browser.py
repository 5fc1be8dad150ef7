"""The report in a browser: slider, toggle, hover, keyboard, both widths, both themes, names that
are attacks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from found import DISCS, NAMES, SIDE, disc, write_found

from genseg.data.instances.instance import filled
from genseg.reports.report import write_report
from genseg.show.draw import PALETTE
from genseg.show.page import Page, Section, render
from genseg.show.viewer import LONGEST, Picture, picture_data, viewer

VIEWER = "[data-viewer=found].viewer"
PIXEL = """([x, y, side]) => {
  const c = document.querySelector('.viewer canvas');
  const at = (n) => Math.round((n + .5) * c.width / side);
  return [...c.getContext('2d').getImageData(at(x), at(y), 1, 1).data].slice(0, 3); }"""
WHITE = """() => {
  const c = document.querySelector('.viewer canvas');
  const seen = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return seen.data.filter((v, i) => i % 4 === 0 && v > 235).length; }"""
GROUND, DISC = (40, 60, 20), (220, 210, 200)  # OpenCV has written blue first
GREY = (99, 99, 99)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_found(tmp_path_factory.mktemp("report")))


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Any]:
    """The report, opened from disk; it fails when the page has asked for anything else or its
    script has failed."""
    yield from opened(chromium, report, width=1280, height=900)


def opened(
    chromium: Any, report: Path, *, width: int, height: int, scheme: str = "light"
) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, asked, wrong = context.new_page(), [], []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.goto(report.as_uri())
    page.wait_for_selector(f"{VIEWER} .chips button")
    yield page
    assert asked == [report.as_uri()] and wrong == []
    context.close()


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait for a value. The page's policy forbids Playwright's own way to, which evaluates text in
    it."""
    end = time.monotonic() + 10
    while (got := read()) != wanted:
        assert time.monotonic() < end, (got, wanted)
        time.sleep(0.02)


def count(page: Any) -> str:
    return page.inner_text(f"{VIEWER} .count")


def pixel(page: Any, x: float, y: float) -> tuple[int, ...]:
    return tuple(page.evaluate(PIXEL, [x, y, SIDE]))


def at(page: Any, x: int, y: int) -> dict[str, float]:
    """A place in the image, as one within the canvas."""
    box = page.locator(f"{VIEWER} canvas").bounding_box()
    return {"x": (x + 0.5) * box["width"] / SIDE, "y": (y + 0.5) * box["height"] / SIDE}


def near(a: tuple[int, ...], b: tuple[int, ...], within: int = 14) -> bool:
    return max(abs(p - q) for p, q in zip(a, b, strict=True)) <= within


def test_the_slider_leaves_out_what_scores_less(page: Any) -> None:
    assert count(page) == "3 of 3 instances"
    y, x, *_ = DISCS[2]
    assert not near(pixel(page, x, y), DISC)
    page.fill(f"{VIEWER} .threshold", "0.6")
    assert count(page) == "2 of 3 instances" and near(pixel(page, x, y), DISC)
    page.focus(f"{VIEWER} .threshold")
    page.keyboard.press("End")
    assert count(page) == "0 of 3 instances"


def test_a_chip_and_a_click_hide_an_instance_and_show_it_again(page: Any) -> None:
    (y, x, *_), chip = DISCS[0], page.locator(f"{VIEWER} .chips button").first
    chip.click()
    assert count(page) == "2 of 3 instances" and chip.get_attribute("aria-pressed") == "false"
    page.mouse.move(5, 5)
    assert near(pixel(page, x, y), DISC)
    page.click(f"{VIEWER} canvas", position=at(page, x, y))
    assert count(page) == "3 of 3 instances" and not near(pixel(page, x, y), DISC)
    page.click(f"{VIEWER} .none")
    assert count(page) == "0 of 3 instances"
    page.click(f"{VIEWER} .all")
    assert count(page) == "3 of 3 instances"


def test_pointing_at_an_instance_names_it_and_its_chip(page: Any) -> None:
    y, x, _, score = DISCS[1]
    tip = page.locator(f"{VIEWER} .tip")
    assert tip.is_hidden()
    page.hover(f"{VIEWER} canvas", position=at(page, x, y))
    assert (
        tip.is_visible()
        and f"score {score:.2f}" in tip.inner_text()
        and tip.inner_text().startswith("disc")
    )
    assert page.locator(f"{VIEWER} .chips .near").count() == 1
    page.hover(f"{VIEWER} canvas", position=at(page, 3, 3))
    assert tip.is_hidden() and page.locator(f"{VIEWER} .chips .near").count() == 0


def test_soft_hard_cut_outs_and_the_image(page: Any) -> None:
    y, x, r, _ = DISCS[1]
    border, faint = (x + r, y), (x + r + 1, y)  # half of the alpha, and less than half
    soft = pixel(page, x, y)
    assert not near(soft, DISC) and near(pixel(page, 3, 3), GROUND)
    page.check(f"{VIEWER} [value=hard]", force=True)
    assert near(pixel(page, x, y), soft) and near(pixel(page, faint[0] + 2, y), GROUND)
    page.check(f"{VIEWER} [value=cut]", force=True)
    assert near(pixel(page, x, y), DISC)
    boards = {pixel(page, n, 3)[0] for n in range(0, 60, 3)}
    assert boards == {0xCD, 0xF5}
    assert not near(pixel(page, *border), GROUND)
    page.check(f"{VIEWER} [value=image]", force=True)
    assert near(pixel(page, x, y), DISC) and near(pixel(page, 3, 3), GROUND)


def test_all_of_it_by_keyboard(page: Any) -> None:
    strip = page.locator(f"{VIEWER} .strip button")
    strip.first.focus()
    page.keyboard.press("ArrowRight")
    until(lambda: page.inner_text(f"{VIEWER} .name"), NAMES[1])
    page.focus(f"{VIEWER} .chips button")
    assert page.locator(f"{VIEWER} .tip").is_visible()  # focus names it as the pointer does
    page.keyboard.press("Enter")
    assert count(page) == "2 of 3 instances"
    page.keyboard.press("Space")  # the focus has stayed
    assert count(page) == "3 of 3 instances"
    page.focus(f"{VIEWER} [value=soft]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked(f"{VIEWER} [value=hard]")


def test_names_from_users_are_text(page: Any) -> None:
    assert page.evaluate("window.harm") is None
    page.locator(f"{VIEWER} .strip button").nth(1).click()
    until(lambda: page.inner_text(f"{VIEWER} .name"), NAMES[1])
    assert "<b>cell</b>" in page.inner_text(f"{VIEWER} .chips") + page.inner_text(f"{VIEWER} .side")
    assert page.locator("b").count() == 0 and page.evaluate("document.scripts.length") == 2
    assert page.evaluate("window.harm") is None


def test_a_card_opens_its_image_and_nothing_jumps(page: Any) -> None:
    before = page.locator(f"{VIEWER} .panel").bounding_box()["height"]
    page.locator("#extremes .group .jump").first.click()  # the empty one
    until(lambda: page.inner_text(f"{VIEWER} .name"), "empty.png")
    assert count(page) == "0 of 0 instances"
    assert page.locator(f"{VIEWER} .panel").bounding_box()["height"] == before


def viewer_page(file: Path, *pictures: Picture) -> Path:
    """A page of one viewer."""
    data = [picture_data(p) for p in pictures]
    section = Section(
        "found", "Found", "Found", viewer("found", data, scored=True), "", {"pictures": data}
    )
    file.write_text(render(Page("a", "finished", "", [section])))
    return file


def test_boxes_are_lines_in_the_colour_of_their_class_under_its_name(
    chromium: Any, tmp_path: Path
) -> None:
    """Two boxes of two classes: nothing is veiled within, the name stands on its colour, no mode is
    of masks."""
    pixels = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    found = (
        replace(filled((20, 30, 60, 70), SIDE, SIDE, 0.9), category=0),
        replace(filled((80, 40, 120, 90), SIDE, SIDE, 0.8), category=1),
    )
    seen = Picture("boxes", pixels, found, ("red cell", "white cell"), soft=False, boxes=True)
    for page in opened(
        chromium, viewer_page(tmp_path / "report.html", seen), width=1280, height=900
    ):
        assert near(pixel(page, 40, 50), GREY) and near(pixel(page, 100, 70), GREY)
        assert near(pixel(page, 19.5, 50), PALETTE[0]) and near(
            pixel(page, 79.5, 70), PALETTE[1], 60
        )
        assert near(pixel(page, 19.9, 27.9), PALETTE[0])  # the name's ground, above the box
        assert page.locator(f"{VIEWER} .modes span").all_inner_texts() == ["Boxes", "Image"]
        assert "white cell 0.80" in page.inner_text(f"{VIEWER} .chips")
        page.check(f"{VIEWER} [value=image]", force=True)
        assert near(pixel(page, 19.5, 50), GREY)
        page.check(f"{VIEWER} [value=box]", force=True)
        # to the middle, between the boxes: no name is left of what is out of sight
        for _ in range(8):
            page.click(f"{VIEWER} [data-zoom=in]")
        ink = (
            "document.querySelector('.viewer canvas').getContext('2d').getImageData(0, 0, 40, "
            "400).data"
        )
        assert set(page.evaluate(f"[...{ink}].filter((v, i) => i % 4 < 3)")) == {99}


def test_zoom_by_wheel_drag_and_keyboard_keeps_what_is_pointed_at(page: Any) -> None:
    (y, x, *_), canvas = DISCS[1], page.locator(f"{VIEWER} canvas")
    zoom = f"document.querySelector('{VIEWER} canvas').getContext('2d').getTransform()"
    whole = page.evaluate(f"{zoom}.a")
    page.hover(f"{VIEWER} canvas", position=at(page, x, y))
    place = page.evaluate("[innerWidth, scrollY]")
    page.wait_for_timeout(400)  # the page has been scrolled to the picture
    page.mouse.wheel(0, -200)
    until(lambda: page.evaluate(f"{zoom}.a") > 1.2 * whole, True)
    assert (
        page.evaluate("[innerWidth, scrollY]") == place
        and page.locator(f"{VIEWER} .tip").is_hidden()
    )
    box, (scale, left, top) = (
        canvas.bounding_box(),
        page.evaluate(f"(() => {{ const t = {zoom}; return [t.a, t.e, t.f]; }})()"),
    )
    before = at_zoom = (box["x"] + scale * (x + 0.5) + left, box["y"] + scale * (y + 0.5) + top)
    page.mouse.move(*at_zoom)
    assert f"score {DISCS[1][3]:.2f}" in page.inner_text(f"{VIEWER} .tip")
    page.mouse.down()
    page.mouse.move(before[0] + 30, before[1] + 10, steps=4)
    page.mouse.up()
    moved = page.evaluate(f"(() => {{ const t = {zoom}; return [t.e, t.f]; }})()")
    # a drag hides nothing
    assert moved[0] >= left and moved != [left, top] and count(page) == "3 of 3 instances"
    page.focus(f"{VIEWER} [data-zoom=in]")
    page.keyboard.press("Enter")
    assert page.evaluate(f"{zoom}.a") == pytest.approx(1.5 * scale, rel=0.02)
    before = page.evaluate(f"{zoom}.e")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{zoom}.e") < before
    page.click(f"{VIEWER} [data-zoom=fit]")
    assert page.evaluate(f"{zoom}.a") == pytest.approx(whole, rel=0.01)


def test_the_wheel_scrolls_the_page_where_there_is_nothing_to_zoom_out_of(page: Any) -> None:
    page.hover(f"{VIEWER} canvas")
    page.wait_for_timeout(400)
    begun = page.evaluate("scrollY")
    page.mouse.wheel(0, 300)
    until(lambda: page.evaluate("scrollY") > begun, True)


def test_the_count_says_what_it_leaves_out_and_why(chromium: Any, tmp_path: Path) -> None:
    """Of 4 instances one is smaller than a pixel there, one scores less, one is hidden by hand."""
    side = 3 * LONGEST
    large = tuple(
        filled((500 * n, 90, 500 * n + 300, 400), side, side, score)
        for n, score in ((0, 0.9), (1, 0.8), (2, 0.3))
    )
    seen = Picture(
        "mosaic",
        np.full((side, side, 3), 99, np.uint8),
        (*large, filled((7, 7, 8, 8), side, side, 0.9)),
        soft=False,
    )
    for page in opened(
        chromium, viewer_page(tmp_path / "report.html", seen), width=1280, height=900
    ):
        page.fill(f"{VIEWER} .threshold", "0.5")
        page.locator(f"{VIEWER} .chips button").first.click()
        assert count(page) == "1 of 4 instances"
        assert (
            page.inner_text(f"{VIEWER} .why")
            == "1 too small to draw here; 1 score less than 0.50; 1 hidden by you"
        )


def test_a_dim_image_is_shown_bright_with_a_word(chromium: Any, tmp_path: Path) -> None:
    pixels = np.full((SIDE, SIDE, 3), 5, np.uint8)
    pixels[30:70, 30:70] = (40, 20, 10)
    file = viewer_page(tmp_path / "report.html", Picture("dim", pixels, (disc(50, 100, 9, 0.9),)))
    for page in opened(chromium, file, width=1280, height=900):
        assert page.inner_text(f"{VIEWER} .note") == "shown 6.4 times as bright"
        assert near(pixel(page, 50, 50), (255, 128, 64), 16)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_screen_by_day_and_by_night(
    chromium: Any, report: Path, width: int, scheme: str
) -> None:
    for page in opened(chromium, report, width=width, height=844, scheme=scheme):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        box = page.locator(f"{VIEWER} canvas").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] > 300
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        levels = [int(v) for v in ground.removeprefix("rgb(").removesuffix(")").split(",")]
        assert (sum(levels) > 600) == (scheme == "light")
        small = (
            "[...document.querySelectorAll('button, input, a, summary')].filter(e => "
            "e.offsetHeight && "
        )
        assert (
            page.evaluate(
                small + "e.offsetHeight < 24 && !e.closest('.skip')).map(e => e.outerHTML)"
            )
            == []
        )


def test_labels_are_lines_that_can_be_taken_away(chromium: Any, tmp_path: Path) -> None:
    """A found disc, and a labelled one that was not found; both as a fine-tuned model's report has
    them."""
    pixels = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    (y, x, r, score), (v, u, s, _), _ = DISCS
    truth = (disc(v, u, s, 1.0),)
    seen = Picture(
        "<b>one", pixels, (disc(y, x, r, score),), soft=False, truth=truth, note="0 of 1 <i>"
    )
    data = [picture_data(seen), picture_data(replace(seen, name="two", truth=(), note=""))]
    section = Section(
        "found", "Found", "Found", viewer("found", data, scored=True), "", {"pictures": data}
    )
    file = tmp_path / "report.html"
    file.write_text(render(Page("a", "finished", "", [section])))
    for page in opened(chromium, file, width=1280, height=900):
        assert (
            page.inner_text(f"{VIEWER} .note") == "0 of 1 <i>" and count(page) == "1 of 1 instance"
        )
        with_lines = page.evaluate(WHITE)
        # a line alone, nothing within
        assert with_lines > 100 and near(pixel(page, u, v), pixel(page, 3, 3))
        page.focus(f"{VIEWER} .truth input")
        page.keyboard.press("Space")
        assert page.evaluate(WHITE) < 0.02 * with_lines
        page.click(f"{VIEWER} .truth")
        assert page.evaluate(WHITE) == with_lines
        page.locator(f"{VIEWER} .strip button").nth(1).click()
        until(page.locator(f"{VIEWER} .name").inner_text, "two")
        assert (
            page.evaluate(WHITE) < 0.02 * with_lines and page.locator(f"{VIEWER} .note").is_hidden()
        )


def test_the_page_of_a_run_that_goes_on_reads_itself_again_until_it_is_held(
    chromium: Any, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    rows = "<p>row</p>" * 200
    context = chromium.new_context(viewport={"width": 800, "height": 600})
    page, opened_times = context.new_page(), []
    page.on("load", lambda _: opened_times.append(1))
    page.clock.install()
    file.write_text(
        render(Page("a", "running: 10 %", "first", [Section("x", "x", "x", rows)], running=True))
    )
    page.goto(file.as_uri())
    page.evaluate("scrollTo(0, 1500)")
    file.write_text(
        render(Page("a", "running: 20 %", "second", [Section("x", "x", "x", rows)], running=True))
    )
    with page.expect_navigation():
        page.clock.run_for(21_000)
    assert page.inner_text(".verdict") == "second" and abs(page.evaluate("scrollY") - 1500) < 3
    page.click("#hold")
    page.clock.run_for(60_000)
    page.wait_for_timeout(0)
    assert len(opened_times) == 2 and page.get_attribute("#hold", "aria-pressed") == "true"
    context.close()
