"""`python -m minidl.study` as a user runs it: to the end, stopped, killed, on a cluster, with bad input; its report."""

import re
import signal
import subprocess
import sys
from html.parser import HTMLParser

import pytest

pytest.importorskip("scipy", reason='the extra "study" is not installed')
pytest.importorskip("jinja2", reason='the extra "study" is not installed')

from tests.browser import browser, console, view
from tests.commands import ROOT, fails
from tests.kill_study import count, finish, killed, on_a_cluster, start, wait_for


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
        "report.html", "results.csv", "times.csv", "table.md", "figures", "runs", "crashed", "commands.json"
    }  # fmt: skip
    pictures = {p.suffix for p in (done / "figures").iterdir()}
    assert pictures == {".png", ".svg"}
    header, *rows = (done / "results.csv").read_text().splitlines()
    assert "seconds" not in header
    assert len(rows) == 7 * (3 + 3)
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
    assert errors.splitlines()[-1] == f"  python -m minidl.study --preset slow --out {out} --workers 1"


def test_no_worker_outlives_a_killed_study(tmp_path):
    psutil = pytest.importorskip("psutil", reason="psutil (comes with the extra cluster) is not installed")
    process = start("--preset", "slow", "--out", tmp_path / "study", "--workers", "2")
    assert wait_for(tmp_path / "study", 1, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    finish(process)
    assert children
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_on_a_cluster_with_a_worker_killed(done, tmp_path):
    pytest.importorskip("distributed", reason='the extra "cluster" is not installed')
    table, hit = on_a_cluster("tiny", tmp_path / "cluster", count(done))
    assert hit
    assert table == (done / "results.csv").read_bytes()


def test_report_only_of_a_study_that_has_just_begun(tmp_path):
    result = study("--preset", "tiny", "--out", tmp_path / "new", "--report-only")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "new" / "report.html").read_text()
    assert "runs are missing" in page
    assert "not done yet" in page


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset", "qiuck"), "qiuck"),
        (("--workers", "0"), "at least 1, got 0"),
        (("--preset", "paper", "--dataset", "mnist5k"), "has 4,000"),
        (("--dataset", "nowhere"), "no data set 'nowhere'"),
        (("--cluster", "tcp://127.0.0.1:9"), "dask scheduler|cluster"),
    ],
)
def test_bad_input_is_a_line(args, words, tmp_path):
    assert re.search(words, fails("--out", tmp_path / "x", *args, module="minidl.study"))


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
        assert target == "data:," or (target.startswith("#") and target[1:] in page.ids), (tag, target)
    assert not re.search(r"@import|url\((?!#|&quot;#)", text)


def test_the_report_says_where_its_numbers_come_from(done):
    text = (done / "report.html").read_text()
    for words in ("SHA-256", "numpy", "python -m minidl.study --preset tiny", "1000", "cores"):
        assert words in text


@pytest.mark.browser
def test_the_report_in_a_browser(done):
    with browser(1280) as chrome:
        chrome.get((done / "report.html").as_uri())
        for width, dark in ((1280, False), (768, True), (375, False)):
            view(chrome, width, dark=dark)
            assert chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth"), width
        column = (
            "const table = document.querySelector('#table-small-mlp');"
            "const th = [...table.tHead.rows[0].cells][%d];"
            "if (%s) th.querySelector('button').click();"
            "return [th.getAttribute('aria-sort'), [...table.tBodies[0].rows].map(r => r.cells[%d].textContent.trim())]"
        )
        accuracy = 2
        assert chrome.execute_script(column % (accuracy, "false", accuracy))[0] == "none"
        order, up = chrome.execute_script(column % (accuracy, "true", accuracy))
        assert (order, up) == ("ascending", sorted(up, key=lambda cell: float(cell.split()[0])))
        order, down = chrome.execute_script(column % (accuracy, "true", accuracy))
        values = [float(cell.split()[0]) for cell in down]
        assert (order, values) == ("descending", sorted(values, reverse=True))
        order, names = chrome.execute_script(column % (0, "true", 0))
        assert (order, names) == ("ascending", sorted(names, key=str.lower))
        assert console(chrome) == []
