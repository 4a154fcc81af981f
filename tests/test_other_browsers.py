"""The pages in Safari's engine, where it is installed, and in Chromium with what Safari and Firefox do differently."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import trace
from minidl.handwriting import page as drawing
from minidl.pages import html
from tests.browser import browser, saved, view, webkit
from tests.commands import ROOT, tiny_dataset, train
from tests.test_draw_page import THREE, draw, facts, networks, open_page
from tests.test_trace_browser import settle, shown_step, visit, wait_for_replay

pytestmark = pytest.mark.browser
PIXELS = "return [...page.sheet.pixels()]"
HEADING = "return getComputedStyle(document.querySelector('h3')).breakAfter"  # "avoid": what follows is on its sheet


@pytest.fixture(scope="module", params=["chromium", "webkit"])
def each(request) -> Iterator[Any]:
    """A browser of each engine."""
    with browser() if request.param == "chromium" else webkit() as found:
        yield found


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> Path:
    """The page of a run of some steps."""
    folder = tmp_path_factory.mktemp("replay")
    args = ["--dataset", tiny_dataset(folder / "data", images=160), "--model", "mlp", "--epochs", 4]
    args += ["--batch-size", 16, "--switch", "step:15", "--out", folder / "run", "--trace", folder / "replay.html"]
    status, output = train(*args, log=folder / "log")
    assert status == 0, output
    return folder / "replay.html"


def pointer(browser: Any, *places: tuple[float, float], button: int = 0, released: bool = True) -> None:
    """Press a button of the mouse at the first place, and move it to the others."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    actions = ActionBuilder(browser, mouse=PointerInput("mouse", "mouse"), duration=10)
    for k, (x, y) in enumerate(places):
        actions.pointer_action.move_to_location(round(x), round(y))
        if k == 0 and button >= 0:
            actions.pointer_action.pointer_down(button)
    if button >= 0 and released:
        actions.pointer_action.pointer_up(button)
    actions.perform()


def box(browser: Any, selector: str) -> tuple[float, float, float, float]:
    script = "const b = document.querySelector(arguments[0]).getBoundingClientRect()"
    return tuple(browser.execute_script(f"{script}; return [b.left, b.top, b.width, b.height]", selector))


def test_a_key_that_is_held_changes_the_address_once(each, replay):
    """Safari raises an error after a hundred changes in ten seconds, Firefox after two hundred."""
    visit(each, replay)
    script = """const real = history.replaceState; window.changes = 0;
      history.replaceState = function (...args) { window.changes++; return real.apply(this, args); };
      for (let k = 0; k < 130; k++) replay.jump(k % 3 ? 1 : -1);"""
    each.execute_script(script)
    settle(each)
    assert each.execute_script("return replay.state.step") == shown_step(each) > 1
    assert each.current_url.endswith(f"#step={shown_step(each)}")
    assert each.execute_script("return window.changes") < 5


def test_an_address_that_is_typed_is_not_replaced_by_the_step_before(each, replay):
    visit(each, replay)
    each.execute_script("replay.go(2); replay.actions(0).weight(7); location.hash = '#step=9&weight=3'")
    settle(each)
    assert each.current_url.endswith("#step=9&weight=3")
    assert each.execute_script("return [replay.state.step, replay.views[0].weight]") == [9, 3]
    each.execute_script("replay.go(2); replay.actions(0).weight(7); replay.go(3)")
    settle(each)
    assert each.current_url.endswith("#step=3&weight=7")


@pytest.mark.parametrize("panel", ["network", "filters"])
def test_a_click_in_a_lecture_chooses_the_weight_it_is_on(each, replay, panel):
    """Safari gives the place on the page of what is enlarged in pixels that are not the screen's."""
    visit(each, replay)
    each.execute_script("document.body.style.padding = '100vh 0'")  # so that it scrolls
    each.execute_script("replay.lecture.toggle(); replay.lecture.show(arguments[0])", panel)
    if each.name == "chrome":  # as Safari
        script = """const real = Element.prototype.getBoundingClientRect;
          Element.prototype.getBoundingClientRect = function () {
            const { x, y, width, height } = real.call(this), section = this.closest('section');
            const z = section ? Number(getComputedStyle(section).zoom) : 1;
            return new DOMRect((x + scrollX) / z - scrollX, (y + scrollY) / z - scrollY, width / z, height / z);
          };"""
        each.execute_script(script)
    selector = {"network": "canvas.pick", "filters": "canvas.filter"}[panel]
    script = """const node = document.querySelector(arguments[0]), places = [];
      node.scrollIntoView({ block: 'center' });
      for (let x = 0; x < innerWidth; x += 2)
        for (let y = 0; y < innerHeight; y += 2) if (document.elementFromPoint(x, y) === node) places.push([x, y]);
      return places;"""
    places = np.array(each.execute_script(script, selector))
    assert each.execute_script("return scrollY") > 100
    low, high = places.min(0), places.max(0)
    marker = "return (() => { const m = document.querySelector(arguments[0]).parentNode.querySelector('.marker');"
    marker += "return m && [m.style.left, m.style.top].map(parseFloat); })()"
    for share in ((0.1, 0.2), (0.8, 0.7)):
        pointer(each, tuple(low + share * (high - low)))
        found = each.execute_script(marker, selector)
        assert found is not None
        assert np.abs(np.array(found) / 100 - share).max() < 0.13


def test_in_a_lecture_of_two_runs_no_image_leaves_its_card(each, replay, tmp_path):
    trace.write(tmp_path / "both.html", trace.page(trace.read(replay) * 2))
    visit(each, tmp_path / "both.html")
    each.execute_script("replay.lecture.toggle(); replay.lecture.show('network')")
    script = """return [...document.querySelectorAll('.card canvas')].map((node) =>
      node.closest('.card').getBoundingClientRect().right - node.getBoundingClientRect().right)"""
    assert min(each.execute_script(script)) >= 0


def test_only_a_pressed_left_button_moves_along_the_timeline(each, replay):
    visit(each, replay)
    while not each.find_elements("css selector", "#timeline svg"):
        time.sleep(0.02)
    left, top, width, height = box(each, "#timeline svg")
    at = [(left + share * width, top + height / 3) for share in (0.3, 0.5, 0.7)]
    pointer(each, *at)
    reached = shown_step(each)
    assert reached > 1
    pointer(each, *at[:2], button=-1)
    if each.name == "chrome":  # elsewhere it opens a menu that stays
        pointer(each, *at[:2], button=2)
    assert shown_step(each) == reached
    assert each.execute_script("return String(getSelection())") == "", "a drag selects no words"


def test_a_finger_that_scrolls_does_not_leave_the_timeline_dragged(chrome, replay):
    visit(chrome, replay)
    view(chrome, 390, 500)
    try:
        left, top, width, height = box(chrome, "#timeline svg")
        x, y = left + width / 2, top + height / 3
        for kind, down in (("touchStart", 0), *(("touchMove", k) for k in range(10, 90, 10)), ("touchEnd", None)):
            points = [] if down is None else [{"x": x, "y": y - down}]
            chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        time.sleep(0.2)
        assert chrome.execute_script("return scrollY") > 0
        before = shown_step(chrome)
        chrome.execute_script("scrollTo(0, 0)")
        pointer(chrome, (x, y), (left + width * 0.8, y), button=-1)
        assert shown_step(chrome) == before
    finally:
        view(chrome, 1280)


def test_a_step_that_is_no_number_leaves_the_page_where_it_is(each, replay):
    from selenium.webdriver.common.keys import Keys

    visit(each, replay, "#step=9")
    for keys in ((Keys.CONTROL, "a", Keys.NULL), (Keys.BACKSPACE,), (Keys.ENTER,), (Keys.TAB,)):
        each.find_element("id", "step").send_keys(*keys)
    assert shown_step(each) == 9
    assert each.execute_script("return document.getElementById('step').value") == "9"


def test_a_drawing_is_seen_where_a_canvas_can_t_be_read(each, tmp_path):
    """Browsers that hide who you are return noise, so that no one is known by how their machine draws."""
    (tmp_path / "page.html").write_text(drawing.page([facts(networks()["mlp"], (11, 9))]), encoding="utf-8")
    open_page(each, tmp_path / "page.html")
    noise = """CanvasRenderingContext2D.prototype.getImageData = (x, y, w, h) =>
      new ImageData(Uint8ClampedArray.from({ length: 4 * w * h }, () => 256 * Math.random()), w, h);"""
    each.execute_script(noise)
    draw(each, THREE)
    image = np.array(each.execute_script(PIXELS)).reshape(11, 9)
    assert image.max() == 1
    assert image[0, 0] == image[-1, -1] == 0
    assert each.execute_script("return String(getSelection())") == ""


def test_a_finger_is_not_kept_from_the_page(each, tmp_path):
    """If one finger's event is prevented, Firefox keeps those of all others. And nothing is selected without that."""
    from selenium.webdriver import ActionChains

    (tmp_path / "page.html").write_text(drawing.page([facts(networks()["mlp"], (11, 9))]), encoding="utf-8")
    open_page(each, tmp_path / "page.html")
    each.execute_script("addEventListener('pointerdown', (event) => { window.prevented = event.defaultPrevented; })")
    left, top, width, height = box(each, "#sheet")
    pointer(each, (left + 9, top + 9), (left + width / 2, top + height / 2), (left + width + 90, top + height + 30))
    assert each.execute_script("return window.prevented") is False
    ActionChains(each).double_click(each.find_element("id", "sheet")).perform()
    assert each.execute_script("return page.sheet.strokes.length") == 3
    assert each.execute_script("return String(getSelection())") == ""


def test_the_ink_of_a_line_is_its_area(each, tmp_path):
    """Of a line of width 2.3 and length 4 with round ends, at any angle; ink on ink counts once."""
    page = facts(networks()["mlp"], (11, 9))
    (tmp_path / "page.html").write_text(drawing.page([page]), encoding="utf-8")
    open_page(each, tmp_path / "page.html")
    area = 2.3 * 4 + np.pi * 2.3**2 / 4
    script = "page.sheet.strokes = arguments[0]; " + PIXELS
    for angle in (0, 0.5, 1.2):
        step = 2 / 9 * np.array([np.cos(angle), np.sin(angle)])
        ends = [(0.5 - step).tolist(), (0.5 + step).tolist()]
        for strokes in ([ends], [[*ends, *ends]], [ends, ends]):
            image = np.array(each.execute_script(script, strokes))
            assert image.sum() == pytest.approx(area, rel=2e-3)
            assert 0 <= image.min() <= image.max() <= 1 + 1e-9
    dot = np.array(each.execute_script(script, [[[0.5, 0.5]]]))
    assert dot.sum() == pytest.approx(np.pi * 2.3**2 / 4, rel=5e-3)


def test_the_names_of_many_curves_stay_on_the_page(each, tmp_path):
    legend = {f"{letter} a run with a name": "run-0" for letter in "ABCDEFGH"}
    figures = html.figures(html.figure("<svg viewBox='0 0 420 250'></svg>", "loss", legend))
    (tmp_path / "page.html").write_text(html.page("compare", "Runs", "", [figures]), encoding="utf-8")
    each.get((tmp_path / "page.html").as_uri())
    assert each.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    script = "return [...document.querySelectorAll('.key + .key')].map((key) => key.previousSibling.data)"
    assert each.execute_script(script) == [" "] * 7, "Firefox begins a new line only where there is a space"


def test_on_paper_nothing_is_in_a_grid_that_is_longer_than_a_sheet(chrome, replay, tmp_path):
    """At the end of a sheet Firefox loses the rest of a chart that is inside a grid inside a grid."""
    both = trace.read(replay) * 2
    trace.write(tmp_path / "both.html", trace.page(both))
    visit(chrome, tmp_path / "both.html")
    script = """return [...document.querySelectorAll('section')].flatMap((node) => {
      const found = [];
      for (let up = node; (up = up.parentElement);) found.push(getComputedStyle(up).display);
      return found.filter((display) => display !== 'block');
    })"""
    assert chrome.execute_script(script) != []
    try:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert chrome.execute_script(script) == []
        assert chrome.execute_script(HEADING) == "avoid"
        figures = html.section("Mistakes", html.image("data:,", "an image", "its caption"))
        (tmp_path / "report.html").write_text(html.page("report", "A run", "", [figures]), encoding="utf-8")
        chrome.get((tmp_path / "report.html").as_uri())
        script = "return getComputedStyle(document.querySelector('figure')).breakInside"
        assert chrome.execute_script(script) == "avoid", "a caption stays with its image"
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_column_of_the_study_is_cut_off_on_paper(chrome):
    report = ROOT / "tutorials" / "study" / "report.html"
    style = re.compile(r"<style>.*?</style>", re.DOTALL)
    template = (ROOT / "minidl" / "study" / "report.html.j2").read_text(encoding="utf-8")
    assert style.findall(report.read_text(encoding="utf-8"))[0] == style.findall(template)[0]
    view(chrome, 700)
    try:
        chrome.get(report.as_uri())
        chrome.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        ends = "return [...document.querySelectorAll('table')].map((each) => each.getBoundingClientRect().right)"
        assert max(chrome.execute_script(ends)) > 700  # there it scrolls
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert max(chrome.execute_script(ends)) <= 700
        assert chrome.execute_script(HEADING) == "avoid"
        overflow = "return getComputedStyle(document.querySelector('.scroll')).overflowX"
        assert chrome.execute_script(overflow) == "visible"
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        view(chrome, 1280)


@pytest.mark.parametrize("keys", ["l", "g", "l2g", " "])
def test_a_page_that_was_saved_in_a_lecture_or_a_tour_or_while_playing_begins_anew(each, replay, tmp_path, keys):
    visit(each, replay)
    for key in keys:
        each.find_element("css selector", "body").send_keys(key)
    each.get(saved(each, tmp_path / "saved.html"))
    wait_for_replay(each)
    script = """const shown = (id) => document.getElementById(id).getClientRects().length > 0;
      return [[...document.querySelectorAll('main section')].filter((node) => node.getClientRects().length).length,
        shown('tour'), document.getElementById('play').textContent,
        document.querySelectorAll('header [aria-pressed="true"]').length]"""
    assert each.execute_script(script) == [5, False, "play", 0]
    each.find_element("id", "lecture").click()
    assert each.execute_script(script)[0] == 1


def test_a_replay_is_unpacked(each, replay):
    visit(each, replay)
    (recording,) = trace.read(replay)
    last = f"step 1 of {recording['last']} (1 of {len(recording['frames'])} recorded), adam"
    assert each.find_element("id", "status").text == last
