"""A report of a run, and runs compared: numbers counted another way, pictures read back, pages in a browser."""

import base64
import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest

from minidl import Observer, Trainer, load_mnist, load_run, nn, seed, split
from minidl.data import write_idx
from minidl.data.splits import splits_of
from minidl.optim import SGD, Adam
from minidl.pages import facts_of_folder, report
from minidl.pages.compare import COLOURS
from minidl.pages.html import STYLE
from minidl.pages.png import png, signed
from minidl.pages.svg import Mark, Polyline, chart, labelled, ticks
from tests.browser import browser, console, contrast, linear, view
from tests.commands import ROOT, command, fails, signal_at_call, tiny_dataset, train

RUN = ("--model", "mlp", "--epochs", "2", "--batch-size", "16", "--val-fraction", "0.3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Three finished runs: Adam with two seeds, and a hybrid that switches after its first epoch, with a report."""
    where = tmp_path_factory.mktemp("runs")
    for name, words in {
        "adam": ("--opt", "adam"),
        "adam1": ("--opt", "adam", "--seed", "1"),
        "hybrid": ("--opt", "hybrid", "--switch", "epoch:1", "--report"),
    }.items():
        result = command("--dataset", folder, *RUN, *words, "--out", where / name)
        assert result.returncode == 0, result.stderr
    assert f"report  {where / 'hybrid' / 'report.html'}" in result.stdout
    return where


def test_a_finished_run_gets_its_report_late(runs, tmp_path):
    """Asked for with --resume, or lost with the process after summary.json."""
    shutil.copytree(runs / "adam", tmp_path / "adam")
    shutil.copytree(runs / "hybrid", tmp_path / "hybrid")
    (tmp_path / "hybrid" / "report.html").unlink()
    for name, words in (("adam", ["--report"]), ("hybrid", [])):
        run, weights = tmp_path / name, (tmp_path / name / "checkpoint.safetensors").read_bytes()
        said = [ok("--resume", run, *words, module="minidl.train") for _ in range(2)]
        assert f"report  {run / 'report.html'}" in said[0]
        assert "is finished" in said[1]
        assert (run / "checkpoint.safetensors").read_bytes() == weights


def ok(*args, module="minidl.report"):
    result = command(*args, module=module)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Reader(HTMLParser):
    """The tables of a page, cell by cell; the addresses in it; and whether its elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.open, self.cell = [], [], [], None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_startendtag(self, tag, attrs):
        assert tag in ("path", "circle")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def by_hand(run, folder):
    """Labels and answers of the validation split: the split drawn and the network computed here, in plain NumPy."""
    data = load_mnist(str(folder))
    order = np.random.default_rng(0).permutation(len(data.train_labels))
    n = round(0.3 * len(order))
    images, labels = data.train_images[order[:n]], data.train_labels[order[:n]]
    weights = {name: value.numpy().astype(np.float64) for name, value in load_run(run).model.named_parameters()}
    x = images.reshape(n, -1) / 255
    for i in (1, 3, 5):
        x = x @ weights[f"{i}.weight"].T + weights[f"{i}.bias"]
        x = np.maximum(x, 0) if i < 5 else x
    p = np.exp(x - x.max(1, keepdims=True))
    return images, labels, p / p.sum(1, keepdims=True)


def test_the_numbers_of_a_report(runs, folder):
    ok(runs / "adam")
    page = Reader((runs / "adam" / "report.html").read_text())
    _, labels, p = by_hand(runs / "adam", folder)
    answers = p.argmax(1)
    confusion, classes = page.tables
    assert confusion[0] == ["", "0", "1", "2", "3"]
    for k in range(4):
        counted = [int(np.sum((labels == k) & (answers == j))) for j in range(4)]
        assert [int(cell or 0) for cell in confusion[k + 1][1:]] == counted
        right = np.mean(answers[labels == k] == k)
        assert classes[k + 1][:3] == [str(k), str(np.sum(labels == k)), f"{100 * right:.2f} %"]
    summary = json.loads((runs / "adam" / "summary.json").read_text())
    accuracy = facts_of_folder(runs / "adam").validation.accuracy
    assert accuracy == pytest.approx(np.mean(answers == labels))
    assert accuracy == pytest.approx(summary["val_accuracy"])


def test_the_worst_mistakes_first(runs, folder):
    images, labels, p = by_hand(runs / "adam", folder)
    wrong = np.flatnonzero(p.argmax(1) != labels)
    assert len(wrong) > 2
    order = sorted(wrong, key=lambda i: p[i, labels[i]])
    found = facts_of_folder(runs / "adam").validation.worst
    assert [each.index for each in found] == order[:24]
    for each in found:
        assert np.array_equal(each.image, images[each.index])
        assert (each.label, each.predicted) == (labels[each.index], p[each.index].argmax())
        assert each.p_label == pytest.approx(p[each.index, each.label], rel=1e-4)


def test_a_report_needs_nothing_from_elsewhere(runs):
    text = (runs / "hybrid" / "report.html").read_text()
    assert all(address.startswith("data:") for address in Reader(text).addresses)
    assert "http" not in text
    assert "after step 9 to sgd" in text  # 140 images in batches of 16
    assert str(runs) not in text  # a page is made to be handed on
    code = "import sys; from minidl import report; print({'jinja2', 'matplotlib', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_train_writes_the_same_report(runs, tmp_path):
    ok(runs / "hybrid", "--out", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (runs / "hybrid" / "report.html").read_text()


def test_runs_without_a_validation_split_or_end(folder, tmp_path):
    command("--dataset", folder, *RUN[:-1], "0", "--opt", "adam", "--out", tmp_path / "all")
    ok(tmp_path / "all")
    text = (tmp_path / "all" / "report.html").read_text()
    assert "This run has no validation split" in text
    assert Reader(text).tables == []


def test_a_report_of_a_run_that_stands_within_an_epoch_says_so(tmp_path):
    """Its accuracy is that of the last epoch done, its mistakes are of the network as it is some steps later."""
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    data = split(load_mnist("mnist5k"), counts=(60, 40))
    trainer = Trainer(net, SGD(net.parameters(), lr=0.1), data, batch_size=20, folder=tmp_path / "run")
    trainer.fit(1, verbose=False)
    assert facts_of_folder(trainer.save()).notes == []
    steps = trainer.steps()
    next(steps), next(steps)
    (told,) = facts_of_folder(trainer.save()).notes
    assert told.startswith("the run is 2 steps into epoch 2: the accuracy above and the curves end with epoch 1")


def test_a_report_of_a_run_that_diverged_at_once_says_that_its_network_is_untrained(folder, tmp_path):
    command("--dataset", folder, *RUN, "--opt", "sgd", "--lr", "1e30", "--out", tmp_path / "run")
    (told,) = facts_of_folder(tmp_path / "run").notes
    assert told.startswith("the network is not trained yet")


def test_a_trainer_s_run_has_a_report_too(tmp_path):
    data = split(load_mnist("mnist5k"), counts=(60, 40))
    with seed(0):
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 26 * 26, 10))
    Trainer(net, Adam(net.parameters()), data, batch_size=20, folder=tmp_path / "own").fit(1, verbose=False)
    ok(tmp_path / "own")
    facts = facts_of_folder(tmp_path / "own")
    assert facts.first.pictures.shape == (3, 3, 3)
    assert facts.validation.confusion.sum() == 40


def test_a_run_on_arrays_of_a_program_has_a_report_without_mistakes_and_from_there_one_with_them(tmp_path):
    rng = np.random.default_rng(0)
    data = replace(splits_of((rng.random((30, 8, 8), np.float32), np.arange(30) % 3)))
    data = replace(data, val=data.train)
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    Trainer(net, Adam(net.parameters()), data, folder=tmp_path / "own").fit(1, verbose=False)
    ok(tmp_path / "own")
    text = (tmp_path / "own" / "report.html").read_text()
    assert "trained on arrays from a program" in text
    assert Reader(text).tables == []
    assert facts_of_folder(tmp_path / "own", dataset=data).validation.confusion.sum() == 30


def test_each_accuracy_is_called_what_it_is(runs):
    ok(runs / "adam")
    text = (runs / "adam" / "report.html").read_text()
    summary = json.loads((runs / "adam" / "summary.json").read_text())
    told = re.findall(r"training accuracy (\d+\.\d\d) %|training (\d+\.\d\d) %", text)
    assert {float(a or b) for a, b in told} == {round(100 * summary["train_accuracy"], 2)}
    assert "each batch measured just before its update" in text


def test_class_names_and_odd_letters(tmp_path):
    folder = tiny_dataset(tmp_path / "<b>digits & co")
    (folder / "class-names.txt").write_text("zero\n<one>\ntwo & a half\nthree\n")
    command("--dataset", folder, *RUN, "--opt", "adam", "--out", tmp_path / "r")
    ok(tmp_path / "r")
    text = (tmp_path / "r" / "report.html").read_text()
    assert Reader(text).tables[0][0] == ["", "zero", "<one>", "two & a half", "three"]
    assert "<one>" not in text
    assert "<title>mlp on &lt;b&gt;digits &amp; co, adam, seed 0</title>" in text


@pytest.mark.parametrize("module", ["minidl.report", "minidl.compare"])
def test_what_can_t_be_read_or_written(runs, tmp_path, module):
    assert "no" in fails(tmp_path / "none", module=module)
    assert "must end in .html" in fails(runs / "adam", "--out", tmp_path / "x.pdf", module=module)
    assert "no folder" in fails(runs / "adam", "--out", tmp_path / "none" / "x.html", module=module)


def test_a_report_of_other_data_is_refused(runs, folder, tmp_path):
    other = tiny_dataset(tmp_path / "other", images=180)
    assert "other data" in fails(runs / "adam", "--dataset", other, module="minidl.report")
    moved = tiny_dataset(tmp_path / "moved")
    assert "open it" in ok(runs / "adam", "--dataset", moved, "--out", tmp_path / "x.html")


# ---- compare ----


def test_runs_side_by_side(runs, tmp_path):
    out = ok(runs / "adam", runs / "adam1", runs / "hybrid", "--out", tmp_path / "c.html", module="minidl.compare")
    summaries = [json.loads((runs / name / "summary.json").read_text()) for name in ("adam", "adam1", "hybrid")]
    rows = [line.split() for line in out.splitlines() if re.match(r"[ABC]  ", line)]
    for row, summary in zip(rows, summaries, strict=True):
        assert f"{100 * summary['val_accuracy']:.2f}" in row
        assert f"{100 * summary['test_accuracy']:.2f}" in row
    best = max(range(3), key=lambda i: summaries[i]["val_accuracy"])
    assert ["*" in row for row in rows] == [i == best for i in range(3)]
    test = [100 * summary["test_accuracy"] for summary in summaries[:2]]
    assert "A, B differ only in the seed: validation" in out
    assert f"test {np.mean(test):.2f} ± {np.std(test, ddof=1):.2f} %" in out
    assert "* the highest final validation accuracy" in out
    assert "  seed: A 0, B 1, C 0" in out
    assert "  switch: A none, B none, C epoch:1" in out
    out = ok(runs / "adam", runs / "adam", module="minidl.compare")
    assert ["*" in line for line in out.splitlines()[1:3]] == [True, True], "equals are marked alike"
    text = (tmp_path / "c.html").read_text()
    page = Reader(text)
    assert [row[0] for row in page.tables[0]] == ["", "A", "B", "C"]
    assert page.addresses == ["data:,"]
    assert text.count('<g class="line run-2">') == 4  # a curve of the third run in each chart


def test_a_seed_counts_once(runs):
    """A folder given twice, or a copy of it, is the same run: counted twice it would narrow the spread."""
    out = ok(runs / "adam", runs / "adam", runs / "adam1", module="minidl.compare")
    test = [100 * json.loads((runs / name / "summary.json").read_text())["test_accuracy"] for name in ("adam", "adam1")]
    assert "A, C differ only in the seed: validation" in out
    assert f"test {np.mean(test):.2f} ± {np.std(test, ddof=1):.2f} %" in out


def test_runs_of_trainers_tell_their_settings(tmp_path):
    """The rates, which are in no option of the command line; and that the folder does not know a rule of one's own."""

    class Mine(SGD):
        """A rule of one's own: of its options the folder holds none."""

    data = split(load_mnist("mnist5k"), counts=(60, 40))
    rules = [lambda p: Adam(p, 1e-3), lambda p: Adam(p, 1e-2), lambda p: Adam(p, 1e-3), lambda p: Mine(p, 0.1),
             lambda p: Mine(p, 0.5)]  # fmt: skip
    for i, rule in enumerate(rules):
        with seed(0):
            net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        Trainer(net, rule(net.parameters()), data, seed=i, folder=tmp_path / str(i)).fit(1, verbose=False)
    out = ok(*(tmp_path / str(i) for i in range(5)), module="minidl.compare")
    assert "  lr: A 0.001, B 0.01, C 0.001, D none, E none" in out
    assert "adam 0.01 " in out
    assert "A, C differ only in the seed: validation" in out
    assert "D, E differ only in the seed, as far as their folders record your own code: validation" in out


def test_no_mean_of_runs_that_are_not_finished(tmp_path):
    class Stop(Observer):
        def after_epoch(self, record):
            return True

    data = split(load_mnist("mnist5k"), counts=(60, 40))
    for i, observers in enumerate(([], [Stop()])):
        with seed(0):
            net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        trainer = Trainer(net, Adam(net.parameters()), data, seed=i, folder=tmp_path / str(i))
        trainer.fit(2, observers, verbose=False)
    out = ok(tmp_path / "0", tmp_path / "1", module="minidl.compare")
    assert "A, B differ only in the seed: not all are finished" in out


def test_a_run_before_the_end_of_its_first_epoch(runs, folder, tmp_path):
    """There is no curve to draw, no accuracy to give, and no number of weights that could be another run's."""
    log, run = tmp_path / "log", tmp_path / "begun"
    stop = partial(signal_at_call, 2, "minidl.trainer:Trainer.train_step", signal.SIGINT)
    train("--dataset", folder, *RUN, "--opt", "adam", "--seed", 2, "--out", run, log=log, sabotage=stop)
    out = ok(runs / "adam", run, module="minidl.compare")
    assert "weights" not in out
    (line,) = [line for line in out.splitlines() if line.startswith("B")]
    assert "0 of 2" in line
    assert "none" not in line
    ok(run)
    text = (run / "report.html").read_text()
    assert "No epoch is done yet." in text
    assert "the network is not trained yet" not in text  # it has taken a step
    assert "<h2>Curves" not in text
    assert "<h2>Confusion matrix" in text


def test_runs_that_do_not_compare_are_told(runs, tmp_path):
    other = tiny_dataset(tmp_path / "other", images=180)
    command("--dataset", other, *RUN, "--opt", "adam", "--out", tmp_path / "r")
    out = ok(runs / "adam", tmp_path / "r", module="minidl.compare")
    assert "note: the runs were trained on different data, so their numbers are not comparable" in out
    assert "*" not in out


# ---- the parts ----


def test_labels_of_an_axis_differ_and_have_room():
    for low, high in ((0.00095, 0.00105), (1e-7, 3e-6), (0.12341, 0.12349), (0, 2500), (0.1, 0.1)):
        words = labelled(ticks(low, high))
        assert len(set(words.values())) == len(words)
        assert all(float(text) == pytest.approx(value, rel=1e-9, abs=1e-15) for value, text in words.items())
        drawn = chart([Polyline("rate", [(1, low), (2, high)], "run-0")], "rate")
        for x, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]+)', drawn):
            assert float(x) > 6.5 * len(text)


def read_png(data):
    """Width, height and pixels of a PNG whose rows have no filter, by the standard."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(data):
        (size,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width) if colour == 0 else (height, width, 3))


def test_png_gives_the_pixels_back():
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (28, 28), (4, 3, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(read_png(png(pixels)), pixels)


def test_signed_colours():
    colours = signed(np.array([[-2.0, 0.0, 1.0, 2.0]]))[0].astype(int)
    assert colours[0, 2] > colours[0, 0]  # blue
    assert colours[3, 0] > colours[3, 2]  # red
    assert colours[1].min() > 235
    assert (colours[2] != colours[3]).any()


SEEN = (  # linear RGB as most see it, and as those do who see no green or no red (Machado et al. 2009)
    np.eye(3),
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
)
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def in_lab(colour: str, seen) -> np.ndarray:
    """A colour such as #2c5c94 in CIELAB, where distances are those that one sees."""
    rgb = [linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5)]
    x, y, z = np.cbrt(np.array(XYZ) @ np.clip(np.array(seen) @ rgb, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_colours_of_runs_differ_also_without_red_or_green():
    style = STYLE.read_text()
    for theme, paper in zip(style.split("color-scheme: dark;"), ("rgb(251, 251, 249)", "rgb(20, 23, 27)"), strict=True):
        colours = re.findall(r"--run-\d: (#\w{6})", theme)
        assert len(colours) == COLOURS
        for seen in SEEN:
            places = [in_lab(each, seen) for each in colours]
            assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 20
        for each in colours:  # a legend's words have the colour too
            rgb = ", ".join(str(int(each[i : i + 2], 16)) for i in (1, 3, 5))
            assert contrast(f"rgb({rgb})", paper) >= 4.5


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.953, 0.9761) == pytest.approx([0.955, 0.96, 0.965, 0.97, 0.975])
    assert ticks(1, 3, whole=True) == [1, 2, 3]
    for low, high in ((1e-7, 3e-7), (0, 123456), (-1, 1)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 6
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    for low, high in ((0.95, 1), (1, 1.0001)):  # one epoch, and a switch shortly before its end or after it
        assert ticks(low, high, most=8, whole=True) == [1]
    assert ticks(9.5e-31, 1.04e-30) == pytest.approx([9.6e-31, 9.8e-31, 1e-30, 1.02e-30, 1.04e-30], rel=1e-6, abs=0)


def test_a_curve_lies_where_its_numbers_say():
    drawn = chart([Polyline("a", [(1, 0.0), (2, 1.0), (3, float("nan"))], "run-0")], "t", [Mark(1.5, "switch")])
    path = re.search(r'run-0"><title>a</title><path d="M([\d. L]+)"', drawn)[1]
    (x1, y1), (x2, y2) = (tuple(map(float, place.split())) for place in path.split("L"))
    assert x1 < x2
    assert y1 > y2  # up is smaller
    assert float(re.search(r'switch" d="M([\d.]+)', drawn)[1]) == pytest.approx((x1 + x2) / 2, abs=0.1)
    assert chart([Polyline("a", [], "run-0")], "t") == ""
    late = chart([Polyline("a", [(1, 0.5)], "run-0")], "t", [Mark(0.99, "switch")])
    assert re.search(r'text-anchor="middle">1<', late)


def test_a_page_may_have_many_classes_and_large_images(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(480) % 62
    for part, n in (("train", 480), ("t10k", 62)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 40, 30), dtype=np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[:n].astype(np.uint8))
    command("--dataset", tmp_path, "--model", "cnn", "--epochs", "1", "--out", tmp_path / "r", "--report")
    page = Reader((tmp_path / "r" / "report.html").read_text())
    assert len(page.tables[0]) == 63
    picture = next(address for address in page.addresses if len(address) > 100)
    assert read_png(base64.b64decode(picture.partition(",")[2])).shape == (40, 30)


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(runs, tmp_path, dark):
    ok(runs / "adam", runs / "hybrid", "--out", tmp_path / "c.html", module="minidl.compare")
    with browser(dark=dark) as chrome:
        for page in (runs / "hybrid" / "report.html", tmp_path / "c.html"):
            for width in (1280, 390):
                view(chrome, width, dark=dark)
                chrome.get(page.as_uri())
                assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
                shown = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
                assert chrome.execute_script(shown)
                assert console(chrome) == []


@pytest.mark.browser
def test_long_class_names_and_such_from_right_to_left(tmp_path):
    """They leave room for the numbers, also on a phone, and stand before theirs."""
    names = [
        "a name of a class that goes on and on " * 3,
        "Donaudampfschifffahrtsgesellschaftskapitän" * 2,
        "שלום עולם",
    ]
    folder = tiny_dataset(tmp_path / "data")
    (folder / "class-names.txt").write_text("\n".join([*names, "b"]) + "\n", encoding="utf-8")
    command("--dataset", folder, *RUN[:-1], "0.5", "--opt", "sgd", "--lr", "1e-6", "--out", tmp_path / "r")
    ok(tmp_path / "r")
    with browser(width=375) as chrome:
        chrome.get((tmp_path / "r" / "report.html").as_uri())
        assert chrome.execute_script("return document.documentElement.scrollWidth") == 375
        heads = "return [...document.querySelectorAll('tbody th')].map((each) => each.getBoundingClientRect().width)"
        assert max(chrome.execute_script(heads)) < 375 / 2
        mixed = """const named = [...document.querySelectorAll('td bdi, b bdi, p bdi')], range = document.createRange();
          return named.filter((each) => each.textContent === arguments[0]).map((each) => {
            range.selectNode((each.closest('b') || each).nextSibling);
            return each.getBoundingClientRect().left < range.getClientRects()[0].left; })"""
        found = chrome.execute_script(mixed, names[2])
        assert found
        assert all(found)


@pytest.mark.browser
def test_counts_can_be_read_on_the_darkest_cell(runs, tmp_path):
    """Contrast of at least 4.5 (WCAG AA), in light and dark."""
    ok(runs / "adam")
    page = runs / "adam" / "report.html"
    script = """const rgb = (node, what) => getComputedStyle(node)[what].match(/[\\d.]+/g).map(Number);
      const cell = document.querySelector('td.wrong');
      cell.style = arguments[0];
      return [rgb(cell, 'color'), rgb(cell, 'backgroundColor'), rgb(document.body, 'backgroundColor')]"""
    darkest = report._count(7, False, 7).style
    for dark in (False, True):
        with browser(dark=dark) as chrome:
            chrome.get(page.as_uri())
            ink, (*hot, alpha), paper = chrome.execute_script(script, darkest)
        mixed = [alpha * a + (1 - alpha) * b for a, b in zip(hot, paper, strict=True)]
        words = [f"rgb({', '.join(str(round(v)) for v in colour[:3])})" for colour in (ink, mixed)]
        assert contrast(*words) >= 4.5


@pytest.mark.browser
def test_on_paper_and_in_forced_colours(runs, tmp_path):
    """No column is cut off, for nobody can scroll on paper; and a legend has the colours of its lines."""
    ok(runs / "adam")  # with the images
    ok(runs / "adam", runs / "hybrid", "--out", tmp_path / "c.html", module="minidl.compare")
    with browser(width=700) as chrome:
        chrome.get((tmp_path / "c.html").as_uri())
        cut = "return Math.max(...[...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().right))"
        assert chrome.execute_script(cut) > 700  # there it scrolls
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert chrome.execute_script(cut) <= 700
        chrome.get((runs / "adam" / "report.html").as_uri())
        for each in ("td.bar i", ".confusion td"):  # their colours are what they say
            node = chrome.find_element("css selector", each)
            assert node.value_of_css_property("print-color-adjust") == "exact"
        chrome.get((tmp_path / "c.html").as_uri())
        forced = [{"name": "forced-colors", "value": "active"}]
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": forced})
        colours = "return [...document.querySelectorAll('.figures .key')].map((e) => getComputedStyle(e).color)"
        assert len(set(chrome.execute_script(colours))) == 2
