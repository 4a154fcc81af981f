"""Files of absurd sizes, and values that would be written and never read again: one line, at once, and first of all."""

import gzip
import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from minidl import Trainer, compare, load_mnist, load_run, nn, report, split, train, tune, weights
from minidl.data import write_idx
from minidl.optim import SGD
from minidl.predict import main as predict
from minidl.study.provenance import begun_with, read_commands
from minidl.study.store import LONGEST, Store
from minidl.trace import __main__ as trace
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from tests.commands import tiny_dataset

HUGE = 1 << 38  # bytes, all of them a hole: reading them would take minutes, and more memory than there is


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = tiny_dataset(folder / "d", 60)
    args = ["--dataset", data, "--model", "linear", "--epochs", 1, "--no-fast", "--out", folder / "run"]
    assert train.main([str(each) for each in [*args, "--trace", folder / "a.html"]]) == 0
    write_idx(folder / "x.idx", np.zeros((2, 10, 8), np.uint8))
    return folder


@pytest.fixture
def here(made, tmp_path):
    shutil.copytree(made, tmp_path / "here")
    return tmp_path / "here"


def grow(path, size: int = HUGE) -> None:
    """A hole after the file's end."""
    with open(path, "ab") as file:
        file.truncate(size)


def said(capsys, main, *words, status: int) -> str:
    start = time.monotonic()
    assert main([str(word) for word in words]) == status
    assert time.monotonic() - start < 20
    out, err = capsys.readouterr()
    assert status == 0 or len(err.splitlines()) == 1
    return out + err


def test_files_beside_a_checkpoint(here, capsys):
    before = {name: (here / "run" / name).read_bytes() for name in ("metrics.jsonl", "config.json", "summary.json")}
    for name in before:
        grow(here / "run" / name)
    assert said(capsys, compare.main, here / "run", here / "run", status=0).count("taken from the checkpoint") >= 3
    said(capsys, report.main, here / "run", status=0)
    said(capsys, predict, here / "run", here / "x.idx", status=0)
    assert said(capsys, train.main, "--resume", here / "run", status=0).count("rewritten from the checkpoint") == 3
    assert before == {name: (here / "run" / name).read_bytes() for name in before}


def test_a_checkpoint(here, capsys):
    grow(here / "run" / "checkpoint.safetensors")
    for main, *words in ((predict, here / "x.idx"), (compare.main,), (report.main,)):
        assert "checkpoint" in said(capsys, main, here / "run", *words, status=2)
    assert "damaged" in said(capsys, train.main, "--resume", here / "run", status=2)


def test_a_checkpoint_that_memory_has_no_room_for(here, monkeypatch, capsys):
    def full(path):
        raise MemoryError

    monkeypatch.setattr(weights, "_read_tensors", full)
    assert "bytes, more than fits in memory" in said(capsys, predict, here / "run", here / "x.idx", status=2)
    with pytest.raises(weights.WeightsError, match="more than fits in memory"):
        nn.Linear(2, 2).load(here / "run")


def test_other_files(here, capsys):
    args = ["--dataset", here / "d", "--model", "linear", "--epochs", 1]
    grow(here / "a.html")
    for words in ((here / "a.html", "--out", here / "b.html"), (here / "b.html", "--out", here / "a.html")):
        assert "no replay page" in said(capsys, trace.main, *words, status=2)
    grow(here / "t.json")
    assert "larger than" in said(capsys, tune.main, *args, "--out", here / "t.json", status=2)
    grow(here / "mine.py")
    words = ["--dataset", here / "d", "--model", f"{here / 'mine.py'}:Net", "--out", here / "new"]
    assert "too large for a Python source file" in said(capsys, train.main, *words, status=2)
    grow(here / "d" / "class-names.txt")
    assert "too large for the names" in said(capsys, train.main, *args, "--out", here / "new", status=2)
    assert not (here / "new").exists()


@pytest.mark.parametrize("content", [b" " * (2 * LONGEST), b"[" * (2 * LONGEST), b"\n" * 50_000, b"null\n" * 20_000])
def test_a_study_s_pack(tmp_path, content):
    with gzip.open(tmp_path / "runs.jsonl.gz", "wb", 1) as file:
        file.write(content)
    start = time.monotonic()
    store = Store(tmp_path)
    assert time.monotonic() - start < 20
    assert 1 <= len(store.damaged) <= 10_003
    assert "nothing after it is read" in store.damaged[-1]
    assert not store.all()


def test_a_study_s_pack_that_is_empty(tmp_path):
    """gzip finds no fault in a file without a byte."""
    (tmp_path / "runs.jsonl.gz").touch()
    assert Store(tmp_path).damaged == [f"{tmp_path / 'runs.jsonl.gz'} is damaged: it is empty"]


@pytest.mark.parametrize("content", ["[" * 100_000, "5", '[5, {"command": 3}, {}]', "null", "", '"x"'])
def test_a_study_s_commands(tmp_path, content):
    (tmp_path / "commands.json").write_text(content)
    assert read_commands(tmp_path) == []
    assert begun_with(tmp_path) is None


# ---- what is written can be read ----


def test_the_longest_names_of_classes(here, capsys):
    names = here / "d" / "class-names.txt"
    args = ["--dataset", here / "d", "--model", "linear", "--epochs", 1]
    names.write_text("".join(f"{k}{'n' * 254}\n" for k in range(4)))
    said(capsys, train.main, *args, "--out", here / "new", status=0)
    said(capsys, predict, here / "new", here / "x.idx", status=0)
    names.write_text("".join(f"{k}{'n' * 255}\n" for k in range(4)))
    assert "256 characters: at most 255 are allowed" in said(capsys, train.main, *args, "--out", here / "n2", status=2)
    assert not (here / "n2").exists()


def test_a_run_that_could_not_be_read_back_is_not_begun(tmp_path):
    """Once it was trained to its end, and then nothing could be done with it."""
    digits = load_mnist("mnist5k")
    data = split(replace(digits, class_names=tuple(f"{k}{'n' * 300}" for k in range(10))))
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0))
    with pytest.raises(ValueError, match=r"could not be read back from its checkpoint: data\.class_names"):
        Trainer(net, SGD(net.parameters(), lr=0.1), data, folder=tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())


def test_a_sum_of_losses_beyond_float32(here, capsys):
    """Finite losses, of 1e38 each: their sum over an epoch is larger than any of them can be."""
    file = here / "run" / "checkpoint.safetensors"
    c = load_checkpoint(file)
    state = json.loads(json.dumps(c.state))
    state["trainer"]["loss_sum"] = 6e42
    scalars = state.pop("optimizer")
    save_checkpoint(file, c.model, {**c.optimizer, "scalars": scalars}, state)
    assert load_run(here / "run").trainer.progress.loss_sum == 6e42
