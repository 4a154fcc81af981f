"""The grader as a teacher uses it: what it reads, what it writes, and where it refuses."""

import contextlib
import csv
import errno
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile
from importlib.machinery import SourcelessFileLoader
from pathlib import Path

import numpy as np
import pytest

from tests.commands import command, fails
from tests.submissions import reference, submission, with_bodies, write
from tutorials.assignments import wire
from tutorials.assignments.assignment import AssignmentError, load
from tutorials.assignments.check import Wrong, exact, expect
from tutorials.assignments.grade import main
from tutorials.assignments.gradescope import problems, results
from tutorials.assignments.handout import to_write
from tutorials.assignments.marking import grade
from tutorials.assignments.session import Session, Unprotected
from tutorials.assignments.submission import LARGEST, read_submission

GRADE = "tutorials.assignments.grade"
WANTED = ("optim/sgd.py", "optim/adam.py")
NOT_UTF8 = "SyntaxError: " + ("(unicode error)" if sys.version_info < (3, 14) else "Non-UTF-8 code")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a program in")


# ---- what is read ----


def test_files_are_found_at_their_place_or_by_name(tmp_path):
    flat = write(
        {"sgd.py": "1", "notes/adam.py": "2", "__pycache__/adam.py": "3", ".git/sgd.py": "4"}, tmp_path / "flat"
    )
    assert read_submission(flat, WANTED).files == {"optim/sgd.py": b"1", "optim/adam.py": b"2"}
    both = write({"optim/sgd.py": "1", "old/sgd.py": "2", "adam.py": "3", "old/adam.py": "4"}, tmp_path / "both")
    found = read_submission(both, WANTED)
    assert found.files == {"optim/sgd.py": b"1"}
    assert "several files named adam.py (adam.py, old/adam.py)" in found.problems["optim/adam.py"]
    one = read_submission(both / "adam.py", WANTED)
    assert one.files == {"optim/adam.py": b"3"}
    assert "no sgd.py in the submission (it has adam.py)" in one.problems["optim/sgd.py"]


def test_a_zip_is_read_where_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "work.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a2/optim/sgd.py", "right")
        archive.writestr("__MACOSX/a2/optim/._sgd.py", "not this")
        archive.writestr("../../optim/adam.py", bytes(200 << 20))  # a bomb, and a path that leads out
    found = read_submission(tmp_path / "work.zip", WANTED)
    assert found.files == {"optim/sgd.py": b"right"}
    assert f"more than {LARGEST:,} bytes" in found.problems["optim/adam.py"]
    assert [p.name for p in tmp_path.iterdir()] == ["work.zip"]
    (tmp_path / "torn.zip").write_bytes((tmp_path / "work.zip").read_bytes()[:-100])
    with pytest.raises(AssignmentError, match="can't be read as a zip"):
        read_submission(tmp_path / "torn.zip", WANTED)


def test_only_plain_files_are_read(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("SECRET = 42")
    folder = write({"note": "x"}, tmp_path / "student")
    (folder / "sgd.py").symlink_to(secret)
    (folder / "deep").symlink_to(tmp_path)
    os.mkfifo(folder / "adam.py")
    found = read_submission(folder, (*WANTED, "secret.py"))
    assert found.files == {}
    assert "is a link" in found.problems["optim/sgd.py"]
    assert "is not a file" in found.problems["optim/adam.py"]
    assert "there is no secret.py" in found.problems["secret.py"]
    (folder / "large.py").write_bytes(bytes(LARGEST + 1))
    assert "more than 1,048,576" in read_submission(folder, ["large.py"]).problems["large.py"]


@linux
@pytest.mark.parametrize(("content", "said"), [
    (b"# coding: utf-8\nx = '\xff\xfe'\n", NOT_UTF8),
    (b"def f(:\n", "SyntaxError: invalid syntax (sgd.py, line 1)"),
    (b"\x00\x01\x02", "null bytes"), (b"import minidl.nothing", "ModuleNotFoundError"), (b"# later", "ImportError"),
    (b"import torch", "Your code may import the standard library, NumPy and the hand-out"),
    (b"1 / 0", "ZeroDivisionError"),
])  # fmt: skip
def test_a_file_that_does_not_load(tmp_path, content, said):
    files = {**reference("A2"), "optim/sgd.py": content}
    report = grade(load("A2"), read_submission(write(files, tmp_path), WANTED))
    assert {mark.item.name for mark in report.marks if mark.score} == {
        mark.item.name for mark in report.marks if mark.item.name.startswith(("Adam", "moments"))
    }
    assert said in report.marks[0].feedback
    assert report.marks[0].feedback.startswith("the file can't be loaded")


@linux
def test_a_missing_file_costs_only_its_own_items(tmp_path):
    folder = write({"mine.py": reference("A2")["optim/adam.py"], "sgd.py": reference("A2")["optim/sgd.py"]}, tmp_path)
    report = grade(load("A2"), read_submission(folder, WANTED))
    assert report.score == 40
    assert "it has mine.py, sgd.py): hand it in under this name" in results(report)["output"]


def test_the_hand_outs_own_files_come_compiled_and_those_handed_in_as_they_are(monkeypatch, tmp_path):
    """What is compiled is the file beside it, in the place where a worker looks, whatever the grader's own is."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    with Session(load("A2"), {"optim/sgd.py": b"changed = True"}) as session:
        for source in session._stage.rglob("*.py"):
            compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            if source.parts[-2:] == ("optim", "sgd.py"):
                assert not compiled.exists()
            else:
                loader = SourcelessFileLoader(source.stem, str(compiled))
                assert loader.get_code(source.stem) == compile(source.read_bytes(), source, "exec", dont_inherit=True)
    assert not list(tmp_path.iterdir())


# ---- results ----


def test_results_are_checked_against_gradescopes_fields():
    good = {
        "score": 1,
        "tests": [{"score": 1, "max_score": 2, "status": "failed", "visibility": "visible", "tags": ["a"]}],
    }
    assert problems(good) == []
    for bad, said in (
        ([], "must be an object"), ({}, "neither score nor tests"), ({"score": "1"}, "score has the wrong type"),
        ({"score": True}, "wrong type"), ({"score": 1, "marks": 2}, "marks is not a field"),
        ({"score": 1, "visibility": "secret"}, "must be one of hidden, after_due_date"),
        ({"tests": [{"score": 3, "max_score": 2}]}, "tests[0].score is not between"),
        ({"tests": [{"score": 1, "status": "ok"}]}, "must be one of passed, failed"),
        ({"tests": [{"score": 1, "number": 3}]}, "tests[0].number has the wrong type"),
    ):  # fmt: skip
        assert any(said in problem for problem in problems(bad)), bad


@linux
def test_one_submission_on_the_command_line(tmp_path):
    files = with_bodies("A2", {"AdamW.decayed": "return g + self.weight_decay * w"})
    student = write(files, tmp_path / "student")
    before = {p: p.read_bytes() for p in student.rglob("*.py")}
    out = tmp_path / "results.json"
    result = command("A2", student, "--out", out, "--visibility", "after_due_date", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "   0 / 10   AdamW: decay apart from the gradient" in result.stdout
    assert "Your decay goes through m and v" in result.stdout
    assert re.search(r"^  90 / 100  in [\d.]+ s$", result.stdout, re.MULTILINE)
    written = json.loads(out.read_text())
    assert problems(written) == []
    assert written["score"] == sum(test["score"] for test in written["tests"]) == 90
    assert {test["visibility"] for test in written["tests"]} == {"after_due_date"}
    digest = hashlib.sha256((student / "optim/adam.py").read_bytes()).hexdigest()
    assert written["extra_data"]["sha256"]["optim/adam.py"] == digest, "it proves which file was run"
    assert f"graded: optim/adam.py, sha256 {digest}" in written["output"]
    assert {p: p.read_bytes() for p in student.rglob("*.py")} == before, "a student's files stay as they are"


@linux
def test_a_class_on_the_command_line(tmp_path):
    group = tmp_path / "class"
    write(reference("A2"), group / "ada")
    write(to_write(load("A2")), group / "bob")
    write({"report.pdf": "x"}, group / "cy")
    write({"sgd.py": reference("A2")["optim/sgd.py"]}, group)
    (group / "eve.zip").write_bytes(b"PK no")
    (group / "fay.zip").write_bytes(b"")
    write({"A2.zip": "PK no"}, group / "gus")
    (group / "hal").symlink_to(group / "ada")
    (group / "readme.txt").write_text("no submission")
    result = command("A2", group, "--csv", tmp_path / "marks.csv", "--out", tmp_path / "feedback", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "4 submissions, 35.0 marks on average" in result.stdout
    rows = {row["submission"]: row for row in csv.DictReader((tmp_path / "marks.csv").read_text().splitlines())}
    assert {name: row["score"] for name, row in rows.items()} == {
        "ada": "100", "bob": "0", "cy": "0", "sgd.py": "40", "readme.txt": "",
        "eve.zip": "", "fay.zip": "", "gus": "", "hal": "",
    }  # fmt: skip
    assert rows["sgd.py"]["Adam: twenty steps"] == "0"
    assert "there is no sgd.py in the submission (it has report.pdf)" in rows["cy"]["problems"]
    feedback = {name: (tmp_path / "feedback" / f"{name}.md").read_text() for name in rows}
    for name, why in (("eve.zip", "read as a zip"), ("fay.zip", "read as a zip"), ("gus", "A2.zip"), ("hal", "a link")):
        assert why in rows[name]["not graded"]
        assert feedback[name].startswith("# A2: not graded\n")
        assert rows[name]["not graded"] in feedback[name]
    assert feedback["cy"].startswith("# A2: 0 of 100 marks\n")
    written = sorted(p.name for p in (tmp_path / "feedback").iterdir())
    assert written == sorted(f"{name}.{end}" for name in rows for end in ("json", "md"))
    for name in rows:
        assert problems(json.loads((tmp_path / "feedback" / f"{name}.json").read_text())) == []


@linux
def test_names_and_messages_cannot_drive_the_terminal(tmp_path):
    bell, undecodable = "\x1b]0;marks\x07", os.fsdecode(b"\xff.py")
    files = with_bodies("A2", {"AdamW.decayed": f"raise ValueError({bell!r})"})
    student = write({**files, undecodable: "x"}, tmp_path / "class" / os.fsdecode(b"b\xffb"))
    result = command("A2", student, "--out", tmp_path / "results.json", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "ValueError: ?]0;marks?" in result.stdout
    result = command("A2", tmp_path / "class", "--csv", tmp_path / "marks.csv", module=GRADE)
    assert (result.returncode, result.stderr) == (0, "")
    assert "b?b,90,100" in (tmp_path / "marks.csv").read_text()


def test_bad_input_is_said_in_a_line(tmp_path):
    assert "choose one of A1" in fails("A9", tmp_path, module=GRADE)
    assert "there is no submission at" in fails("A2", tmp_path / "nobody", module=GRADE)
    assert "is inside the submission" in fails("A2", tmp_path, "--out", tmp_path / "results.json", module=GRADE)
    assert "holds no folder" in fails("A2", tmp_path, "--csv", tmp_path.parent / "marks.csv", module=GRADE)
    for option, wrong in (
        ("--seed", "-1"), ("--seed", "1.5"), ("--seconds", "0"), ("--seconds", "-5"), ("--seconds", "nan"),
    ):  # fmt: skip
        message = fails("A2", tmp_path, option, wrong, module=GRADE)
        assert re.fullmatch(rf".* error: argument {option}: must be a .*, got {wrong}\n", message), "one line"
    with pytest.raises(ValueError, match="non-negative"):  # the grader's own error, at no student's cost
        grade(load("A2"), submission(reference("A2")), seed=-1)
    for folder in (tmp_path / "flat", tmp_path / "one"):
        names = {path.rsplit("/", folder.name == "flat")[-1]: text for path, text in reference("A2").items()}
        message = fails("A2", write(names, folder), "--csv", tmp_path.parent / "marks.csv", module=GRADE)
        assert "looks like one submission, because it contains optim/sgd.py, optim/adam.py: leave out --csv" in message
    (tmp_path / "old.zip").write_text("mine")
    assert "File exists" in fails("A2", "--zip", tmp_path / "old.zip", module=GRADE)
    assert (tmp_path / "old.zip").read_text() == "mine"


# ---- Gradescope's bundle ----


@linux
@pytest.mark.parametrize("method", ["write_text", "write_bytes"])
def test_a_full_disk_says_where(monkeypatch, tmp_path, capsys, method):
    """In the folder of the marks or in that for temporary files: the teacher has to know which."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    student = write(reference("A2"), tmp_path / "student")
    monkeypatch.setattr(Path, method, full)
    assert main(["A2", str(student), "--out", str(tmp_path / "results.json")]) == 2
    where = {"write_text": str(tmp_path / "results.json"), "write_bytes": "minidl-grade-"}[method]
    told = capsys.readouterr().err
    assert where in told
    assert "No space left on device" in told
    assert len(told.splitlines()) == 1


def test_the_bundle_runs_where_gradescope_unpacks_it(tmp_path):
    assert command("A2", "--zip", tmp_path / "bundle.zip", module=GRADE).returncode == 0
    home = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        names = archive.namelist()
        archive.extractall(home / "source")
        assert stat.S_IMODE(archive.getinfo("run_autograder").external_attr >> 16) == 0o755
    assert {"setup.sh", "run_autograder", "tutorials/assignments/A2/hidden.py", "optim/adam.py"} <= set(names)
    assert not any("/handout/" in name or name.startswith("tests/") for name in names)
    write(reference("A2"), home / "submission")
    (home / "results").mkdir()
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", home / "source" / script], check=True)
    environment = {"AUTOGRADER": str(home), "PYTHON": sys.executable, "PATH": os.environ["PATH"]}
    result = subprocess.run(
        ["bash", home / "source" / "run_autograder"],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (result.returncode, result.stderr) == (0, "")
    written = json.loads((home / "results" / "results.json").read_text())
    assert problems(written) == []
    assert written["score"] == 100


# ---- where protections are missing ----


@linux
@pytest.mark.parametrize(("without", "said"), [
    (["landlock", "user"], "hidden tests can be read"), (["seccomp"], "seccomp off"), (["limits"], "limits off"),
])  # fmt: skip
def test_it_refuses_to_run_what_it_cannot_hold_in(without, said):
    student = submission(reference("A2"))
    with pytest.raises(Unprotected, match=said):
        grade(load("A2"), student, without=without)
    report = grade(load("A2"), student, without=without, unsafe=True)
    assert report.score == 100
    assert f"{without[0]} off" in results(report)["output"], "and says so where it was told to go on"


# ---- numbers ----


def test_a_number_is_right_within_its_bound_only():
    right = exact(np.array([1.0, -2.0]), 3)
    u = 2.0**-24
    expect(np.array([1 + 3 * u, -2], np.float32), right, np.float32, "x")
    for wrong, said in (
        (np.array([1 + 20 * u, -2], np.float32), "expected 1 at index (0,)"),
        (np.array([1, np.nan], np.float32), "a NaN or an infinity"), (np.array([1.0, -2.0]), "expected dtype float32"),
        (np.array([[1, -2]], np.float32), "expected shape (2,), got (1, 2)"), (None, "got None"),
        ([1, 2], "got [1, 2]"),
        (np.array([2, -1], np.float32), "upside down"),
    ):  # fmt: skip
        with pytest.raises(Wrong, match=re.escape(said)):
            expect(wrong, right, np.float32, "x", {"upside down": lambda: np.array([2.0, -1.0])})


def test_the_wire_carries_values_and_refuses_anything_else():
    value = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [1, 2.5, "x", None, True],
        "c": np.float32(2),
        "d": np.zeros((0, 3)),
    }
    message = wire.pack(value)

    def reader(data):
        def read(n):
            part, data[:] = bytes(data[:n]), data[n:]
            return part

        return read

    back = wire.unpack(reader(bytearray(message)))
    assert back["b"] == value["b"]
    assert np.array_equal(back["a"], value["a"])
    assert back["c"] == 2
    assert back["c"].dtype == np.float32
    assert back["d"].shape == (0, 3)
    for thing in (object(), {1, 2}, np.array([object()]), np.array(["x"]), 1j, np.zeros(1 << 22)):
        with pytest.raises(TypeError):
            wire.pack(thing)
    rng = np.random.default_rng(0)
    for _ in range(2000):  # whatever is changed on the way, it is a value or a WireError
        broken = bytearray(message)
        for place in rng.integers(0, len(broken), 3):
            broken[place] = rng.integers(0, 256)
        with contextlib.suppress(wire.WireError):
            wire.unpack(reader(broken + bytes(100)))


def test_a_deep_answer_is_no_crash():
    head = b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b', "arrays": []}'
    message = bytearray(len(head).to_bytes(4, "big") + bytes(4) + head)

    def read(n):
        part, message[:] = bytes(message[:n]), message[n:]
        return part

    with pytest.raises(wire.WireError):
        wire.unpack(read)


@linux
def test_a_signal_does_not_wait_for_an_infinite_loop(tmp_path):
    """Ctrl-C once waited for the submissions that ran, which may have minutes left on a busy machine."""
    for name in ("ada", "bob"):
        write({**reference("A2"), "optim/sgd.py": "print('runs')\nwhile True: pass"}, tmp_path / "class" / name)
    args = ["A2", str(tmp_path / "class"), "--csv", str(tmp_path / "marks.csv"), "--jobs", "1"]
    asked = [sys.executable, "-m", "tutorials.assignments.grade", *args]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as grader:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("minidl-grade-*")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)
        grader.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, told = grader.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert (grader.returncode, told) == (130, b"tutorials.assignments.grade: stopped by SIGINT\n")
    assert not list(tmp_path.glob("minidl-grade-*"))
    assert not (tmp_path / "marks.csv").exists()
