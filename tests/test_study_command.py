"""`python -m minidl.study` as a user runs it: to the end, stopped, killed, on a cluster, with bad input, with an
optimizer and a network of your own; its checks; its report."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("jinja2", reason='the extra "study" is not installed')

from minidl.data import load_mnist, write_idx
from minidl.study.__main__ import main
from minidl.study.made import can_hold_pins
from minidl.study.own import fit, with_own
from minidl.study.regimes import Shows
from minidl.study.report import write_report
from minidl.study.runs import trial_of
from minidl.study.store import Store
from minidl.study.study import open_plan
from tests.browser import browser, console, view
from tests.commands import ROOT, fails
from tests.kill_study import count, finish, killed, on_a_cluster, start, wait_for
from tests.tiny_study import ONE
from tutorials.study.choose import choices
from tutorials.study.publish import publish

pytestmark = pytest.mark.extra("jinja2")


@pytest.fixture(scope="module", autouse=True)
def plain():
    """Without compiled loops but where a test takes `compiled`: fifty starts of numba take most of a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDL_NO_FAST", "1")
        yield


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.delenv("MINIDL_NO_FAST")


def study(*args):
    words = [sys.executable, "-W", "error", "-m", "tests.tiny_study", *map(str, args)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished tiny study."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    result = study("--preset", "tiny", "--out", out)
    assert result.returncode == 0, result.stderr
    assert str(out / "report.html") in result.stdout
    return out


def test_what_it_leaves_behind(done):
    assert {p.name for p in done.iterdir()} == {
        "report.html", "results.csv", "times.csv", "table.md", "figures", "runs", "commands.json"
    }  # fmt: skip
    pictures = {p.suffix for p in (done / "figures").iterdir()}
    assert pictures == {".png", ".svg"}
    header, *rows = (done / "results.csv").read_text().splitlines()
    assert "seconds" not in header
    assert len(rows) == 7 * (3 + 1 + 3) + 2 * 4
    assert len({len(row.split(",")) for row in (header, *rows)}) == 1


def test_killed_and_gone_on_with_gives_the_same_table(done, tmp_path):
    table, hits = killed("tiny", tmp_path / "killed", 2, count(done))
    assert hits == 2
    assert table == (done / "results.csv").read_bytes()


def test_ctrl_c_says_how_to_go_on(tmp_path):
    out = tmp_path / "study"
    process = start("--preset", "slow", "--out", out, "--workers", "1")
    assert wait_for(out, 2, process)
    process.send_signal(signal.SIGINT)
    status, errors = finish(process)
    assert status == 130
    assert "Traceback" not in errors
    assert "stopping after the runs in progress (once more: at once)" in errors
    assert errors.splitlines()[-1] == f"  python -m minidl.study --preset slow --out {out} --workers 1"


def test_rows_are_checked(done):
    result = study("--check", done, "--rows", 2, "--draw", 1)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["same"] * 2


def test_rows_with_pins_are_made_and_checked(compiled, tmp_path):
    """In processes that are held to AVX2, whatever this one is."""
    if not can_hold_pins():
        pytest.skip("needs x86-64 with AVX2 and OpenBLAS")
    out = tmp_path / "pinned"
    process = start("--preset", "pinned", "--out", out, "--workers", "1")
    assert wait_for(out, 3, process)
    process.send_signal(signal.SIGINT)
    finish(process)
    record = json.loads(next((out / "runs").glob("*.json")).read_text())
    assert record["made"]["pins"]["OPENBLAS_CORETYPE"] == "Haswell"
    result = study("--check", out, "--rows", 2)
    assert result.returncode == 0, result.stderr + result.stdout
    assert result.stdout.count("same") == 2


def test_the_pack_takes_the_runs_along(done, tmp_path):
    out = tmp_path / "packed"
    shutil.copytree(done, out)
    result = study("--preset", "tiny", "--out", out, "--pack")
    assert result.returncode == 0, result.stderr
    shutil.rmtree(out / "runs")
    result = study("--preset", "tiny", "--out", out, "--report-only")
    assert result.returncode == 0, result.stderr
    assert (out / "results.csv").read_bytes() == (done / "results.csv").read_bytes()
    assert "not complete" not in (out / "report.html").read_text()


def test_publishing_in_the_middle_and_at_the_end(done, tmp_path):
    """What is published is the report's, another folder goes on from its pack, and no published run gets lost."""
    part, here = tmp_path / "part", tmp_path / "here"
    shutil.copytree(done, part)
    here.mkdir()
    (here / "README.md").write_text("# A\n\n<!-- state -->\nold\n<!-- end of state -->\n\n## B\n")
    gone = sorted((part / "runs").glob("*.json"))[::3]
    for file in gone:
        file.unlink()
    publish(ONE, part, here)
    text = (here / "README.md").read_text()
    assert "in progress: 0 of 1 regimes are done" in text
    assert "more become known as tuning finishes" in (here / "report.html").read_text()
    assert "old" not in text
    assert text.startswith("# A\n")
    assert text.endswith("## B\n")
    assert len(Store(here).all()) == len(Store(done).all()) - len(gone)
    cells = [file for file in gone if json.loads((done / "runs" / file.name).read_text())["run"]["seed"] == 2000]
    for file in set(gone) - set(cells):
        shutil.copy(done / "runs" / file.name, file)
    publish(ONE, part, here)
    assert f"{len(cells)} runs known to be needed are missing" in (here / "report.html").read_text()
    assert "they are cells of the maps" in (here / "report.html").read_text()
    assert "All 1 regimes are done" in (here / "README.md").read_text()
    publish(ONE, done, here)
    text = (here / "README.md").read_text()
    assert "All 1 regimes are done" in text
    assert (done / "table.md").read_text().strip() in text
    for name in ("results.csv", "commands.json"):
        assert (here / name).read_bytes() == (done / name).read_bytes()
    assert Store(here).all() == Store(done).all()
    with pytest.raises(ValueError, match=f"{len(cells)} published runs are not in"):
        publish(ONE, part, here)
    with pytest.raises(ValueError, match="there is no study"):
        publish(ONE, tmp_path / "nowhere", here)


def test_presets_are_chosen_by_validation_alone(done, tmp_path):
    """As in results.csv, without the test split's columns; without a finished regime there is nothing to choose."""
    with open(done / "results.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["purpose"] == "final"]
    means = {
        key: np.mean([float(row["val_accuracy"]) for row in rows if row["contestant"] == key])
        for key in dict.fromkeys(row["contestant"] for row in rows)
    }
    lines = choices(ONE, done, {"small MLP": "mlp"})
    listed = [line.split() for line in lines if " %  " in line]
    assert {key: float(mean) for mean, _, key, *_ in listed} == pytest.approx(
        {k: 100 * m for k, m in means.items()}, abs=0.006
    )
    assert [float(line[0]) for line in listed] == sorted((float(line[0]) for line in listed), reverse=True)
    hybrid = next(row for row in rows if row["contestant"] == "hybrid")
    (row,) = (line for line in lines if "PRESETS[" in line)
    assert f"switch={hybrid['at']}, lr={hybrid['lr']}, lr_sgd={hybrid['lr_sgd']}" in row
    with pytest.raises(ValueError, match="none of these is done: good-fit MLP, good-fit CNN"):
        choices(ONE, done)


# ---- your own ----

PAGE = (ROOT / "tutorials" / "pages" / "own-study.md").read_text()
MINE, SCRIPT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)  # as the page has them


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Two hundred images of 10x12, four classes that can be told apart, as IDX files."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for name, n in (("train", 200), ("t10k", 60)):
        labels = np.arange(n) % 4
        images = rng.integers(0, 60, (n, 10, 12))
        images[np.arange(n), labels * 2] += 150
        write_idx(folder / f"{name}-images-idx3-ubyte", images.astype(np.uint8))
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels.astype(np.uint8))
    return folder


def test_an_optimizer_and_a_network_of_ones_own_on_own_data(compiled, own_data, tmp_path):
    mine, out = tmp_path / "mine.py", tmp_path / "out"
    mine.write_text(MINE)
    result = study("--preset", "tiny", "--with", mine, "--dataset", own_data, "--out", out)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert {row["regime"] for row in rows} == {"Net"}
    lion = [row for row in rows if row["contestant"] == "lion"]
    assert {row["purpose"] for row in lion} == {"tuning", "final"}
    assert max(float(row["test_accuracy"]) for row in lion if row["purpose"] == "final") > 0.5  # chance: 0.25
    page = (out / "report.html").read_text()
    for words in (
        "Lion: the sign of an average",
        "against Adam: test accuracy",
        '<th scope="col" aria-sort="none"><button type="button">Net',
    ):
        assert words in page
    assert "other shares of wrong labels, per-layer switches" in page  # one's own may be Lookahead or SAM
    assert "was started --with" in fails("--report-only", "--dataset", own_data, "--out", out, module="minidl.study")
    before = {path.name for path in (out / "runs").iterdir()}
    mine.write_text(MINE.replace("32", "33"))
    result = study("--preset", "tiny", "--with", mine, "--dataset", own_data, "--out", out, "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert not before & {path.name for path in (out / "runs").iterdir()} - before  # another network: other runs
    assert len({path.name for path in (out / "runs").iterdir()}) == 2 * len(before)


def test_a_function_that_says_so_is_a_network(own_data, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom minidl import nn\n"
        "def helper(x): return x\n"
        "def net(image_size, classes) -> nn.Module:\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(image_size[0] * image_size[1], classes))\n"
    )
    found = with_own(ONE, tmp_path / "mine.py", load_mnist(name=str(own_data)))
    assert [regime.name for regime in found.regimes] == ["net"]


def test_a_folder_called_as_mnist_need_not_show_what_mnist_must(own_data, tmp_path, monkeypatch):
    shutil.copytree(own_data, tmp_path / "mnist-of-my-own")
    monkeypatch.chdir(tmp_path)
    regime = replace(ONE.regimes[0], shows=Shows(train=(0.99, 1.0)))
    assert fit((regime,), load_mnist(name="mnist-of-my-own"), [])[0].shows == Shows()
    assert fit((regime,), load_mnist(name="mnist5k"), [])[0].shows == regime.shows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINE.replace("    axes", "    other"), 'say what is tuned in Lion, as in  axes = {"lr": (1e-5, 1e-2)}'),
        ("x = 1", "defines no optimizer (a Rule with `axes`), no network"),
        ("def net(classes): pass", "If net makes a network, say so: def net(...) -> nn.Module"),
        ("from minidl import nn\ndef net(width) -> nn.Sequential: pass", "net requires width, but a study passes"),
        (MINE.replace("(1e-5, 1e-2)", "(1e-2, 1e-5)"), "needs 0 < low < high"),
        (MINE.replace('"lr": (1e-5', '"rate": (1e-5'), "rate"),
        (MINE.replace("nn.Linear(32, classes)", "nn.Linear(9, classes)"), "Net"),
        (MINE + "1 / 0", "ZeroDivisionError"),
        ("contestants = [3]", "must be a list of Contestant"),
        ("contestants = 5", "must be a list of Contestant, not int"),
        (MINE.replace("(1e-5, 1e-2)", "1e-3"), "'lr' is 0.001, but must be a pair (low, high)"),
        (MINE.replace('{"lr": (1e-5, 1e-2)}', '["lr"]'), "the axes of Lion must be a dict"),
        (MINE.replace("image_size, classes)", "image_size, classes, width)"), "Net requires width"),
        (MINE.replace('"lion"', '"adam"'), "two contestants have the key 'adam'"),
        (MINE.replace("p[...] =", "p ="), "Lion.rule left p unchanged"),
        (MINE.replace("m[...] = 0.99 * m", "raise KeyError(3)"), "KeyError"),
        (MINE.replace("-lr * np.sign(", "-np.exp(1000 + "), "weights that are not finite"),
        (
            "from minidl.study import Contestant, Log\n"
            "contestants = [Contestant('x', 'X', 'own', (('opt', 'adam'),), (Log('lrr', 1, 2),))]",
            "the contestant 'x' can't be made",
        ),
    ],
)
def test_what_is_wrong_with_ones_own_is_a_line(text, words, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    assert words in fails("--with", tmp_path / "mine.py", "--out", tmp_path / "x", module="minidl.study")


def test_a_script_without_a_guard_is_told_at_once(tmp_path):
    """Public reports of the kind: hundreds of lines of RuntimeError, from processes that never start."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":\n    ', "").replace(', own="mine.py"', ""))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert 'if __name__ == "__main__":' in result.stderr.splitlines()[-1]
    assert result.stderr.count("Traceback") == 1
    assert not (tmp_path / "studies" / "mine" / "runs").exists()


@pytest.mark.extra("psutil")
def test_no_worker_outlives_a_killed_study(tmp_path):
    import psutil

    process = start("--preset", "slow", "--out", tmp_path / "study", "--workers", "2")
    assert wait_for(tmp_path / "study", 1, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    finish(process)
    assert children
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.extra("distributed")
def test_on_a_cluster_with_a_worker_killed(done, tmp_path):
    table, hit = on_a_cluster("tiny", tmp_path / "cluster", count(done))
    assert hit
    assert table == (done / "results.csv").read_bytes()


def test_report_only_goes_on_without_a_run_that_crashed(done, tmp_path):
    """A setting with a crashed run is behind all others: the tuning ends as it did, and the final runs are reported."""
    shutil.copytree(done, tmp_path / "out")
    rows = list(csv.DictReader((done / "results.csv").read_text().splitlines()))
    of_sgd = [row for row in rows if row["contestant"] == "sgd"]
    winner = next(row["lr"] for row in of_sgd if row["purpose"] == "final")
    loser = next(row["run"] for row in of_sgd if row["lr"] != winner)
    store = Store(tmp_path / "out")
    store.put_error(trial_of(store.all()[loser]["run"]), "MemoryError: none left")
    (store.runs / f"{loser}.json").unlink()
    result = study("--preset", "tiny", "--out", tmp_path / "out", "--report-only")
    assert (result.returncode, "1 run crashed: MemoryError: none left" in result.stderr) == (1, True)
    now = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert now == [row for row in rows if row["run"] != loser]


def test_report_only_of_other_data_or_of_fewer_runs(done, own_data, tmp_path):
    """With other images no run in the folder is the study's: an empty report took the place of the good one."""
    shutil.copytree(done, out := tmp_path / "out")
    result = study("--preset", "tiny", "--dataset", own_data, "--out", out, "--report-only")
    assert (result.returncode, "none of the 57 runs in" in result.stderr) == (2, True), result.stderr
    assert (out / "report.html").read_bytes() == (done / "report.html").read_bytes()
    rows = list(csv.DictReader((done / "results.csv").read_text().splitlines()))
    (out / "runs" / f"{next(row['run'] for row in rows if row['purpose'] == 'final')}.json").unlink()
    result = study("--preset", "tiny", "--out", out, "--report-only")
    assert (result.returncode, "known to be needed and not made yet: 1\n" in result.stderr) == (0, True), result.stderr


def test_report_only_of_a_study_that_has_just_begun(tmp_path):
    (tmp_path / "new").mkdir()
    result = study("--preset", "tiny", "--out", tmp_path / "new", "--report-only")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "new" / "report.html").read_text()
    assert "are missing" in page
    assert "not done yet" in page


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset", "qiuck"), "qiuck"),
        (("--workers", "0"), "at least 1 .*got 0"),
        (("--dataset", "nowhere"), "no data set 'nowhere'"),
        (("--check", "nowhere"), "is not a folder"),
        (("--report-only",), "there is no study in"),
        (("--dataset", ""), "an argument is empty, after --dataset"),
        (("--check", ".", "--rows", "0"), "at least 1, got 0"),
        (("--rows", "3"), "--rows and --draw are for --check DIR"),
        (("--draw", "0"), "--rows and --draw are for --check DIR"),
        (("--with", "nowhere.py"), "no file .*nowhere.py"),
    ],
)
def test_bad_input_is_a_line(args, words, tmp_path):
    assert re.search(words, fails("--out", tmp_path / "x", *args, module="minidl.study"))


def test_a_scheduler_that_is_not_there_is_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minidl.study.cluster.PATIENCE", 0.5)
    assert main(["--out", str(tmp_path / "x"), "--cluster", "tcp://127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert re.search("no Dask scheduler answers at tcp|--cluster needs Dask", told)
    assert "Traceback" not in told


@pytest.mark.extra("distributed")
@pytest.mark.parametrize("address", ["scheduler", "tcp://127.0.0.1", "127.0.0.1:port", "http://127.0.0.1:8787"])
def test_an_address_that_is_none_is_a_line(address, tmp_path):
    """Dask's client would wait for 20 seconds and print a traceback."""
    told = fails("--out", tmp_path / "x", "--cluster", address, module="minidl.study")
    assert f"--cluster {address} is not a scheduler's address (" in told
    assert told.endswith("): give it as tcp://HOST:PORT\n")


# ---- the report ----


class Page(HTMLParser):
    """What a page would load, its ids, and where its tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.open, self.wrong = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.links.append((tag, value))
            if name == "id":
                self.ids.append(value)
        if tag not in ("meta", "link", "br", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_report_is_one_file_that_needs_nothing_else(done):
    text = (done / "report.html").read_text()
    page = Page(text)
    assert page.wrong == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for tag, target in page.links:
        assert target.startswith("data:") or (target.startswith("#") and target[1:] in page.ids), (tag, target)
    assert not re.search(r"@import|url\((?!#|&quot;#)", text)


def test_the_report_says_where_its_numbers_come_from(done):
    text = (done / "report.html").read_text()
    for words in ("SHA-256", "numpy", "python -m minidl.study --preset tiny", "1000", "cores"):
        assert words in text


def test_the_report_says_how_it_tuned_and_what_a_loss_is_measured_in(done, tmp_path):
    assert "tried 3 settings, drawn at random from ranges fixed in advance, each trained in full with one seed;" in (
        (done / "report.html").read_text()
    )
    plan = open_plan(replace(ONE, rounds=((3, 2), (1, 2))), load_mnist(name="mnist5k"), tmp_path / "study")
    write_report(plan, tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    assert "each trained in full with 2 seeds;" in text
    assert "losses as 100 times the difference of their logarithms (5 is 5 %, 50 is 39 %)" in text


def test_a_picture_with_nothing_in_it_is_left_out(done, tmp_path):
    """Matplotlib warned of each, in a study of other optimizers than the main ones, and where all runs diverged."""
    shutil.copytree(done / "runs", tmp_path / "study" / "runs")
    few = tuple(c for c in ONE.contestants if c.key in ("swats", "sgd-adam"))
    plan = open_plan(replace(ONE, contestants=few), load_mnist(name="mnist5k"), tmp_path / "study")
    for run in [run for _, run in plan.wanted() if run.final]:
        record = plan.store.get(run)
        plan.store.put(run, record | {"result": record["result"] | {"diverged": "at step 1"}})
    write_report(plan, tmp_path / "report")
    assert list((tmp_path / "report" / "figures").glob("*.svg")) == []


@pytest.mark.parametrize("dead", [("hybrid", "adam-cut"), ("hybrid",)])
def test_a_map_whose_runs_have_all_collapsed(done, tmp_path, dead):
    """It is a picture too, without a ring: the report of all the other runs does not fail over it."""
    shutil.copytree(done / "runs", tmp_path / "study" / "runs")
    plan = open_plan(ONE, load_mnist(name="mnist5k"), tmp_path / "study")
    for kind in dead:
        for run in (run for cell in plan.map_runs(ONE.regimes[0], kind).values() for run in cell):
            record = plan.store.get(run)
            plan.store.put(run, record | {"result": record["result"] | {"diverged": "at step 1"}})
    write_report(plan, tmp_path / "report")
    for kind in ("hybrid", "adam-cut"):
        picture = (tmp_path / "report" / "figures" / f"small-mlp-map-{kind}.svg").read_text()
        assert picture.count("coll.<") == (4 if kind in dead else 0)


@pytest.mark.browser
def test_the_report_in_a_browser(done):
    with browser(1280) as chrome:
        chrome.get((done / "report.html").as_uri())
        for width, dark in ((1280, False), (768, True), (375, False)):
            view(chrome, width, dark=dark)
            assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth"), width
        column = (
            "const table = document.querySelector('#small-mlp table');"
            "const th = [...table.tHead.rows[0].cells][%d];"
            "if (%s) th.querySelector('button').click();"
            "return [th.getAttribute('aria-sort'), [...table.tBodies[0].rows].map(r => r.cells[%d].textContent.trim())]"
        )
        accuracy = 1
        assert chrome.execute_script(column % (accuracy, "false", accuracy))[0] == "none"
        order, up = chrome.execute_script(column % (accuracy, "true", accuracy))
        assert (order, up) == ("ascending", sorted(up, key=lambda cell: float(cell.split()[0])))
        order, down = chrome.execute_script(column % (accuracy, "true", accuracy))
        values = [float(cell.split()[0]) for cell in down]
        assert (order, values) == ("descending", sorted(values, reverse=True))
        order, names = chrome.execute_script(column % (0, "true", 0))
        assert (order, names) == ("ascending", sorted(names, key=str.lower))
        open_all = "document.querySelectorAll('details').forEach(each => each.open = true)"
        for width in (1280, 390):
            view(chrome, width)
            chrome.execute_script(open_all)
            assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth"), width
            loose = "return [...document.querySelectorAll('table, svg')].filter(e => !e.closest('.scroll')).length"
            assert chrome.execute_script(loose) == 0  # wide things scroll by themselves
        assert console(chrome) == []
