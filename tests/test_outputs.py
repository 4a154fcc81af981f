"""What a command writes at its end: it may replace its own and nothing else, and that is looked at first."""

import importlib
import os
import shutil

import numpy as np
import pytest

from minidl import report, train
from minidl.data import outputs, write_idx
from minidl.data.atomic import write_text
from minidl.data.outputs import PICTURE, OutputError, check_output
from minidl.nn import Linear
from minidl.study import __main__ as study
from tests.commands import tiny_dataset

FOREIGN = (
    b"",
    b"my own",
    b"<!doctype html>\n<html><head><title>mine</title></head></html>",
    bytes(5000),
    b"\x89PNG\r\n",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run, its replay and a few images."""
    folder = tmp_path_factory.mktemp("made")
    data = tiny_dataset(folder / "digits", 60)
    args = ["--dataset", data, "--model", "linear", "--epochs", 1, "--no-fast", "--out", folder / "run"]
    assert train.main([str(each) for each in [*args, "--trace", folder / "a.html", "--report"]]) == 0
    write_idx(folder / "x.idx", np.zeros((2, 10, 8), np.uint8))
    shutil.copy(folder / "a.html", folder / "b.html")
    return folder


LINES = {  # a command that writes a file, and the file
    "report": (["RUN", "--out", "FILE.html"], "minidl.report"),
    "compare": (["RUN", "RUN", "--out", "FILE.html"], "minidl.compare"),
    "trace": (["A", "B", "--out", "FILE.html"], "minidl.trace.__main__"),
    "page": (["RUN", "--page", "FILE.html"], "minidl.predict"),
    "show": (["RUN", "X", "--show", "FILE.png"], "minidl.predict"),
    "train": (["--dataset", "D", "--model", "linear", "--out", "NEW", "--trace", "FILE.html"], "minidl.train"),
}


def line(name, made, folder):
    """(the command's main, its words, the file)."""
    words, module = LINES[name]
    places = {
        "RUN": made / "run",
        "A": made / "a.html",
        "B": made / "b.html",
        "X": made / "x.idx",
        "D": made / "digits",
    }
    places |= {"NEW": folder / "new", "FILE.html": folder / "f.html", "FILE.png": folder / "f.png"}
    more = ["--epochs", "1", "--no-fast"] if name == "train" else []
    return importlib.import_module(module).main, [str(places.get(w, w)) for w in words] + more, places[words[-1]]


def refused(capsys, main, words) -> str:
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert ": error: " in said
    return said


@pytest.mark.parametrize("name", LINES)
def test_its_own_file_is_replaced_and_no_other(name, made, tmp_path, capsys):
    main, words, file = line(name, made, tmp_path)
    for content in FOREIGN:
        file.write_bytes(content)
        assert "It is left alone: remove it, or give another name" in refused(capsys, main, words)
        assert file.read_bytes() == content
        assert not (tmp_path / "new").exists()
    file.unlink()
    assert main(words) == 0
    first = file.read_bytes()
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    assert main(words) == 0  # once more, over its own
    assert len(file.read_bytes()) > len(first) // 2
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("name", LINES)
def test_another_command_s_page_is_somebody_s(name, made, tmp_path, capsys):
    main, words, file = line(name, made, tmp_path)
    other = made / "a.html" if name in ("report", "compare", "page", "show") else made / "run" / "report.html"
    shutil.copy(other, file)
    refused(capsys, main, words)
    assert file.read_bytes() == other.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", LINES)
def test_what_is_no_place_for_a_file(name, made, tmp_path, capsys):
    main, words, file = line(name, made, tmp_path)
    there = words.index(str(file))
    os.mkfifo(tmp_path / f"pipe{file.suffix}")
    (tmp_path / f"folder{file.suffix}").mkdir()
    (tmp_path / f"loop{file.suffix}").symlink_to(tmp_path / f"loop{file.suffix}")
    for place, why in (
        (f"pipe{file.suffix}", "not a regular file"),
        (f"folder{file.suffix}", "is a folder"),
        (f"loop{file.suffix}", "can't be written: "),
        ("x" * 300 + file.suffix, "can't be written: "),
        ("none/x" + file.suffix, "there is no folder"),
        (f"pipe{file.suffix}/x{file.suffix}", "is not a folder"),
        ("x.txt", "must end in"),
        ("x", "must end in"),
        ("/dev/null", "must end in"),
    ):
        words[there] = os.path.join(tmp_path, place)
        assert why in refused(capsys, main, words), place
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", LINES)
def test_a_link_and_a_long_name(name, made, tmp_path, capsys):
    """What a link points to is left alone; a name may be as long as the system takes."""
    main, words, file = line(name, made, tmp_path)
    target = tmp_path / f"target{file.suffix}"
    target.write_text("mine")
    for make in (os.symlink, os.link):
        make(target, file)
        refused(capsys, main, words)
        file.unlink()
        assert target.read_text() == "mine"
    words[words.index(str(file))] = str(tmp_path / ("é" * 120 + file.suffix))
    assert main(words) == 0
    assert (tmp_path / ("é" * 120 + file.suffix)).exists()


def test_a_page_that_is_read_is_not_written_over(made, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copy(made / "a.html", tmp_path / f"{name}.html")
    (tmp_path / "link.html").symlink_to(tmp_path / "b.html")
    os.link(tmp_path / "b.html", tmp_path / "hard.html")
    main, words, _ = line("trace", made, tmp_path)
    before = (tmp_path / "b.html").read_bytes()
    for out in ("a", "b", "link", "hard"):
        words = [tmp_path / "a.html", tmp_path / "b.html", "--out", tmp_path / f"{out}.html"]
        assert "is one of the pages to be read" in refused(capsys, main, words)
    assert "to be read" in refused(capsys, main, [tmp_path / "b.html", "--out", tmp_path / "b.html"])
    assert (tmp_path / "b.html").read_bytes() == before


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "curves.png", "report.html"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_run_begins_in_no_folder_with_such_a_file(name, kind, made, tmp_path, capsys):
    make = {"file": lambda p: p.write_text("x"), "folder": lambda p: p.mkdir(), "link": lambda p: p.symlink_to("none")}
    make[kind](tmp_path / name)
    args = ["--dataset", made / "digits", "--model", "linear", "--epochs", 1, "--out", tmp_path]
    assert f"holds a {name} but no run" in refused(capsys, train.main, args)
    assert os.listdir(tmp_path) == [name]


def test_a_report_in_the_run_s_folder_that_is_somebody_s(made, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    assert report.main([str(run)]) == 0
    (run / "report.html").write_text("mine")
    capsys.readouterr()
    refused(capsys, report.main, [run])
    refused(capsys, train.main, ["--resume", run, "--report"])
    assert (run / "report.html").read_text() == "mine"


@pytest.mark.extra("jinja2")
@pytest.mark.parametrize("name", ["report.html", "table.md", "results.csv", "times.csv", "figures"])
def test_a_study_begins_in_no_folder_with_such_a_file(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    said = refused(capsys, study.main, ["--preset", "quick", "--out", tmp_path])
    assert f"holds a {name} that is not from a study" in said
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["class-names.txt", "train-labels-idx1-ubyte.gz"])
def test_a_data_set_is_made_in_no_folder_with_such_a_file(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    (tmp_path / "pictures").mkdir()
    data = importlib.import_module("minidl.data.__main__")
    assert name in refused(capsys, data.main, [tmp_path / "pictures", tmp_path])


def test_a_data_set_s_folder_that_can_t_be_made_is_said_before_the_pictures_are_read(tmp_path, monkeypatch, capsys):
    data = importlib.import_module("minidl.data.__main__")
    monkeypatch.setattr(data, "find_pictures", lambda *args: pytest.fail("they are read"))
    (tmp_path / "file").touch()
    assert "can't be written" in refused(capsys, data.main, [tmp_path, tmp_path / "file" / "made"])
    monkeypatch.setattr("minidl.handwriting.collect.os.access", lambda path, mode: False)
    assert "can't be written" in refused(capsys, data.main, [tmp_path, tmp_path / "a" / "b"])


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    """Whoever runs the tests, root too."""
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is not writable: give another for"):
        check_output(tmp_path / "a.html", "report")


@pytest.mark.parametrize("start", ["<!doctype html>", "text with ", "\x89PNG\r\n\x1a\n"])
def test_a_mark_alone_is_not_enough(start, tmp_path):
    (tmp_path / "a.png").write_bytes((start + outputs.page_mark("predict")).encode("latin-1"))
    with pytest.raises(OutputError, match="did not write"):
        check_output(tmp_path / "a.png", "predict", PICTURE)


def test_long_names_are_written(tmp_path):
    write_text(tmp_path / ("n" * 255), "whole")
    Linear(2, 2).save(tmp_path / ("w" * 255))
    assert sorted(len(name) for name in os.listdir(tmp_path)) == [255, 255]


def test_names_that_the_locale_has_no_letters_for_are_written(tmp_path):
    """As Python has them with LC_ALL=C and PYTHONUTF8=0; and those that are no UTF-8 anywhere."""
    escaped = "\u00fc \N{PARTY POPPER}".encode().decode("ascii", "surrogateescape")
    write_text(tmp_path / "a", f"{escaped} \u00e4 bad\udcff \ud800")
    assert (tmp_path / "a").read_text("utf-8") == "\u00fc \N{PARTY POPPER} \u00e4 bad\\udcff \\ud800"
