"""Every command before closed, full and lost streams, and signals (tutorials/pages/streams-and-signals.md)."""

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl.data import load_mnist, write_idx
from tests.commands import CONTEXT, ROOT, SIGNALS, command, signal_at_call, tiny_dataset
from tutorials.assignments import grade

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX streams and signals")
PROGRAMS = ("train", "predict", "tune", "report", "compare", "trace", "data", "study", "fast", "minidl")
MODULES = {"trace": "minidl.trace.__main__", "data": "minidl.data.__main__", "study": "minidl.study.__main__"}
MODULES |= {"fast": "minidl.fast.__main__", "minidl": "minidl.__main__"}


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """A folder with data, a run with its replay, and pictures."""
    folder = tmp_path_factory.mktemp("there")
    data = tiny_dataset(folder / "digits", 60)
    args = ["--dataset", data, "--model", "linear", "--epochs", 1, "--batch-size", 30]
    done = command(*args, "--out", folder / "run", "--trace", folder / "run.html")
    assert done.returncode == 0, done.stderr
    write_idx(folder / "x.idx", load_mnist(name=str(data)).test_images[:3])
    from PIL import Image

    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{i}.png")
    return folder


def words(program: str, there: Path, out: Path) -> list[str]:
    """A command line that works, and prints something."""
    run, data = there / "run", there / "digits"
    lines = {
        "train": ["--dataset", data, "--model", "linear", "--epochs", 2, "--out", out / "new"],
        "predict": [run, there / "x.idx"],
        "tune": ["--dataset", data, "--model", "linear", "--epochs", 1, "--out", out / "tried.json"],
        "report": [run, "--out", out / "report.html"],
        "compare": [run, run, "--out", out / "compare.html"],
        "trace": [there / "run.html", there / "run.html", "--out", out / "both.html"],
        "data": [there / "pictures", out / "made"],
        "study": ["--pins"],
        "fast": ["--help"],
        "minidl": [],
    }
    return [str(word) for word in lines[program]]


def start(program: str, argv: list[str], how: str, log: Path) -> None:
    """In a process of its own: the command with its streams as `how` says, stderr into a file."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 2)
    os.close(file)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if how == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if how == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if how in ("no output", "no streams"):
        os.close(1)
        sys.stdout = None  # as Python has it where a stream is closed from the start
    if how in ("no messages", "no streams"):
        os.close(2)
        sys.stderr = None
    main = importlib.import_module(MODULES.get(program, f"minidl.{program}")).main
    sys.argv = [program, *argv]
    sys.exit(main(*([] if program == "minidl" else [argv])))


def ends(program: str, there: Path, tmp_path: Path, how: str) -> tuple[int, str]:
    """(exit status, what is on stderr)."""
    log = tmp_path / "log"
    process = CONTEXT.Process(target=start, args=(program, words(program, there, tmp_path), how, log))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "no end"
    return process.exitcode, log.read_text() if log.exists() else ""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("how", ["no output", "no messages", "no streams"])
def test_a_stream_that_is_closed_from_the_start_is_done_without(program, how, there, tmp_path):
    status, said = ends(program, there, tmp_path, how)
    assert (status, said) == (0, "")
    made = {"train": "new/summary.json", "report": "report.html", "compare": "compare.html", "tune": "tried.json"}
    made |= {"trace": "both.html", "data": "made"}
    assert program not in made or (tmp_path / made[program]).exists()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("how", "status", "why"), [("full", 1, "No space left"), ("gone", 141, "nobody reads")])
def test_output_that_can_t_be_written_ends_it_with_one_line(program, how, status, why, there, tmp_path):
    found, said = ends(program, there, tmp_path, how)
    assert found == status, said
    assert why in said
    assert len(said.splitlines()) == 1
    assert said.startswith("minidl")


PLACES = {  # what is going on when the signal comes
    "predict": ("minidl.predict", "load_model"),
    "report": ("minidl.report", "report_page"),
    "compare": ("minidl.compare", "compare_page"),
    "trace": ("minidl.trace.__main__", "page"),
    "data": ("minidl.data.__main__", "Parser"),
    "fast": ("minidl.fast.__main__", "Parser"),
    "train": ("minidl.train", "prepare"),
    "tune": ("minidl.tune", "prepare"),
}


@pytest.mark.parametrize("program", PLACES)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_it_with_one_line(program, number, times, there, tmp_path, monkeypatch, capsys):
    """In this process: the handlers are as they were afterwards. tune's and train's own are in their tests."""

    def send(*args, **kwargs):
        for _ in range(times):
            os.kill(os.getpid(), number)

    module, place = PLACES[program]
    monkeypatch.setattr(importlib.import_module(module), place, send)
    before = [signal.getsignal(each) for each in SIGNALS]
    status = importlib.import_module(module).main(words(program, there, tmp_path))
    said = capsys.readouterr().err
    assert (status, said) == (128 + number, f"minidl.{program}: stopped by {number.name}\n")
    assert before == [signal.getsignal(each) for each in SIGNALS]


STUDY = ["--preset", "quick", "--workers", "1"]


def start_study(out: Path, log: Path, place: str, number: int, times: int) -> None:
    """In a process of its own, which the second signal ends: it comes as the study calls `place`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    signal_at_call(1, f"minidl.study.__main__:{place}", number, times=times)
    sys.exit(importlib.import_module("minidl.study.__main__").main([*STUDY, "--out", str(out)]))


@pytest.mark.extra("jinja2")
@pytest.mark.parametrize(("place", "times"), [("load_mnist", 1), ("open_plan", 2), ("execute", 1), ("execute", 2)])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_study_with_the_line_that_goes_on(place, times, number, tmp_path):
    out, log = tmp_path / "s", tmp_path / "log"
    process = CONTEXT.Process(target=start_study, args=(out, log, place, number, times))
    process.start()
    process.join(120)
    assert process.exitcode == 128 + number
    lines = [line for line in log.read_text().splitlines() if line and "stopping" not in line]
    more = f"  python -m minidl.study {' '.join(STUDY)} --out {out}"
    assert lines[-2:] == ["stopped; all finished runs are kept. Continue with", more]
    assert "Traceback" not in log.read_text()


FILLS = ("train", "predict", "page", "report", "compare", "trace", "tune", "data")


def start_full(program: str, argv: list[str], size: int, log: Path) -> None:
    """In a process of its own: no file may be larger than so many bytes, as if the disk were full."""
    import resource

    main = importlib.import_module(MODULES.get(program, f"minidl.{program}")).main
    _, before = resource.getrlimit(resource.RLIMIT_FSIZE)
    read, write = os.pipe()  # what is said is no file
    os.dup2(write, 2), os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before))
    status = main(argv)
    sys.stderr.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (before, before))
    os.set_blocking(read, False)
    log.write_bytes(os.read(read, 100_000))
    sys.exit(status)


@pytest.mark.parametrize("program", FILLS)
@pytest.mark.parametrize("size", [0, 150])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half(program, size, there, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    out.mkdir()
    argv = [str(there / "run"), "--page", str(out / "p.html")] if program == "page" else words(program, there, out)
    argv += ["--show", str(out / "s.png")] if program == "predict" else []
    program = "predict" if program == "page" else program
    process = CONTEXT.Process(target=start_full, args=(program, argv, size, log))
    process.start()
    process.join(120)
    said = log.read_text()
    assert process.exitcode in ((1, 2) if program == "tune" else (1,)), said
    assert len(said.splitlines()) == 1
    assert "File too large" in said
    assert str(out) in said or program in ("train", "tune")
    whole = ("class-names.txt", "polarity.txt", "tried.json")  # small enough
    assert not [path for path in out.rglob("*") if path.is_file() and path.name not in whole]


# ---- the grader, which loads nothing of the library ----

GRADE = [sys.executable, "-m", "tutorials.assignments.grade", "A1", "tutorials/assignments/A1/handout"]


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        (">/dev/full", 1, "the output can't be written: No space left on device: stopped"),
        ("| true", 141, "nobody reads the output any more: stopped"),
        (">&-", 0, ""),
        ("2>&- >&-", 0, ""),
    ],
)
def test_the_graders_streams(how, status, says):
    line = f"sleep 0.3; exec {' '.join(GRADE)}" if "|" in how else f"exec {' '.join(GRADE)}"
    argv = ["bash", "-c", f"({line}) {how}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == (says and f"tutorials.assignments.grade: {says}\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_graders_signals(number, monkeypatch, capsys):
    monkeypatch.setattr("tutorials.assignments.grade.read", lambda *args: os.kill(os.getpid(), number))
    before = [signal.getsignal(each) for each in SIGNALS]
    assert grade.main(GRADE[3:]) == 128 + number
    assert capsys.readouterr().err == f"tutorials.assignments.grade: stopped by {number.name}\n"
    assert before == [signal.getsignal(each) for each in SIGNALS]


@pytest.mark.parametrize("option", ["--out", "--csv", "--page"])
@pytest.mark.parametrize("place", ["missing/x", "."])
def test_where_the_grader_can_t_write_is_said_before_it_grades(option, place, tmp_path, monkeypatch, capsys):
    """Once all marks of a class were lost."""
    monkeypatch.setattr("tutorials.assignments.grade.students", lambda *args: pytest.fail("it grades"))
    monkeypatch.setattr("tutorials.assignments.grade.read", lambda *args: pytest.fail("it grades"))
    assert grade.main([*GRADE[3:], option, str(tmp_path / place)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_page_lists_every_command():
    page = (ROOT / "tutorials" / "pages" / "streams-and-signals.md").read_text()
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) >= set(PROGRAMS) - {"minidl"}
