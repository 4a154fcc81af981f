"""The replay page as a lecture, in a real browser: the story of a switch, what if, the tour, one panel in large."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import trace
from tests.browser import console, view
from tests.commands import tiny_dataset, train
from tests.test_trace_browser import parsed, press, settle, shown_step, visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """An mlp that switches after two epochs, the same by Adam alone, both side by side, and a projected one."""
    folder = tmp_path_factory.mktemp("pages")
    data = tiny_dataset(folder / "data", images=160)
    for name, *args in (
        ("hybrid", "--switch", "epoch:2", "--lr", "0.003", "--lr-sgd", "0.01"),
        ("adam", "--opt", "adam", "--lr", "0.001"),
        ("projected", "--switch", "swats:rtol=0.5,window=5 & step:12", "--lr-after", "projected", "--momentum", "0.9"),
    ):
        own = ["--dataset", data, "--epochs", 4, "--batch-size", 16, "--out", folder / name]
        status, output = train(*own, *args, "--trace", folder / f"{name}.html", log=folder / "log")
        assert status == 0, output
    trace.write(folder / "both.html", trace.page(trace.read(folder / "hybrid.html") + trace.read(folder / "adam.html")))
    return folder


def table(chrome: Any, selector: str) -> dict[str, list[str]]:
    """The rows of a table: first cell -> the others."""
    rows = chrome.find_elements("css selector", f"{selector} tbody tr")
    cells = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {first: rest for first, *rest in cells}


def told(cell: str) -> float:
    """A number with the three digits that a label has, in unicode: 2.33·10⁻⁵."""
    return parsed(re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: "^" + found[0].translate(RAISED), cell))


RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
GAMMA, LAMBDA, MINUS = "\N{GREEK SMALL LETTER GAMMA}", "\u039b", "\N{MINUS SIGN}"


# ---- the story of the switch ----


def test_the_switch_is_told_in_numbers(chrome, pages):
    """Every number of the table, worked out again from the recording; and the words have the same ones."""
    (recording,) = trace.read(pages / "hybrid.html")
    event = recording["switch"]["event"]
    whole = {f["step"]: f for f in recording["frames"] if f["geometry"]}
    before, after = whole[event["step"]], whole[event["step"] + 1]
    visit(chrome, pages / "hybrid.html", "#weight=5")
    rows = table(chrome, ".story")
    assert rows["rule"] == ["adam", "sgd"]
    assert [told(cell) for cell in rows["learning rate η"]] == [0.003, 0.01]
    for name, key in (("length of the gradient |g|", "g"), ("length of the whole step |p|", "p")):
        assert [told(cell) for cell in rows[name]] == pytest.approx(
            [f["geometry"][key] for f in (before, after)], 0.006
        )
    angles = [float(cell.rstrip("°")) for cell in rows[f"angle between p and {MINUS}g"]]
    assert angles == pytest.approx([f["geometry"]["degrees"] for f in (before, after)], rel=0.006, abs=0.01)
    (name,) = (name for name in rows if name.startswith("step p of"))
    steps = [next(t["value"] for t in f["terms"] if t["symbol"] == "p")[5] for f in (before, after)]
    assert [told(cell) for cell in rows[name]] == pytest.approx(steps, 0.006)
    for cell, k in zip(rows["validation accuracy"], (2, 3), strict=True):
        percent, epoch = re.match(r"([\d.]+)%, epoch (\d)", cell).groups()
        assert int(epoch) == k
        assert float(percent) == pytest.approx(100 * recording["epochs"][k - 1]["val_accuracy"], abs=0.051)
    first, second = (p.text for p in chrome.find_elements("css selector", ".story .moral"))
    times = before["geometry"]["p"] / after["geometry"]["p"]
    assert "The learning rate goes up, from 0.003 to 0.01, and yet the whole step shrinks" in first
    assert float(re.search(r"shrinks by a factor of ([\d.,]*\d)", first)[1]) == pytest.approx(times, 0.06)
    assert f"The learning rate is 0.01; {GAMMA} of the step before the switch would have suggested" in second
    suggested = re.search(rf"suggested (\S+?)\. {GAMMA} is", second.replace("\n", " "))[1]
    assert told(suggested) == pytest.approx(before["geometry"]["gamma"], 0.006)
    assert console(chrome) == []


def test_a_projected_rate_is_told_with_lambda_and_momentum(chrome, pages):
    (recording,) = trace.read(pages / "projected.html")
    event, lambdas = recording["switch"]["event"], recording["switch"]["projection"]["lambda"]
    visit(chrome, pages / "projected.html")
    words = chrome.find_elements("css selector", ".story .moral")[1].text
    assert "its running average" in words
    average = told(re.search(rf"average, (\S+), to be multiplied by 1 {MINUS} μ = 0\.1", words)[1])
    assert average == pytest.approx(lambdas[event["step"] - 1], 0.006)
    assert average / 10 == pytest.approx(event["lr"], 0.006)


def test_a_chart_that_only_counts_is_left_out_and_the_legend_is_a_sentence(chrome, pages):
    visit(chrome, pages / "hybrid.html")
    assert "waits for epochs finished" not in chrome.find_element("css selector", ".switch").text
    visit(chrome, pages / "projected.html")
    words = chrome.find_element("css selector", ".rates figcaption").text
    assert f"band: the tolerance; mean of the last {GAMMA}, which is compared with {LAMBDA}." in words


# ---- what if ----


def what_if(chrome: Any) -> tuple[float, float]:
    """The step as it was, and as it would be."""
    script = """const text = (node) => node.nodeType === 3 ? node.data : (node.tagName === 'SUP' ? '^' : '')
      + [...node.childNodes].map(text).join('');
      return [...document.querySelectorAll('.what-if tbody tr')].map((tr) => text(tr.querySelector('td')))"""
    return tuple(parsed(cell) for cell in chrome.execute_script(script))


def turn(chrome: Any, name: str, place: float) -> float:
    """Move a slider; the number that it then stands for."""
    script = """const input = [...document.querySelectorAll('.knob input')]
        .find((i) => i.getAttribute('aria-label').startsWith(arguments[0] + ','));
      input.value = arguments[1]; input.dispatchEvent(new Event('input'));
        return window.replay.views[0].wish.numbers[arguments[0]]"""
    return chrome.execute_script(script, name, place)


def test_what_if_changes_nothing_until_something_is_changed(chrome, pages):
    """The page's own arithmetic gives the recorder's step: at 40 weights, by Adam and by SGD."""
    (recording,) = trace.read(pages / "hybrid.html")
    frames, rng = recording["frames"], np.random.default_rng(0)
    visit(chrome, pages / "hybrid.html")
    script = """const run = window.replay.runs[0], frame = run.frame(arguments[0]);
      return imagine(frame.terms, arguments[1], {numbers: {}}).get('p')"""
    for _ in range(40):
        frame, weight = frames[rng.integers(len(frames))], int(rng.integers(500))
        true = next(t["value"] for t in frame["terms"] if t["symbol"] == "p")[weight]
        assert chrome.execute_script(script, frame["step"], weight) == pytest.approx(true, rel=2e-5, abs=1e-12)


def test_what_if_is_adams_formula_with_other_numbers(chrome, pages):
    (recording,) = trace.read(pages / "hybrid.html")
    visit(chrome, pages / "hybrid.html", "#step=3&weight=40")
    frame = next(f for f in recording["frames"] if f["step"] == 3)
    at = {t["symbol"]: float(np.ravel(t["value"])[40 if np.ndim(t["value"]) else 0]) for t in frame["terms"]}

    def adam(lr, b1, b2, eps, corrected=True):  # Kingma & Ba 2015, Algorithm 1
        m, v = b1 * at["m_old"] + (1 - b1) * at["g"], b2 * at["v_old"] + (1 - b2) * at["g"] ** 2
        if corrected:
            m, v = m / (1 - b1**3), v / (1 - b2**3)
        return -lr * m / (v**0.5 + eps)

    chrome.find_element("css selector", ".what-if summary").click()
    now = {"lr": 0.003, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    assert what_if(chrome) == pytest.approx((adam(**now), adam(**now)), rel=2e-5)
    for name, place in (("lr", 0.75), ("b1", 0.1), ("b2", 0.5), ("eps", 0.9)):
        now[name] = turn(chrome, name, place)
        assert what_if(chrome)[1] == pytest.approx(adam(**now), rel=2e-5)
    assert now["lr"] == pytest.approx(0.03)
    uncorrected, as_sgd = chrome.find_elements("css selector", ".what-if input[type=checkbox]")
    uncorrected.click()
    assert what_if(chrome)[1] == pytest.approx(adam(**now, corrected=False), rel=2e-5)
    as_sgd.click()
    assert what_if(chrome)[1] == pytest.approx(-now["lr"] * at["g"], rel=2e-5)
    press(chrome, "n")  # the next weight, with the same wishes
    press(chrome, "p")
    assert what_if(chrome)[1] == pytest.approx(-now["lr"] * at["g"], rel=2e-5)
    chrome.find_element("css selector", ".what-if button").click()
    assert what_if(chrome)[0] == what_if(chrome)[1]
    assert console(chrome) == []


def test_formulas_are_read_as_python_reads_them(chrome, pages):
    visit(chrome, pages / "hybrid.html")
    at = {"a": 0.7, "b": -2.5, "t": 3.0, "β": 0.9}
    for source in ("-a**2 + b", "a - b - t", "a / b * t", "2**-t", "(1 - a**t) / (a + 1e-8)", "a if b < 0 else t",
                   "max(a, abs(b)) * sign(b)", "-(a + b) * -t", "exp(a) - sqrt(t)",
                   ".5 * a - 1e-3 / 2.E-2 + 1_0", "β * a"):  # fmt: skip
        true = eval(source, {"exp": math.exp, "sqrt": math.sqrt, "sign": np.sign}, at)
        got = chrome.execute_script("return evaluate(arguments[0], (name) => arguments[1][name])", source, at)
        assert got == pytest.approx(float(true), rel=1e-12), source


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("-lr * sign(m)", "-η · sign(m)"),
        ("max(b2 * u_old, abs(g), 1e-12)", "max(β₂ · ut-1, abs(g), 1e-12)"),
        ("m if abs(m) <= 1 else -.5", "m if abs(m) ≤ 1 else -.5"),
        ("min(1, -g)", "min(1, -g)"),
        ("β * 0.96**(t * -2) - log(g)", "β · 0.96^((t · -2)) - log(g)"),
        ("2**-abs(g) + g**-2**t", "2^(-abs(g)) + g^(-2^(t))"),
    ],
)
def test_all_that_a_formula_may_have_is_set_in_print(chrome, pages, source, printed):
    visit(chrome, pages / "hybrid.html")
    script = """const text = (node) => node.nodeType === 3 ? node.data
      : [...node.childNodes].map(text).join('').replace(/^(.*)$/, node.tagName === 'SUP' ? '^($1)' : '$1');
      return text(el('p', {}, ...formula(arguments[0], (name) => [symbol(name)])));"""
    assert chrome.execute_script(script, source) == printed.replace("-", MINUS).replace(f"1e{MINUS}12", "1e-12")
    assert console(chrome) == []


def test_results_can_be_hidden_for_a_class_to_predict(chrome, pages):
    visit(chrome, pages / "hybrid.html", "#step=3")
    painted = "return getComputedStyle(document.querySelector('tr[data-symbol=\"p\"] .value')).color"
    clear = chrome.execute_script(painted)
    press(chrome, "h")
    assert chrome.execute_script(painted) == "rgba(0, 0, 0, 0)" != clear
    chrome.find_element("css selector", 'tr[data-symbol="p"]').click()
    assert chrome.execute_script(painted) == clear
    press(chrome, "h")
    assert chrome.execute_script(painted) == clear


# ---- two runs ----


def test_two_runs_say_what_they_differ_in(chrome, pages):
    a, b = trace.read(pages / "both.html")
    visit(chrome, pages / "both.html")
    rows = table(chrome, ".differences")
    expected = {n.replace("_", " ") for n in a["config"] if n != "run" and a["config"][n] != b["config"][n]} | {
        "learning rate at step 1"
    }
    assert set(rows) == expected
    assert rows["opt"] == ["hybrid", "adam"]
    assert rows["learning rate at step 1"] == ["0.003", "0.001"]
    parted = int(np.flatnonzero(a["loss"] != b["loss"])[0]) + 1
    assert f"differ from step {parted} on" in chrome.find_element("css selector", ".differences").text


# ---- the tour and the lecture ----


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("name", ["hybrid", "adam"])
def test_the_tour_has_five_stops_that_can_be_seen(chrome, pages, name, width):
    (recording,) = trace.read(pages / f"{name}.html")
    view(chrome, width, 844 if width < 600 else 900)
    try:
        visit(chrome, pages / f"{name}.html")
        press(chrome, "g")
        for k in range(1, 6):
            title = chrome.find_element("css selector", "#tour h2").text
            assert title.startswith(f"{k} of 5: ")
            script = """const panel = document.querySelector('section.stop').getBoundingClientRect(),
              header = document.querySelector('header').getBoundingClientRect(),
              tour = document.getElementById('tour').getBoundingClientRect(), top = Math.max(panel.top,
                innerWidth < 760 ? 0 : header.bottom);
              return [top, panel.left, panel.right, tour.top, tour.left, tour.right, tour.bottom, innerHeight,
                document.documentElement.scrollWidth]"""
            top, left, right, box, box_left, box_right, box_end, height, whole = chrome.execute_script(script)
            beside = (
                box_left >= right - 1
                or box_right <= left + 1
                or (width > 600 and min(right, box_right) - max(left, box_left) < 0.5 * (right - left))
            )
            assert (height if beside else box) - top > 150, "the panel can be seen above or beside the words"
            assert box_end <= height
            assert whole <= width
            if "switch" in title.lower():
                assert shown_step(chrome) == recording["switch"]["event"]["step"] + 1
            chrome.find_element("id", "tour-next").click()
        assert not chrome.find_element("id", "tour").is_displayed()
        assert console(chrome) == []
    finally:
        view(chrome, 1280)


def test_a_link_leads_into_the_tour(chrome, pages):
    visit(chrome, pages / "hybrid.html", "#tour=3")
    assert chrome.find_element("css selector", "#tour h2").text == "3 of 5: One weight"
    press(chrome, "g")
    assert not chrome.find_element("id", "tour").is_displayed()
    chrome.find_element("id", "last").click()
    settle(chrome)
    assert chrome.current_url.endswith(f"#step={shown_step(chrome)}"), "a link to what is shown"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
def test_a_lecture_has_one_panel_in_large_letters(chrome, pages, width, height):
    view(chrome, width, height)
    try:
        visit(chrome, pages / "hybrid.html", "#step=3")
        press(chrome, "l")
        for key, panel in enumerate(("network", "filters", "minibatch", "lens", "switch"), start=1):
            press(chrome, str(key))
            shown = [s for s in chrome.find_elements("css selector", "main section") if s.is_displayed()]
            assert [panel in s.get_attribute("class").split() for s in shown] == [True]
            zoom = float(chrome.execute_script("return main.style.getPropertyValue('--zoom')"))
            assert 24 <= round(15 * zoom) <= 28
        press(chrome, "4")
        last = "return [...document.querySelectorAll('.terms tr')].pop().getBoundingClientRect().bottom"
        assert chrome.execute_script(last) <= height, "the last row of the lens is on the screen"
        press(chrome, "l")
        assert len([s for s in chrome.find_elements("css selector", "main section") if s.is_displayed()]) == 5
        assert console(chrome) == []
    finally:
        view(chrome, 1280)


def test_speeds_of_playing(chrome, pages):
    visit(chrome, pages / "hybrid.html")
    script = """const asked = [], real = window.setInterval;
      window.setInterval = (what, each) => { asked.push(each); return real(() => {}, 1e6); };
      const speed = document.getElementById('speed');
      for (const value of ['0.5', '1', '4']) { speed.value = value; window.replay.play(); window.replay.play(); }
      window.setInterval = real;
      return asked"""
    assert chrome.execute_script(script) == [1200, 600, 150]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("-lr * g", "The step is minus the gradient times the learning rate, 0.01."),
        ("-lr * mhat / (sqrt(vhat) + eps)", "uses only the gradient's sign: the step is about the learning rate, 0.01"),
        ("-lr * g / (sqrt(s) + eps)", "The learning rate is 0.01."),  # RMSprop's first step is ten times its rate
        ("-lr * (d + mu * v)", "The learning rate is 0.01."),
    ],
)
def test_the_tour_says_of_the_rate_what_the_formula_does(chrome, pages, how, words):
    visit(chrome, pages / "adam.html")
    terms = [{"symbol": "t", "value": 1, "formula": ""}, {"symbol": "p", "value": [0.01], "formula": how}]
    told_so = chrome.execute_script("return aboutRate({terms: arguments[0]}, '0.01')", terms)
    assert words in told_so
    assert ("bias correction" in told_so) == ("mhat" in how)


def test_the_tour_of_a_hybrid_without_a_step_after_its_switch_says_what_became_of_it(chrome, pages):
    (recording,) = trace.read(pages / "hybrid.html")
    last = recording["frames"][-1]["step"]
    recording["switch"] |= {"event": {**recording["switch"]["event"], "step": last}, "verdict": "switched at the end"}
    trace.write(pages / "late.html", trace.page([recording]))
    for name, words in (("late", "Switched at the end."), ("adam", "This run has no switch.")):
        visit(chrome, pages / f"{name}.html", "#tour=4")
        assert chrome.find_element("css selector", "#tour p").text.startswith(f"{words} The drawing shows")
    assert console(chrome) == []


def test_the_lens_says_what_moves_the_weight(chrome, pages):
    visit(chrome, pages / "adam.html", "#step=2&weight=40")
    assert chrome.find_element("css selector", ".rule").text == "Step 2, adam: the weight moves by p."
    script = """const terms = new Map([['w_old', {value: 0.4}], ['w', {value: 0.3, formula: arguments[0]}]]);
      return moves(terms, 0)"""
    decay = chrome.execute_script(script, "w_shrunk + p")
    assert decay == "the weight decays and moves by p."
    assert chrome.execute_script(script, "") == "the weight moves."


# ---- numbers and colours ----


def test_labels_of_an_axis_tell_one_tick_from_the_next(chrome, pages):
    visit(chrome, pages / "hybrid.html")
    script = "return labelled(ticks(axis(arguments[0], arguments[1], 90, 10, arguments[2]), 3))"
    for low, high, log in (
        (0.98712, 0.98791, False),
        (-0.17, -0.02, False),
        (2.30251, 2.30262, True),
        (-1.0001, -1, False),
        (1e-9, 5e-9, False),
        (0.001, 300, True),
        (12.5, 12_000, False),
        (0, 0, False),
    ):
        found = chrome.execute_script(script, low, high, log)
        assert len({words for _, words in found}) == len(found) > (low != high)
        assert all(told(words) == pytest.approx(value, rel=1e-6, abs=1e-15) for value, words in found)
    (recording,) = trace.read(pages / "hybrid.html")
    for term in (t for frame in recording["frames"] for t in frame["terms"] if t["symbol"] == "w"):
        term["value"] = 0.412 + 1e-3 * term["value"]  # a weight that hardly moves
    trace.write(pages / "still.html", trace.page([recording]))
    visit(chrome, pages / "still.html", "#weight=40")
    ticks = chrome.find_elements("css selector", ".lens .chart svg text[text-anchor=end]")
    assert len({t.text for t in ticks}) == len(ticks) > 1
    box = "const b = arguments[0].getBBox(); return b.x"
    assert all(chrome.execute_script(box, tick) >= 0 for tick in ticks)
    assert chrome.execute_script("return stepTicks(axis(1, 2, 0, 10), 5)") == [1, 2]


def test_a_number_is_not_rounded_to_one_that_it_is_not(chrome, pages):
    visit(chrome, pages / "hybrid.html")
    shares = chrome.execute_script("return [0, 1e-4, 0.0125, 0.9991, 0.9996, 1].map(percent)")
    assert shares == ["0.0%", "<0.1%", "1.3%", "99.9%", ">99.9%", "100.0%"]
    assert chrome.execute_script("return [-0, 0, -3].map((v) => short(v))") == ["0", "0", f"{MINUS}3"]


def test_there_is_one_notation_for_powers(chrome, pages):
    for name in ("hybrid", "projected", "both"):
        for step in (1, 3, 30):
            visit(chrome, pages / f"{name}.html", f"#step={step}")
            words = chrome.execute_script("return document.body.innerText")
            assert not re.search(r"\d[eE][-\N{MINUS SIGN}+]?\d", words.partition("What was recorded")[0])


def test_labels_of_a_histogram_do_not_touch(chrome, pages):
    script = """const met = [];
      for (const caption of document.querySelectorAll('.histogram figcaption')) {
        const boxes = [...caption.children].map((node) => { const range = document.createRange();
          range.selectNodeContents(node); return range.getBoundingClientRect(); });
        boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
          if (a.left < b.right + 2 && b.left < a.right + 2 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          met.push(caption.textContent); }));
      } return met"""
    try:
        for width in (390, 1280, 1920):
            view(chrome, width)
            for step in (1, 5, 40):
                visit(chrome, pages / "hybrid.html", f"#step={step}")
                assert chrome.execute_script(script) == []
    finally:
        view(chrome, 1280)


def test_words_of_the_timeline_are_whole_and_its_loss_has_numbers(chrome, pages):
    try:
        for width in (390, 1280, 1920):
            view(chrome, width)
            visit(chrome, pages / "hybrid.html")
            cut = """const svg = document.querySelector('#timeline svg'), box = svg.viewBox.baseVal;
              return [...svg.querySelectorAll('text')].filter((t) => { const b = t.getBBox();
                return b.x < -0.5 || b.x + b.width > box.width + 0.5; }).map((t) => t.textContent)"""
            assert chrome.execute_script(cut) == []
    finally:
        view(chrome, 1280)
    close = "return ticks(axis(0.31, 0.52, 90, 10, true), 3)"
    assert chrome.execute_script(close) == pytest.approx([0.4, 0.5])
    assert len(chrome.execute_script("return ticks(axis(0.5, 0.55, 90, 10, true), 3)")) >= 2


def test_one_far_gamma_does_not_flatten_the_chart(chrome, pages):
    (recording,) = trace.read(pages / "projected.html")
    gammas = recording["switch"]["projection"]["gamma"]
    gammas[len(gammas) // 2] = 1e6
    page = pages / "far.html"
    trace.write(page, trace.page([recording]))
    visit(chrome, page)
    words = chrome.find_element("css selector", ".rates figcaption").text
    assert f"the farthest at 1,000,000 (step {len(gammas) // 2 + 1})" in words
    assert chrome.find_elements("css selector", ".rates .gamma.far")
    largest = max(told(t.text) for t in chrome.find_elements("css selector", ".rates svg text[text-anchor=end]"))
    assert largest < 1000


def test_signs_survive_greyscale_and_are_explained(chrome, pages):
    """A red cell and a blue one of the same size differ in the picture without its colours."""
    visit(chrome, pages / "hybrid.html")
    script = """const canvas = document.createElement('canvas');
      paintSigned(canvas, Float32Array.of(-0.8, 0.8), 2, 1);
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height), w = canvas.width / 2;
      const grey = (x, y) => { const i = 4 * (y * canvas.width + x);
        return 0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2]; };
      const spread = (x0) => { let low = 255, high = 0; for (let y = 0; y < canvas.height; y++) for (let x = x0;
        x < x0 + w; x++) { low = Math.min(low, grey(x, y)); high = Math.max(high, grey(x, y)); } return high - low; };
      return [spread(0), spread(w)]"""
    negative, positive = chrome.execute_script(script)
    assert negative > 30 > 1 > positive
    assert "negative" in chrome.find_element("css selector", ".legend").text


def test_words_of_the_field_are_explained_where_they_stand(chrome, pages):
    visit(chrome, pages / "projected.html")
    tips = {t.text: t.get_attribute("title") for t in chrome.find_elements("css selector", ".tip")}
    assert {"stage", "dead units", GAMMA} <= tips.keys()
    assert all(len(words) > 40 for words in tips.values())


def test_the_title_has_no_path(pages):
    (recording,) = trace.read(pages / "hybrid.html")
    assert recording["title"] == "mlp on data, hybrid, seed 0"


def test_letters_grow_with_the_screen_of_a_lecture_hall(chrome, pages):
    """28 of 2,160 lines would be as small as 14 on a projector of 1,080."""
    view(chrome, 3840, 2160)
    try:
        visit(chrome, pages / "hybrid.html")
        press(chrome, "l")
        press(chrome, "4")
        assert 15 * float(chrome.execute_script("return main.style.getPropertyValue('--zoom')")) >= 48
        assert chrome.execute_script("return document.documentElement.scrollHeight <= innerHeight")
    finally:
        view(chrome, 1280)


BROKEN = """const lines = (td) => { const r = document.createRange(); r.selectNodeContents(td);
    return r.getClientRects().length; };
  return [...document.querySelectorAll('.story td')].map((td) => td.textContent + ' ' + lines(td))
    .filter((text) => /^\\S+ [2-9]$/.test(text))"""


def test_words_and_numbers_of_the_switch_stay_whole(chrome, pages, tmp_path):
    """A rule of one's own may be called lookahead, and a number cut in two is another number."""
    (recording,) = trace.read(pages / "hybrid.html")
    recording["phases"] = [[step, "lookahead" if name == "adam" else name] for step, name in recording["phases"]]
    trace.write(tmp_path / "own.html", trace.page([recording]))
    view(chrome, 1024, 768)
    try:
        visit(chrome, tmp_path / "own.html")
        press(chrome, "l")
        press(chrome, "5")
        assert "lookahead" in chrome.find_element("css selector", ".story").text
        assert chrome.execute_script(BROKEN) == []
        assert chrome.execute_script("return document.documentElement.scrollHeight <= innerHeight")
    finally:
        view(chrome, 1280)


PRESSED_OR_FIXED = """return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility()
    && (/fixed|sticky/.test(getComputedStyle(e).position) || (/^(BUTTON|SELECT|INPUT)$/.test(e.tagName)
      && !e.matches('.layer')))).map((e) => e.outerHTML.slice(0, 99))"""


def test_paper_has_nothing_to_press_and_nothing_over_it(chrome, pages):
    """The buttons that stay at the bottom of a narrow window lay over every sheet; layers are buttons, too."""
    view(chrome, 720)
    try:
        visit(chrome, pages / "hybrid.html")
        assert chrome.execute_script(PRESSED_OR_FIXED)
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert chrome.execute_script(PRESSED_OR_FIXED) == []
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        view(chrome, 1280)
