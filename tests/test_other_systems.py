"""What Windows and macOS do differently, simulated: consoles, line endings, names, files that are open."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import minidl.data
from minidl import Trainer, load_mnist, load_run, nn
from minidl.cli.display import resume_command
from minidl.cli.parser import matching
from minidl.data import DataError
from minidl.data.atomic import atomic_file
from minidl.data.proof import file_sha256
from minidl.handwriting.folders import find_pictures
from minidl.handwriting.page import facts
from minidl.optim import Adam
from minidl.pages import compare_page, facts_of_folder, read_run, report_page
from minidl.study import made
from minidl.study.store import Store
from minidl.telling import is_terminal
from minidl.train import lost_place, make_parser
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.folder import make_new
from minidl.training.loader import UserError, load
from minidl.training.own_file import bare, changed, check_unchanged, hashes
from minidl.training.results import CHECKPOINT
from tests.commands import ROOT, command
from tutorials.assignments.archive import look
from tutorials.assignments.unpack import empty_folders

NET = """
from minidl import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10, rng=0))
"""

# ---- consoles ----


class Window(io.TextIOBase):
    """What sys.stderr is in IDLE: it says that it is a terminal, shows what is written, and has no file."""

    shown = ""

    def writable(self):
        return True

    def isatty(self):
        return True

    def write(self, text):
        self.shown += text
        return len(text)


def small_trainer(make=nn.Sequential):
    images, labels = np.zeros((20, 4, 4), np.float32), np.arange(20) % 2
    net = make(nn.Flatten(), nn.Linear(16, 2, rng=0))
    return Trainer(net, Adam(net.parameters()), (images, labels), 10)


def test_a_window_gets_a_line_per_epoch_and_no_bar(monkeypatch):
    """It can't go back to the start of a line: each state of a bar would follow the one before, in one endless line."""
    out, err = Window(), Window()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    small_trainer().fit(2)
    assert err.shown == ""
    assert [line[:11] for line in out.shown.splitlines()] == ["epoch   1 |", "epoch   2 |"]


def test_a_program_without_a_console(monkeypatch):
    """Of a .pyw, Python has no streams."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    trainer = small_trainer()
    trainer.fit(1)
    assert trainer.progress.epoch == 1
    assert not is_terminal(None)


def test_a_notebook_is_no_terminal_though_its_stream_has_the_server_s(monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    stream = SimpleNamespace(isatty=lambda: False, fileno=lambda: 2)
    assert not is_terminal(stream)
    stream.isatty = lambda: True
    assert is_terminal(stream)


BARS = """
import threading

from tqdm import tqdm

from minidl import Trainer, load_mnist, nn, split
from minidl.cli.display import Overwritten
from minidl.optim import Adam

data = split(load_mnist("mnist5k"), counts=(100, 50))
states, write = [], Overwritten.write
Overwritten.write = lambda self, text: (states.append(text), write(self, text))


def train():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0))
    Trainer(net, Adam(net.parameters()), data).fit(3)


for _ in tqdm(range(2)):
    train()
threads = [threading.Thread(target=train) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sum("step/s" in state for state in states) >= 12
"""


@pytest.mark.extra("nbclient", "nbformat", "ipykernel")
def test_a_saved_notebook_has_the_lines_of_the_epochs_and_not_each_state_of_a_bar(tmp_path, monkeypatch):
    """Whoever runs it, JupyterLab or papermill, and below a bar of the program's own or beside another thread's."""
    import nbclient
    from nbformat import v4 as nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.new_notebook(cells=[nbformat.new_code_cell(BARS)])
    nbclient.execute(notebook, cwd=tmp_path, kernel_name="python3", extra_arguments=["--log-level=ERROR"], timeout=300)
    saved = [each for each in notebook.cells[0].outputs if each.get("name") != "stderr"]
    printed = "".join(each.text for each in saved if each.output_type == "stream")
    assert [line.split(" |")[0] for line in printed.splitlines()].count("epoch   3") == 4
    assert len(printed.splitlines()) == 12
    assert [dict(each.data) for each in saved if each.output_type == "display_data"] == [{"text/plain": ""}] * 4


def test_commands_are_quoted_for_every_shell():
    """cmd.exe knows only double quotes: with others, it takes a | for a pipe."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("tutorials/**/*.md"), *ROOT.glob("tutorials/*.py")]
    texts = {str(page): page.read_text(encoding="utf-8") for page in pages} | {"--help": make_parser().format_help()}
    lines = [(name, line) for name, text in texts.items() for line in text.splitlines()]
    assert [each for each in lines if re.match(r"[#\s$!]*(\S*python\S*|py) -m .* '", each[1])] == []


# ---- line endings ----


def test_a_file_with_other_line_endings_has_not_changed(tmp_path):
    """Git changes them between Windows and the other systems."""
    file = tmp_path / "mine.py"
    code = b'"""A network,\nmine."""\nfrom minidl import nn\n\n\nclass Net(nn.Flatten):\n    pass\n'
    file.write_bytes(code)
    before, loaded = hashes(f"{file}:Net"), load(f"{file}:Net")
    file.write_bytes(code.replace(b"\n", b"\r\n"))
    assert hashes(f"{file}:Net") == before
    assert load(f"{file}:Net") == loaded
    assert changed(f"{file}:Net", before, "run") is None
    earlier = {"/home/ada/mine.py": file_sha256(file)}  # runs once had the hash of the bytes: they go on, too
    assert changed(f"{file}:Net", earlier, "run") is None
    check_unchanged(f"{file}:Net", earlier, "run")
    file.write_bytes(code.replace(b"mine", b"ours"))
    assert hashes(f"{file}:Net") != before
    with pytest.raises(UserError, match="has changed since run was trained with it"):
        check_unchanged(f"{file}:Net", {**before, **earlier}, "run")


# ---- names ----


def test_an_accent_is_the_same_in_one_character_and_in_two(tmp_path):
    whole, apart = (unicodedata.normalize(form, "né") for form in ("NFC", "NFD"))
    for part, name in (("train", apart), ("train", "b"), ("train", "z"), ("test", whole), ("test", "b")):
        (tmp_path / part / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / part / name / "1.png")
    found = find_pictures(tmp_path)
    assert found.classes == ["b", whole, "z"]
    assert [len(files) for files in found.test] == [1, 1, 0]
    (tmp_path / "train" / whole).mkdir()  # both in one folder, as only Linux can have them: neither is lost
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "train" / whole / "1.png")
    assert sorted(find_pictures(tmp_path / "train").classes) == sorted(["b", whole, apart, "z"])


class Unmarked(zipfile.ZipInfo):
    """A member as macOS writes it: its name is UTF-8, but the flag that says so is not set."""

    __slots__ = ()

    def _encodeFilenameFlags(self):
        return self.filename.encode(), self.flag_bits


@pytest.mark.parametrize("name", ["José", "Zoë Ü", "数学", "plain"])
def test_names_in_a_zip_by_macos(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(Unmarked(f"{name}/adam.py"), b"x = 1\n")
        packed.writestr(Unmarked(f"{name}/empty/"), b"")
    found = look(tmp_path / "a.zip")
    assert {path: read() for path, read in found.files.items()} == {f"{name}/adam.py": b"x = 1\n"}
    assert empty_folders(tmp_path / "a.zip") == [f"{name}/empty/"]


def test_names_in_a_zip_by_windows(tmp_path):
    """Code page 437, which Python reads by itself."""
    old = type("Old", (zipfile.ZipInfo,), {"_encodeFilenameFlags": lambda self: (self.filename.encode("cp437"), 0)})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(old("Zoë/adam.py"), b"x = 1\n")
    assert list(look(tmp_path / "a.zip").files) == ["Zoë/adam.py"]


def test_a_zip_that_is_none(tmp_path, monkeypatch):
    """On a stick, macOS writes a file ._X with notes beside each file X; and a download may be half a zip."""
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "._gzip.zip").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    with pytest.raises(DataError, match="emnist-letters is not in"):
        load_mnist("emnist-letters")
    (tmp_path / "gzip.zip").write_bytes(b"PK\3\4 and no end")
    with pytest.raises(DataError, match=r"gzip\.zip is damaged: it can't be opened as a zip file .*; get it again"):
        load_mnist("emnist-letters")


def test_notes_by_macos_beside_the_runs_of_a_study(tmp_path):
    for folder in ("runs", "crashed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "._0123.json").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    store = Store(tmp_path)
    assert (store.damaged, store.failed()) == ([], set())


def test_the_command_that_resumes_quotes_a_file_name_with_a_space(tmp_path):
    file = tmp_path / "my net.py"
    file.write_text("from minidl import nn\n\n\nclass Net(nn.Sequential):\n    pass\n")
    trainer = small_trainer(load(f"{file}:Net").thing)
    trainer.save(tmp_path / "run")
    assert resume_command(trainer.run).endswith("run --model 'my net.py:Net'")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (r"C:\Users\ada\net.py:Net", "net.py:Net"),
        (r"\\server\share\digits", "digits"),
        ("D:/digits", "digits"),
        ("mine.py:Net", "mine.py:Net"),
        ("/home/ada/net.py:Net", "net.py:Net"),
        ("//data/digits", "digits"),  # Windows would take this for a server
        (r"/home/ada/2026\11", r"2026\11"),
        ("", ""),
    ],
)
def test_the_name_of_a_path_of_any_system(path, name):
    assert bare(path) == name


def test_brackets_in_a_folder_s_name_are_no_pattern(tmp_path):
    """Windows' shells leave * to the program; theirs would have taken the brackets as they are."""
    (tmp_path / "scans [1]").mkdir()
    (tmp_path / "scans [1]" / "a.png").touch()
    assert matching([tmp_path / "scans [1]" / "*.png"]) == [tmp_path / "scans [1]" / "a.png"]


@pytest.mark.parametrize("folder", ["C:\\Users\\Zoë Ü\\", "D:/mine/", "/home/zoë/"])
def test_a_run_from_another_system(folder, tmp_path):
    """Tables and reports show the files of a run without their folders, which may have somebody's name."""
    shutil.copytree(Path(minidl.data.__file__).parent / "embedded", tmp_path / "digits")
    (tmp_path / "net.py").write_text(NET)
    network = ["--model", f"{tmp_path / 'net.py'}:Net", "--dataset", tmp_path / "digits"]
    assert command(*network, "--batch-size", "500", "--epochs", "1", "--out", tmp_path / "run").returncode == 0
    checkpoint = load_checkpoint(tmp_path / "run" / CHECKPOINT)
    here, there = (json.dumps(place)[1:-1] for place in (f"{tmp_path}{os.sep}", folder))
    state = json.loads(json.dumps(checkpoint.state).replace(here, there))
    del state["format"], state["optimizer"]
    save_checkpoint(tmp_path / "run" / CHECKPOINT, checkpoint.model, checkpoint.optimizer, state)
    for name in ("config.json", "summary.json"):
        (tmp_path / "run" / name).unlink()
    page = compare_page([read_run(tmp_path / "run", 0)])
    page += report_page(facts_of_folder(tmp_path / "run", f"{tmp_path / 'net.py'}:Net", str(tmp_path / "digits")))
    drawing = facts(load_run(tmp_path / "run", model=f"{tmp_path / 'net.py'}:Net"))
    page += f"{drawing['title']}, {drawing['about']}"
    assert "net.py:Net" in page
    assert "Net on digits" in page
    assert folder not in page
    with pytest.raises(DataError, match="give the folder that holds its four IDX files now"):
        load_mnist(f"{folder}digits")


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_lists_names_in_any_encoding(tmp_path):
    """With core.quotepath off, as where names have no ASCII letters; Windows then reads them in its code page."""
    for words in (["init", "-q"], ["config", "core.quotepath", "false"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / os.fsdecode("数".encode("gbk") if sys.platform == "linux" else "数".encode())).touch()
    assert made._git(tmp_path, "status", "--porcelain").startswith("?? ")


# ---- files and folders ----


def test_a_file_where_the_runs_belong(tmp_path, monkeypatch):
    """Windows does not say that it is no folder, but that there is nothing below it: Python then makes the folder."""
    (tmp_path / "runs").write_text("notes")
    tries = []

    def mkdir(path, parents=False):
        tries.append(path)
        assert len(tries) < 10
        raise FileExistsError(17, "exists", str(path.parent))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(FileExistsError):
        make_new(tmp_path / "runs" / "now-mlp-adam")


def test_a_part_that_a_virus_scanner_has_open_hides_no_error(tmp_path, monkeypatch):
    def unlink(path, **how):
        raise PermissionError(13, "it is open", str(path))

    monkeypatch.setattr("os.unlink", unlink)
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("code", "advice"), [(None, "free some space"), (5, "close the programs that have files there")]
)
def test_what_to_do_where_a_file_can_t_be_written(code, advice, tmp_path):
    error = PermissionError(13, "denied")
    if code:
        error.winerror = code
    run = SimpleNamespace(where=tmp_path, folder=tmp_path, needs="", held=SimpleNamespace(path=lambda: tmp_path))
    assert advice in lost_place(run, error)
