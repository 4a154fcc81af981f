"""The replay page in a real browser, without a network: keys, buttons, and numbers that are the recorder's."""

import math
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import trace
from tests.browser import console, saved, view
from tests.commands import tiny_dataset, train

pytestmark = pytest.mark.browser
MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(rf"{MINUS}?\d[\d,.]*(?:·10\^{MINUS}?\d+)?")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The pages of a run of mlp and one of cnn that switch, of an mlp that does not, and of two side by side."""
    folder = tmp_path_factory.mktemp("pages")
    data = tiny_dataset(folder / "data", images=160)
    for name, *args in (
        ("mlp", "--model", "mlp", "--switch", "swats:rtol=0.5 & step:15", "--lr-after", "projected"),
        ("cnn", "--model", "cnn", "--switch", "plateau:patience=1 | epoch:2"),
        ("adam", "--model", "mlp", "--opt", "adam"),
        ("blind", "--model", "mlp", "--opt", "adam", "--val-fraction", "0", "--schedule", "onecycle"),
        ("swats", "--model", "mlp", "--opt", "swats", "--switch", "swats:rtol=0.5"),
        ("gnmt", "--model", "mlp", "--opt", "gnmt"),
        ("failed", "--model", "mlp", "--opt", "sgd", "--lr", "1e19"),
    ):
        own = ["--dataset", data, "--epochs", 4, "--batch-size", 16, "--out", folder / name]
        status, output = train(*own, *args, "--trace", folder / f"{name}.html", log=folder / "log")
        assert status == (name == "failed"), output
    both = trace.read(folder / "mlp.html") + trace.read(folder / "adam.html")
    trace.write(folder / "both.html", trace.page(both))
    return folder


def visit(chrome: Any, page: Path, fragment: str = "") -> None:
    """Open the page from its file and wait until it is unpacked."""
    chrome.get("about:blank")
    chrome.get(page.as_uri() + fragment)
    wait_for_replay(chrome)


def wait_for_replay(chrome: Any) -> None:
    """Until the page, or the frame that was switched to, is unpacked."""
    end = time.monotonic() + 60
    while not chrome.execute_script("return !!window.replay"):
        assert time.monotonic() < end, chrome.find_element("id", "main").text
        time.sleep(0.02)


def press(chrome: Any, *keys: str) -> None:
    chrome.switch_to.active_element.send_keys(*keys)


def settle(chrome: Any) -> None:
    """Until the address says where the page is."""
    end = time.monotonic() + 20
    while not chrome.execute_script("return location.hash === `#${replay.address}`"):
        assert time.monotonic() < end, chrome.current_url
        time.sleep(0.02)


def shown_step(chrome: Any) -> int:
    """The step that the status line tells."""
    words = chrome.find_element("id", "status").text
    return int(re.match(r"step ([\d,]+) of", words)[1].replace(",", ""))


def parsed(cell: str) -> float:
    """A number as the page prints it: 0.00123457, or 1.23457·10^7."""
    mantissa, _, exponent = cell.replace(MINUS, "-").replace(",", "").partition("·10^")
    return float(mantissa) * 10.0 ** float(exponent or 0) if exponent else float(mantissa)


def near(shown: float, value: float) -> bool:
    """Equal to six digits: what is shown is the value, rounded."""
    return shown == value or abs(shown - value) <= 0.5000001e-5 * 10 ** math.floor(math.log10(abs(value) or 1e-99))


def lens(chrome: Any, step: int, weight: int) -> dict[str, tuple[float, str]]:
    """Go to this step and weight by the address; what then stands there: symbol -> number and formula with numbers."""
    script = """const done = arguments[arguments.length - 1];
      const text = (node) => !node ? '' : node.nodeType === 3 ? node.data
        : (node.tagName === 'SUP' ? '^' : '') + [...node.childNodes].map(text).join('');
      const read = () => done([document.getElementById('status').textContent,
        [...document.querySelectorAll('.terms tr[data-symbol]')].map((tr) =>
          [tr.dataset.symbol, text(tr.querySelector('.value')), text(tr.querySelector('.numbers'))])]);
      if (location.hash === arguments[0]) read();
      else { addEventListener('hashchange', () => setTimeout(read), { once: true }); location.hash = arguments[0]; }"""
    status, rows = chrome.execute_async_script(script, f"#step={step}&weight={weight}")
    assert status.startswith(f"step {step} of")
    return {symbol: (parsed(value), numbers) for symbol, value, numbers in rows}


# ---- stepping ----


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_keys_and_buttons_step_through_the_run(chrome, pages, name):
    from selenium.webdriver.common.keys import Keys

    (recording,) = trace.read(pages / f"{name}.html")
    steps, switch = [f["step"] for f in recording["frames"]], recording["switch"]["event"]["step"]
    visit(chrome, pages / f"{name}.html")
    assert shown_step(chrome) == 1
    for k in range(1, len(steps)):
        press(chrome, Keys.ARROW_RIGHT)
        assert shown_step(chrome) == steps[k]
    settle(chrome)
    assert chrome.current_url.endswith(f"#step={steps[-1]}")
    press(chrome, Keys.ARROW_RIGHT)
    assert shown_step(chrome) == steps[-1]
    press(chrome, Keys.SHIFT, Keys.ARROW_LEFT, Keys.NULL)
    assert shown_step(chrome) == steps[-11]
    press(chrome, "s")
    assert shown_step(chrome) == switch + 1
    assert chrome.find_element("css selector", ".facts.now").text.split("phase\n")[1].startswith("sgd")
    press(chrome, "s")
    assert shown_step(chrome) == switch
    assert chrome.find_element("css selector", ".facts.now").text.split("phase\n")[1].startswith("adam")
    for button, step in (("first", steps[0]), ("forward", steps[1]), ("back", steps[0]), ("last", steps[-1])):
        chrome.find_element("id", button).click()
        assert shown_step(chrome) == step
    chrome.find_element("id", "first").click()
    chrome.find_element("id", "play").click()
    end = time.monotonic() + 60
    while shown_step(chrome) < steps[2]:
        assert time.monotonic() < end
        time.sleep(0.05)
    chrome.find_element("id", "play").click()
    assert console(chrome) == []


def test_a_run_without_validation_is_shown_too(chrome, pages):
    from selenium.webdriver.common.keys import Keys

    visit(chrome, pages / "blind.html")
    press(chrome, Keys.END)
    facts = chrome.find_element("css selector", ".facts.now").text
    assert "phase" in facts
    assert "validation accuracy" not in facts
    assert chrome.find_elements("css selector", "circle.accuracy") == []
    assert console(chrome) == []


def test_the_address_leads_to_a_step_and_a_weight(chrome, pages):
    visit(chrome, pages / "mlp.html", "#step=16&weight=3")
    assert shown_step(chrome) == 16
    (recording,) = trace.read(pages / "mlp.html")
    name = chrome.find_element("css selector", ".weight-name").text
    grid = recording["weights"][0]
    assert name == f"{grid['name']}[{grid['outputs'][0]}, {grid['inputs'][3]}]"


def test_the_stages_go_forward_through_the_layers_and_back(chrome, pages):
    visit(chrome, pages / "cnn.html")
    (recording,) = trace.read(pages / "cnn.html")
    n, seen = len(recording["layers"]), []
    for _ in range(2 * n + 3):
        seen.append(chrome.find_element("css selector", ".walk span").text.split(": ", 1)[1])
        press(chrome, "j")
    kinds = [layer["kind"] for layer in recording["layers"]]
    assert [words.split(": ")[1] for words in seen[1 : n + 1]] == kinds
    assert [words.split(": ")[1] for words in seen[n + 2 : 2 * n + 2]] == kinds[::-1]
    assert "moves every weight" in seen[-1]
    assert console(chrome) == []


# ---- the lens ----


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_lens_shows_the_recorders_numbers(chrome, pages, name):
    """50 random weights at random steps, half of them before the switch and half after."""
    (recording,) = trace.read(pages / f"{name}.html")
    switch, rng = recording["switch"]["event"]["step"], random.Random(5)
    before = [f for f in recording["frames"] if f["step"] <= switch]
    after = [f for f in recording["frames"] if f["step"] > switch]
    n = sum(len(w["outputs"]) * len(w["inputs"]) for w in recording["weights"])
    visit(chrome, pages / f"{name}.html")
    compared = set()
    for k in range(50):
        frame, weight = rng.choice(before if k % 2 else after), rng.randrange(n)
        shown = lens(chrome, frame["step"], weight)
        assert shown.keys() == {t["symbol"] for t in frame["terms"]}
        values = {
            t["symbol"]: float(t["value"] if np.ndim(t["value"]) == 0 else t["value"][weight]) for t in frame["terms"]
        }
        for term in frame["terms"]:
            number, formula = shown[term["symbol"]]
            assert near(number, values[term["symbol"]]), (frame["step"], weight, term["symbol"])
            inside = [parsed(x) for x in NUMBER.findall(formula.replace("· ", "* "))]
            for symbol in set(re.findall(r"[A-Za-z_]\w*", term["formula"])) - {"sqrt", "exp", "t"}:
                assert any(near(abs(x), abs(values[symbol])) for x in inside), (formula, symbol)
            compared.add(term["symbol"])
    assert {"m", "v", "mhat", "vhat", "p", "w", "mu"} <= compared
    assert ("Lambda" in compared) == (name == "mlp")
    assert console(chrome) == []


def test_a_click_puts_a_weight_under_the_lens(chrome, pages):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    visit(chrome, pages / "cnn.html")
    canvas = chrome.find_element("css selector", "canvas.pick")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width, height = canvas.size["width"], canvas.size["height"]
    x, y = int(width * (2.5 / 9 - 0.5)), int(height * (5.5 / 16 - 0.5))  # the third input of the sixth filter
    ActionChains(chrome).move_to_element_with_offset(canvas, x, y).click().perform()
    assert chrome.find_element("css selector", ".weight-name").text == "0.weight[5, 0, 0, 2]"
    press(chrome, Keys.TAB)
    chrome.find_element("css selector", "canvas.pick").send_keys(Keys.ARROW_DOWN)
    assert chrome.find_element("css selector", ".weight-name").text == "0.weight[6, 0, 0, 2]"
    press(chrome, Keys.ARROW_RIGHT)  # the picture keeps the focus
    assert chrome.find_element("css selector", ".weight-name").text == "0.weight[6, 0, 1, 0]"
    assert shown_step(chrome) == 1
    filters = chrome.find_elements("css selector", "canvas.filter")
    assert len(filters) == 16
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", filters[3])
    ActionChains(chrome).move_to_element(filters[3]).click().perform()
    assert chrome.find_element("css selector", ".weight-name").text == "0.weight[3, 0, 1, 1]"


# ---- the switch, two runs, looks ----


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_switch_panel_agrees_with_the_summary(chrome, pages, name):
    import json

    event = json.loads((pages / name / "summary.json").read_text())["switch"]
    visit(chrome, pages / f"{name}.html", f"#step={event['step']}")
    panel = {k: chrome.find_element("id", f"switch-{k}-0").text for k in ("step", "epoch", "rate", "condition")}
    assert int(panel["step"]) == event["step"]
    assert int(panel["epoch"]) == event["epoch"]
    assert f"epochs finished\n{event['epoch']}\n" in chrome.find_element("css selector", ".switch .facts").text
    assert near(float(panel["rate"]), event["lr"])
    assert panel["condition"] == event["condition"]
    (recording,) = trace.read(pages / f"{name}.html")
    words = {h["step"]: h["words"] for h in recording["history"]}
    assert chrome.find_element("css selector", ".standing b").text == words[event["step"]]
    charts = chrome.find_elements("css selector", ".switch .chart svg")
    assert (
        len(charts) == {"mlp": 2, "cnn": 3}[name]
    )  # gamma, arrows; plateau, its metric, arrows; none that only counts
    assert console(chrome) == []


def test_the_story_of_a_switch_says_of_momentum_what_the_rule_has(chrome, pages):
    """SWATS has one, under another name than SGD's; GNMT's SGD has none."""
    (recording,) = trace.read(pages / "swats.html")
    event, lambdas = recording["switch"]["event"], recording["switch"]["projection"]["lambda"]
    assert near(event["lr"], 0.1 * lambdas[event["step"] - 1])
    visit(chrome, pages / "swats.html")
    told = [p.text for p in chrome.find_elements("css selector", ".moral")]
    assert f"to be multiplied by 1 {MINUS} μ = 0.1" in told[1]
    assert "since its momentum starts at zero" in told[0]
    visit(chrome, pages / "gnmt.html")
    told = [p.text for p in chrome.find_elements("css selector", ".moral")]
    assert re.search(r"here 0.5 · \S+ = ", told[0])
    assert "momentum" not in "".join(told)


def test_the_words_above_the_timeline_do_not_lie_on_each_other(chrome, pages, tmp_path):
    """A switch after the last step, and two runs that switch at the same step."""
    (run,) = trace.read(pages / "mlp.html")
    late = {**run, "switch": {**run["switch"], "event": {**run["switch"]["event"], "step": run["last"]}}}
    for runs in ([late], [run, run], [late, late]):
        trace.write(tmp_path / "page.html", trace.page(runs))
        visit(chrome, tmp_path / "page.html")
        found = chrome.execute_script(  # all at once: the page may draw the timeline again in between
            "return [...document.querySelectorAll('#timeline .switch-label, #timeline .accuracy-label')]"
            ".map(word => [word.textContent, word.getBoundingClientRect().toJSON()])"
        )
        words, boxes = [word for word, _ in found], [box for _, box in found]
        assert sum(word.startswith("switch") for word in words) == len(runs)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                beside = a["x"] >= b["x"] + b["width"] or b["x"] >= a["x"] + a["width"]
                assert beside or abs(a["y"] - b["y"]) > 8, words


def test_a_run_of_one_step_has_one(chrome, pages, tmp_path):
    (run,) = trace.read(pages / "adam.html")
    one = {"last": 1, "loss": run["loss"][:1], "lr": run["lr"][:1], "frames": run["frames"][:1], "epochs": []}
    trace.write(tmp_path / "page.html", trace.page([{**run, **one}]))
    visit(chrome, tmp_path / "page.html")
    assert chrome.find_element("id", "status").text == "step 1 of 1 (1 of 1 recorded), adam"
    assert console(chrome) == []


def test_settings_that_hold_others_are_written_out(chrome, pages, tmp_path):
    """As the hashes of a user's files, and the run that another began from."""
    a, b = trace.read(pages / "both.html")
    b["config"] |= {"files": {"my_net.py": "e3c71b"}, "parent": {"run": "first", "epochs": 2, "steps": 16}}
    trace.write(tmp_path / "both.html", trace.page([a, b]))
    visit(chrome, tmp_path / "both.html")
    told = chrome.find_element("css selector", ".differences").text
    assert "my_net.py e3c71b" in told
    assert "run first, epochs 2, steps 16" in told
    about = chrome.find_element("css selector", ".run-1 .about").get_attribute("textContent")
    assert "my_net.py e3c71b" in about
    assert "object Object" not in about + told


def test_two_runs_step_together(chrome, pages):
    from selenium.webdriver.common.keys import Keys

    a, b = trace.read(pages / "both.html")
    visit(chrome, pages / "both.html")
    recorded = [{f["step"] for f in r["frames"]} for r in (a, b)]
    common, alone = sorted(recorded[0] & recorded[1]), min(recorded[0] - recorded[1])
    for step in (s for s in common[1:] if s < 30):
        press(chrome, Keys.ARROW_RIGHT)  # both stand at the same step
        assert shown_step(chrome) == step
        assert chrome.find_elements("css selector", "article > .notice") == []
    visit(chrome, pages / "both.html", f"#step={alone}")  # a step of A alone can be asked for
    earlier = max(step for step in recorded[1] if step < alone)
    notices = [n.text for n in chrome.find_elements("css selector", ".run-1 > .notice")]
    assert notices == [f"Showing step {earlier}, the nearest recorded before {alone}."]
    press(chrome, Keys.ARROW_LEFT)
    assert shown_step(chrome) == max(step for step in common if step < alone)
    visit(chrome, pages / "both.html", f"#step={alone}")
    press(chrome, Keys.ARROW_RIGHT)
    assert shown_step(chrome) == min(step for step in common if step > alone)
    titles = [h.text for h in chrome.find_elements("css selector", "article h2")]
    assert titles == [f"A {a['title']}", f"B {b['title']}"]
    assert console(chrome) == []


@pytest.mark.parametrize("name", ["mlp", "cnn", "both"])
def test_it_fits_every_width_in_light_and_dark(chrome, pages, name):
    def is_dark() -> bool:
        ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", ground))) < 200

    visit(chrome, pages / f"{name}.html", "#step=20")
    try:
        for width, dark in ((390, False), (390, True), (768, False), (1280, True), (1280, False)):
            view(chrome, width, 900, dark)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
            assert is_dark() == dark
        press(chrome, "t")
        assert is_dark()
        view(chrome, 1280, 900, True)  # what was chosen by hand stays
        press(chrome, "t")
        assert not is_dark()
        assert console(chrome) == []
    finally:
        view(chrome, 1280)


def test_a_keyboard_reaches_everything_and_a_reader_hears_it(chrome, pages):
    from selenium.webdriver.common.keys import Keys

    visit(chrome, pages / "mlp.html")
    reached = []
    for _ in range(90):
        press(chrome, Keys.TAB)
        active = chrome.switch_to.active_element
        reached.append(active.get_attribute("aria-label") or active.text or active.get_attribute("id"))
        assert chrome.execute_script("return document.activeElement.matches(':focus-visible')")
        if "What was recorded" in (reached[-1] or ""):
            break
    for name in (
        "Step forward",
        "switch",
        "step",
        "Next stage",
        "Next weight",
        "What was recorded, and what was left out",
    ):
        assert name in reached, reached
    assert any("arrow keys choose a weight" in (name or "") for name in reached)
    status = chrome.find_element("id", "status")
    assert (status.get_attribute("aria-live"), status.get_attribute("role")) == ("polite", "status")
    unnamed = """return [...document.querySelectorAll('button, select, input, canvas, svg[role=img]')].filter((node) =>
      !(node.getAttribute('aria-label') || node.textContent.trim() || (node.labels && node.labels.length))).length"""
    assert chrome.execute_script(unnamed) == 0
    levels = chrome.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4,h5')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1, "a level of headings is left out"
    summary = chrome.find_element("css selector", ".about summary")  # it has the focus
    summary.send_keys(Keys.SPACE)
    assert chrome.find_element("css selector", ".about").get_attribute("open")
    assert chrome.find_element("id", "play").text == "play"
    press(chrome, "?")
    assert chrome.find_element("id", "keys").is_displayed()
    assert console(chrome) == []


def test_a_step_that_was_not_recorded_is_not_left_in_the_field(chrome, pages):
    from selenium.webdriver.common.keys import Keys

    (recording,) = trace.read(pages / "mlp.html")
    steps = [frame["step"] for frame in recording["frames"]]
    missing = next(step for step in range(1, steps[-1]) if step not in steps)
    visit(chrome, pages / "mlp.html")
    field = chrome.find_element("id", "step")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, str(missing), Keys.ENTER, Keys.TAB)
    assert shown_step(chrome) in steps
    assert int(field.get_attribute("value")) == shown_step(chrome)


def test_a_long_run_and_a_loss_that_explodes_have_a_timeline(chrome, pages, tmp_path):
    (run,) = trace.read(pages / "mlp.html")
    steps = 200_000  # more than a function takes as arguments
    losses = np.geomspace(10, 1e33, steps)
    long = {**run, "last": steps, "loss": losses, "lr": np.full(steps, 0.01)}
    trace.write(tmp_path / "page.html", trace.page([long]))
    visit(chrome, tmp_path / "page.html")
    labels = [each.text for each in chrome.find_elements("css selector", "#timeline .loss-label")]
    assert labels == ["10", "1·10¹²", "1·10²³", "loss"]
    assert console(chrome) == []


def test_no_step_is_cut_off_at_the_end_of_an_axis(chrome, pages, tmp_path):
    (run,) = trace.read(pages / "swats.html")
    gamma = np.full(100_000, 0.1)
    last = {"gamma": gamma, "lambda": gamma, "tolerance": gamma, "compared": None}
    long = {**run, "last": len(gamma), "loss": gamma, "lr": gamma, "switch": {**run["switch"], "projection": last}}
    trace.write(tmp_path / "page.html", trace.page([long]))
    visit(chrome, tmp_path / "page.html")
    over = """const right = (node) => node.getBoundingClientRect().right;
      return [...document.querySelectorAll('.chart svg')].map(
        (svg) => Math.max(...[...svg.querySelectorAll('text')].map(right)) - right(svg))"""
    assert max(chrome.execute_script(over)) <= 0.5


def test_a_run_that_failed_can_be_looked_at_to_its_last_step(chrome, pages):
    from selenium.webdriver.common.keys import Keys

    (recording,) = trace.read(pages / "failed.html")
    visit(chrome, pages / "failed.html")
    assert "training diverged at step" in chrome.find_element("css selector", ".ending").text
    press(chrome, Keys.END)
    assert shown_step(chrome) == recording["frames"][-1]["step"]
    assert "No update: the loss of this step was not finite." in chrome.find_element("css selector", ".lens").text
    facts = chrome.find_element("css selector", ".facts.now").text
    assert "loss of this minibatch\nnot a number" in facts
    assert "rate" not in facts, "the step had none yet"
    units = sum(layer["shape"][0] for layer in recording["layers"] if layer["kind"] == "ReLU")
    assert int(re.search(r"dead units\n(\d+)", facts)[1]) <= units
    assert f"of {shown_step(chrome)} (" in chrome.find_element("id", "status").text
    minibatch = chrome.find_element("css selector", ".minibatch").text
    assert re.search(r"\d → \?\nnot a number", minibatch)
    assert ": 0 of 16 correct" in minibatch
    assert "not finite" in chrome.find_element("id", "main").text
    assert console(chrome) == []


def test_a_page_that_a_browser_has_saved_works_as_before(chrome, pages, tmp_path):
    from selenium.webdriver.common.keys import Keys

    count = "return ['button', 'section', 'svg', 'canvas'].map((tag) => document.querySelectorAll(tag).length)"
    visit(chrome, pages / "mlp.html")
    before = chrome.execute_script(count)
    chrome.get(saved(chrome, tmp_path / "saved.html"))
    wait_for_replay(chrome)
    assert chrome.execute_script(count) == before
    press(chrome, Keys.ARROW_RIGHT)
    assert shown_step(chrome) == 2
    assert console(chrome) == []


def test_a_run_without_a_step_has_no_tour_but_its_keys(chrome, pages, tmp_path):
    (run,) = trace.read(pages / "mlp.html")
    trace.write(tmp_path / "page.html", trace.page([{**run, "frames": [], "history": []}]))
    visit(chrome, tmp_path / "page.html")
    assert "it ended before the first" in chrome.find_element("id", "main").text
    for key in "glstjknph?":
        press(chrome, key)
    assert not chrome.find_element("id", "tour").is_displayed()
    assert console(chrome) == []


def test_a_page_that_is_zoomed_in_has_room_for_its_panels(chrome, pages):
    visit(chrome, pages / "mlp.html")
    try:
        view(chrome, 960, 470)  # of a screen of 1,080 lines at 200 %
        header = chrome.find_element("tag name", "header")
        assert header.value_of_css_property("position") == "static"
    finally:
        view(chrome, 1280)


def test_a_notebook_shows_the_page_in_a_frame(chrome, pages, tmp_path):
    """As a cell's output has it: in an iframe, which has no address of its own."""
    from selenium.webdriver.common.keys import Keys

    from minidl.trace.page import inline

    (tmp_path / "notebook.html").write_text("<!doctype html>" + inline((pages / "mlp.html").read_text()))
    chrome.get((tmp_path / "notebook.html").as_uri())
    chrome.switch_to.frame(0)
    wait_for_replay(chrome)
    chrome.find_element("id", "forward").click()
    press(chrome, Keys.ARROW_RIGHT)
    assert shown_step(chrome) == 3
    chrome.switch_to.default_content()
    assert console(chrome) == []


def test_a_page_that_is_damaged_says_so(chrome, pages, tmp_path):
    text = (pages / "mlp.html").read_text()
    blob = re.search(r'class="recording">([^<]{2000})', text)[1]
    (tmp_path / "damaged.html").write_text(text.replace(blob, blob[::-1]))
    chrome.get((tmp_path / "damaged.html").as_uri())
    end = time.monotonic() + 60
    while "can't be shown" not in chrome.find_element("id", "main").text:
        assert time.monotonic() < end
    console(chrome)
