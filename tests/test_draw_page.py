"""The drawing page, in a real browser without a network: its numbers are Python's, and a drawn 3 is a 3."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, nn, no_grad
from minidl.handwriting import page as pages
from minidl.handwriting.layers import LAYERS, NotOnPage, described
from minidl.predict import classify, load_model
from minidl.predict import main as predict
from tests.browser import console, saved, view
from tests.commands import train

THREE = [(0.3, 0.25), (0.4, 0.17), (0.55, 0.15), (0.66, 0.22), (0.66, 0.35), (0.55, 0.45), (0.45, 0.47), (0.58, 0.5),
         (0.7, 0.6), (0.7, 0.74), (0.58, 0.84), (0.42, 0.84), (0.3, 0.76)]  # fmt: skip


def networks() -> dict[str, nn.Sequential]:
    """Every listed layer, with weights that are not the first ones, strides, paddings and odd sizes."""
    made = {
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(11 * 9, 20, rng=0), nn.BatchNorm1d(20), nn.GELU(), nn.Dropout(0.5),
                             nn.Sequential(nn.Linear(20, 7, bias=False, rng=1), nn.Tanh()), nn.Linear(7, 4, rng=2),
                             nn.Sigmoid(), nn.Linear(4, 5, rng=3), nn.Softmax(1)),
        "cnn": nn.Sequential(nn.Standardize(0.13, 0.31), nn.Conv2d(1, 6, (3, 2), stride=(1, 2), padding=(2, 1), rng=0),
                             nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.MaxPool2d(3, stride=2, padding=1),
                             nn.Conv2d(6, 4, 2, bias=False, rng=1), nn.ReLU(), nn.AvgPool2d(2, stride=1, padding=1),
                             nn.Flatten(), nn.Linear(4 * 7 * 3, 5, rng=2), nn.GELU("tanh")),
        "by pixel": nn.Sequential(nn.Standardize(np.linspace(0, 1, 9), np.full((1, 1, 11, 1), 0.5)), nn.Flatten(),
                                  nn.Linear(99, 3, rng=0)),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for model in made.values():
        state = {k: v for k, v in model.state_dict().items() if "running" in k or "bias" in k}
        model.load_state_dict(model.state_dict() | {k: rng.uniform(0.5, 1.5, v.shape) for k, v in state.items()})
        model.eval()
    return made


def outputs(model: nn.Module, image: np.ndarray) -> list[np.ndarray]:
    """What each layer gives in Python."""
    seen: list[np.ndarray] = []

    def see(name: str, layer: nn.Module, y: Tensor) -> Tensor:
        seen.append(y.numpy()[0].copy())
        return y

    with no_grad(), model.watched(see):
        model(Tensor(image[None, None].astype(np.float32)))
    return seen


def facts(model: nn.Module, size: tuple[int, int], **others: Any) -> dict[str, Any]:
    layers = described(model, size)
    classes = [str(k) for k in range(layers[-1]["shape"][0])]
    return {"title": "a", "about": "b", "size": size, "frame": None, "classes": classes, "layers": layers, **others}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Adam's and the hybrid's."""
    folder = tmp_path_factory.mktemp("runs")
    for opt in ("adam", "hybrid"):
        args = ["--dataset", "mnist5k", "--opt", opt, "--epochs", 5, "--out", folder / opt]
        status, output = train(*args, log=folder / "log")
        assert status == 0, output
    return folder / "adam", folder / "hybrid"


def open_page(chrome: Any, path: Path) -> None:
    chrome.get(path.as_uri())
    assert chrome.execute_script("return !!window.page")


def draw(chrome: Any, points: list[tuple[float, float]]) -> None:
    """With the mouse, at shares of the sheet's side; and wait for the next picture of the screen."""
    from selenium.webdriver import ActionChains

    sheet = chrome.find_element("id", "sheet")
    side = sheet.size["width"]
    places = [(int((x - 0.5) * side), int((y - 0.5) * side)) for x, y in points]
    actions = ActionChains(chrome, duration=5).move_to_element_with_offset(sheet, *places[0]).click_and_hold()
    for (x0, y0), (x1, y1) in pairwise(places):
        actions.move_by_offset(x1 - x0, y1 - y0)
    actions.release().perform()
    settle(chrome)


def settle(chrome: Any) -> None:
    script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    chrome.execute_async_script(script)


def answers(chrome: Any) -> list[str]:
    return [each.text for each in chrome.find_elements("css selector", ".best")]


@pytest.mark.browser
@pytest.mark.parametrize(("name", "dark"), [*((name, False) for name in networks()), ("mlp", True)])
def test_every_layer_s_numbers_are_python_s(chrome, tmp_path, name, dark):
    """dark: the network learned pictures dark on light, and a drawing is made so."""
    model, rng = networks()[name], np.random.default_rng(1)
    (tmp_path / "page.html").write_text(pages.page([facts(model, (11, 9), darkOnLight=dark)]))
    open_page(chrome, tmp_path / "page.html")
    for image in rng.random((3, 11, 9)):
        shown = chrome.execute_script(
            "const [r] = window.page.show(arguments[0]);"
            "return [r.outputs.map((o) => [o.shape, [...o.data]]), [...r.probabilities]]",
            (1 - image if dark else image).ravel().tolist(),
        )
        wanted = outputs(model, image)
        assert len(shown[0]) == len(wanted)
        for (shape, data), y in zip(shown[0], wanted, strict=True):
            assert tuple(shape) == y.shape
            np.testing.assert_allclose(np.reshape(data, shape), y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(shown[1], classify(model, image), atol=1e-6)
    assert console(chrome) == []


@pytest.mark.browser
def test_a_drawn_three_is_a_three_and_its_numbers_are_python_s(chrome, runs, tmp_path, capsys):
    assert predict([*map(str, runs), "--page", str(tmp_path / "both.html")]) == 0
    assert "drawing page: " in capsys.readouterr().out
    open_page(chrome, tmp_path / "both.html")
    assert answers(chrome) == ["", ""]
    draw(chrome, THREE)
    assert answers(chrome) == ["3", "3"]
    image = np.array(chrome.execute_script("return [...page.sheet.pixels()]")).reshape(28, 28)
    shown = chrome.execute_script("return page.show(page.sheet.pixels()).map((r) => [...r.probabilities])")
    for run, probabilities in zip(runs, shown, strict=True):
        np.testing.assert_allclose(probabilities, classify(load_model(run)[0], image), atol=1e-4)
    titles = [each.text for each in chrome.find_elements("css selector", ".answer h2")]
    assert titles == ["mlp, adam", "mlp, hybrid"]
    chrome.find_element("id", "undo").click()
    settle(chrome)
    assert answers(chrome) == ["", ""]
    assert console(chrome) == []


@pytest.mark.browser
def test_a_digit_is_framed_wherever_and_however_large_it_is_drawn(chrome, runs, tmp_path):
    assert predict([str(runs[0]), "--page", str(tmp_path / "one.html")]) == 0
    open_page(chrome, tmp_path / "one.html")
    seen = []
    for scale, (x0, y0) in ((1, (0, 0)), (0.4, (0.05, 0.55)), (0.3, (0.6, 0.05))):
        chrome.find_element("id", "clear").click()
        draw(chrome, [(x0 + scale * x, y0 + scale * y) for x, y in THREE])
        assert answers(chrome) == ["3"]
        seen.append(np.array(chrome.execute_script("return [...page.sheet.pixels()]")).reshape(28, 28))
    places = np.arange(28) + 0.5
    for image in seen:
        middle = [float((image.sum(k) * places).sum() / image.sum()) for k in (0, 1)]
        assert middle == pytest.approx([14.5, 14.5], abs=0.1)
        rows = np.flatnonzero(image.sum(1) > 0.2)
        assert np.ptp(rows) + 1 in (19, 20, 21)
        assert np.abs(image - seen[0]).mean() < 0.03


@pytest.mark.browser
@pytest.mark.parametrize("width", [1000, 390])
def test_bars_of_classes_with_names_begin_at_one_place(chrome, tmp_path, width):
    names = ["a", "seven", "a very long name of a class" * 3, "B", "Fünf"]
    both = [facts(networks()["mlp"], (11, 9)) | {"classes": names}] * 2
    (tmp_path / "page.html").write_text(pages.page(both[: 1 + (width < 600)]), encoding="utf-8")
    view(chrome, width)
    open_page(chrome, tmp_path / "page.html")
    chrome.execute_script("window.page.show(arguments[0])", [0.5] * 99)
    places = "return [...document.querySelector('.bars').querySelectorAll('i')].map((each) => {"
    places += "const box = each.getBoundingClientRect(); return [box.left, box.width]; })"
    found = chrome.execute_script(places)
    view(chrome, 1280)
    assert len(found) == 5
    assert np.ptp(found, axis=0).max() < 0.1
    assert min(found)[1] > 20


@pytest.mark.browser
def test_it_works_on_a_phone_with_a_finger(chrome, runs, tmp_path):
    assert predict([*map(str, runs), "--page", str(tmp_path / "both.html")]) == 0
    view(chrome, 390, 844)
    try:
        open_page(chrome, tmp_path / "both.html")
        box = chrome.execute_script(
            "const b = page.sheet.canvas.getBoundingClientRect(); return [b.left, b.top, b.width]"
        )
        for kind, points in (("touchStart", THREE[:1]), *(("touchMove", [p]) for p in THREE[1:]), ("touchEnd", [])):
            touches = [{"x": box[0] + x * box[2], "y": box[1] + y * box[2]} for x, y in points]
            chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        settle(chrome)
        assert answers(chrome) == ["3", "3"]
        assert chrome.execute_script("return [window.scrollY, document.documentElement.scrollWidth]") == [0, 390]
        bottoms = [e.rect["y"] + e.rect["height"] for e in chrome.find_elements("css selector", ".best")]
        assert max(bottoms) < 844  # seen while one draws
        assert console(chrome) == []
    finally:
        view(chrome, 1280)


@pytest.mark.browser
def test_two_fingers_draw_two_strokes_a_click_draws_a_dot_and_the_right_button_nothing(chrome, runs, tmp_path):
    from selenium.webdriver import ActionChains

    assert predict([str(runs[0]), "--page", str(tmp_path / "one.html")]) == 0
    open_page(chrome, tmp_path / "one.html")
    sheet, strokes = chrome.find_element("id", "sheet"), "return page.sheet.strokes"
    ActionChains(chrome).context_click(sheet).perform()
    assert chrome.execute_script(strokes) == []
    ActionChains(chrome).click(sheet).perform()
    assert sum(chrome.execute_script("return [...page.sheet.pixels()]")) > 3
    chrome.find_element("id", "clear").click()
    left, top, side = chrome.execute_script(
        "const b = page.sheet.canvas.getBoundingClientRect(); return [b.left, b.top, b.width]"
    )
    for k in range(4):
        fingers = [{"id": i, "x": left + x * side, "y": top + (0.3 + 0.1 * k) * side} for i, x in ((0, 0.3), (1, 0.7))]
        kind = "touchMove" if k else "touchStart"
        chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    one, two = chrome.execute_script(strokes)
    assert len(one) == len(two) == 4
    assert np.ptp(one, axis=0)[0] == np.ptp(two, axis=0)[0] == 0, "each goes straight down"
    assert console(chrome) == []


@pytest.mark.browser
def test_a_page_that_a_browser_has_saved_works_as_before(chrome, tmp_path):
    (tmp_path / "page.html").write_text(pages.page([facts(networks()["cnn"], (11, 9))]), "utf-8")
    open_page(chrome, tmp_path / "page.html")
    chrome.get(saved(chrome, tmp_path / "saved.html"))
    assert len(chrome.find_elements("css selector", "article")) == 2  # the answer and the layers
    draw(chrome, THREE)
    assert answers(chrome) != [""]
    assert console(chrome) == []


@pytest.mark.browser
def test_names_from_right_to_left_leave_the_order_of_words(chrome, tmp_path):
    names = ["שלום", "עולם", "a", "b", "c"]
    (tmp_path / "page.html").write_text(pages.page([facts(networks()["mlp"], (11, 9), classes=names)]), "utf-8")
    open_page(chrome, tmp_path / "page.html")
    script = "page.answers[0].show(Float64Array.from([0.5, 0.3, 0.1, 0.06, 0.04])); page.answers[0].sure.normalize();"
    chrome.execute_script(script)
    where = """const told = document.querySelector('.sure'), range = document.createRange(), end = told.lastChild;
      range.setStart(end, 1); range.setEnd(end, end.data.length);
      const [name, share] = [told.querySelector('bdi'), range].map((each) => each.getBoundingClientRect());
      return [told.textContent, name.right <= share.left + 1]"""
    assert chrome.execute_script(where) == [f"50.0%; next {names[1]}, 30.0%", True]


@pytest.mark.browser
@pytest.mark.parametrize("name", networks())
def test_it_fits_the_narrowest_screen(chrome, tmp_path, name):
    (tmp_path / "page.html").write_text(pages.page([facts(networks()[name], (11, 9))]), "utf-8")
    view(chrome, 320)
    try:
        open_page(chrome, tmp_path / "page.html")
        assert chrome.execute_script("return document.documentElement.scrollWidth") == 320
    finally:
        view(chrome, 1280)


# ---- what is written, without a browser ----


def test_the_page_is_one_file_that_asks_for_nothing(runs, tmp_path):
    assert predict([*map(str, runs), "--page", str(tmp_path / "both.html")]) == 0
    html = (tmp_path / "both.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", html)
    assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest|WebSocket", html)
    assert str(Path.home()) not in html
    assert str(tmp_path.parent) not in html
    known = json.loads(re.search(r'id="runs">(.*?)</script>', html, re.DOTALL)[1])
    assert [each["frame"] for each in known] == [{"box": 19.5 / 28, "byMass": True}] * 2
    assert known[1]["about"].startswith("235,146 weights, trained on mnist5k, switched after step ")


def test_a_network_that_diverged_at_once_is_not_called_trained(tmp_path):
    args = ["--dataset", "mnist5k", "--opt", "sgd", "--lr", "1e30", "--epochs", 1, "--out", tmp_path / "run"]
    assert train(*args, log=tmp_path / "log")[0] == 1
    assert predict([str(tmp_path / "run"), "--page", str(tmp_path / "page.html")]) == 0
    assert "weights, not yet trained on mnist5k" in (tmp_path / "page.html").read_text()


def test_a_name_can_t_end_the_script():
    html = pages.page([facts(networks()["mlp"], (11, 9), classes=["</script><b>", *"bcde"], title="<i>")])
    assert "</script><b>" not in html
    assert "<title>Draw: &lt;i&gt;</title>" in html


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2, rng=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1))


class Doubled(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Made(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(4, 2, rng=0))


def test_what_is_not_listed_is_refused_by_name():
    size = (2, 2)
    for model, words in (
        (Own(), "the network, a Own"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4, rng=0), Doubled()), "layer 2, a Doubled"),
        (nn.Sequential(nn.Sequential(nn.Flatten()), nn.Sequential(Own())), "layer 1.0, a Own"),
        (nn.Sequential(nn.Linear(2, 2, rng=0)), "layer 0, a Linear on 3 axes"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, rng=0)), "layer 0, a Conv2d: it takes 3 channels, but gets 1: a drawing"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4, rng=0)), r"layer 1, a Linear: .*weight \(4, 12\)"),
        (nn.Sequential(nn.Flatten(2), nn.Flatten()), "layer 0, a Flatten with start_dim=2"),
    ):
        with pytest.raises(NotOnPage, match=words):
            described(model.eval(), size)
    assert [layer["kind"] for layer in described(Made().eval(), size)] == ["Flatten", "Linear"]


def test_every_listed_layer_is_one_that_the_page_has():
    script = pages._file("network.js")
    kinds = set(re.findall(r"^  (\w+)(?:\(layer, x\)|:)", script[: script.index("\n};")], re.MULTILINE))
    assert kinds == {kind.__name__ for kind in LAYERS}


def test_the_command_refuses_what_makes_no_page(runs, tmp_path, capsys):
    one, two = map(str, runs)
    for args, words in (
        ([one, "--page", str(tmp_path / "p.png")], "must end in .html"),
        ([one, "--page", str(tmp_path / "no" / "p.html")], "there is no folder"),
        ([one, str(tmp_path / "none"), "--page", str(tmp_path / "p.html")], "there is no run folder"),
    ):
        assert predict(args) == 2
        assert words in capsys.readouterr().err
    assert predict(["--page", str(tmp_path / "p.html"), one, two]) == 0
    assert predict([one, "--page", str(tmp_path / "p.html"), two]) == 0
    for args in ([one], [one, two, two, "--page", "p.html"], [one, "--page", "p.html", "--show", "s.png"]):
        with pytest.raises(SystemExit) as end:
            predict(args)
        assert end.value.code == 2
