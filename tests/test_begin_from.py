"""`--resume RUN --epochs N --out NEW`: a new run that begins where RUN ended."""

import json

import numpy as np
import pytest

from minidl.train import main
from minidl.training.checkpoint import load_checkpoint
from minidl.training.run import BITS, CHECKPOINT

COMMON = ["--dataset", "mnist5k", "--model", "underfit", "--batch-size", "500"]


def train(*more, expect=0):
    assert main([*map(str, more)]) == expect


def weights(folder):
    return load_checkpoint(folder / CHECKPOINT).model


def metrics(folder):
    """Of each epoch, but for its time and the run's id."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "run")} for row in rows]


@pytest.fixture
def parent(tmp_path):
    def make(*options):
        train(*COMMON, "--epochs", 2, *options, "--out", tmp_path / "parent")
        return tmp_path / "parent"

    return make


@pytest.mark.parametrize(
    "options",
    [
        ["--opt", "adam"],
        ["--opt", "momentum", "--schedule", "step:every=5,factor=0.5"],
        ["--opt", "hybrid", "--switch", "epoch:1", "--weight-decay", "0.1", "--schedule", "constant"],
        ["--opt", "hybrid", "--switch", "epoch:3", "--lr-after", "projected"],
        ["--opt", "swats", "--switch", "swats:rtol=0.5"],
    ],
)
def test_it_ends_as_a_run_of_that_length(options, parent, tmp_path):
    """What does not go by the run's length: the same bits, and the parent stays as it was."""
    first, new, whole = parent(*options), tmp_path / "new", tmp_path / "whole"
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    train("--resume", first, "--epochs", 4, "--out", new)
    train(*COMMON, "--epochs", 4, *options, "--out", whole)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(new)[name], value)
    assert metrics(new) == metrics(whole)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == before


def test_it_names_its_parent_and_can_be_resumed(parent, tmp_path, capsys):
    first, new = parent("--opt", "adam"), tmp_path / "new"
    train("--resume", first, "--epochs", 3, "--out", new)
    assert "starting from" in capsys.readouterr().out
    wanted = {"run": str(first), "epochs": 2, "steps": 16}
    for name in ("config.json", "summary.json"):
        written = json.loads((new / name).read_text())
        assert written["parent"] == wanted
        assert written["bits"] == BITS
        assert "parent" not in json.loads((first / name).read_text())
    assert json.loads((new / "config.json").read_text())["epochs"] == 3
    (new / "summary.json").unlink()
    train("--resume", new)
    assert json.loads((new / "summary.json").read_text())["parent"] == wanted


@pytest.mark.parametrize(
    ("options", "again", "said"),
    [
        (["--opt", "adam", "--schedule", "cosine"], ["--schedule", "cosine"], "--schedule"),
        (["--opt", "momentum", "--schedule", "cosine:warmup=3"], ["--schedule", "constant"], "--schedule"),
        (["--opt", "hybrid", "--schedule-sgd", "cosine"], ["--schedule-sgd", "constant"], "--schedule-sgd"),
        (["--opt", "gnmt"], ["--opt", "gnmt"], "--opt gnmt"),
        (["--opt", "blend"], ["--opt", "blend"], "--opt blend"),
    ],
)
def test_what_goes_by_the_length_is_asked_for_anew(options, again, said, parent, tmp_path, capsys):
    first, new = parent(*options), tmp_path / "new"
    train("--resume", first, "--epochs", 4, "--out", new, expect=2)
    assert f"Give it again, with {said}" in capsys.readouterr().err
    assert not new.exists()
    train("--resume", first, "--epochs", 4, "--out", new, *again)
    assert len(metrics(new)) == 4


def test_an_own_optimizer_that_takes_the_length_is_asked_for_anew(parent, tmp_path, capsys):
    """Its rate, 0 at the end of the parent, jumped back to half of the first, in silence."""
    (tmp_path / "mine.py").write_text(
        "from minidl.optim import SGD, schedule\n"
        "def falls(params, lr=0.1, total_steps=1):\n"
        "    return SGD(params, lr=schedule.linear(lr, total_steps, 1, 0))\n"
    )
    own = ["--opt", f"{tmp_path / 'mine.py'}:falls"]
    first, new = parent(*own), tmp_path / "new"
    train("--resume", first, "--epochs", 4, "--out", new, expect=2)
    assert "falls is called with total_steps, which would be another number in a longer" in capsys.readouterr().err
    assert not new.exists()
    train("--resume", first, "--epochs", 4, "--out", new, *own)
    assert len(metrics(new)) == 4


def test_a_cosine_asked_for_anew_is_that_of_the_whole_length(parent, tmp_path):
    first, new = parent("--opt", "adam", "--lr", "0.01", "--schedule", "cosine"), tmp_path / "new"
    train("--resume", first, "--epochs", 4, "--out", new, "--schedule", "cosine")
    rates = [row["lr"] for row in metrics(new)]
    assert rates == pytest.approx([0.005, 0, 0.01 * (1 + np.cos(0.75 * np.pi)) / 2, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", 4], "add --out NEW"),
        (["--epochs", 2, "--out", "NEW"], "more than the 2"),
        (["--epochs", 4, "--out", "NEW", "--lr", 1], "leave out --lr"),
        (["--epochs", 4, "--out", "NEW", "--schedule", "cosine"], "leave out --schedule"),
        (["--epochs", 4, "--out", "NEW", "--opt", "sgd"], "--opt can't be changed"),
        (["--epochs", 4, "--out", "parent"], "already holds a run"),
        (["--out", "NEW"], "leave out --out"),
    ],
)
def test_what_can_not_be(options, message, parent, tmp_path, capsys, monkeypatch):
    first = parent("--opt", "adam")
    monkeypatch.chdir(tmp_path)
    train("--resume", first, *options, expect=2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "NEW").exists()


def test_a_run_that_has_not_ended_is_ended_first(parent, tmp_path, capsys):
    first = parent("--opt", "adam")
    other = tmp_path / "other"
    train("--resume", first, "--epochs", 4, "--out", other)
    state = load_checkpoint(first / CHECKPOINT)
    from minidl.training.checkpoint import save_checkpoint

    state.state["config"]["epochs"] = 3
    save_checkpoint(
        first / CHECKPOINT, state.model, state.optimizer, {k: v for k, v in state.state.items() if k != "optimizer"}
    )
    train("--resume", first, "--epochs", 5, "--out", tmp_path / "new", expect=2)
    assert "is at epoch 2 of 3: finish it first with --resume" in capsys.readouterr().err
