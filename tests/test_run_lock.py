"""One process at a time trains in a run folder: a second is refused, and none is kept out by one that is dead."""

import errno
import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from minidl.training.run import lock
from tests.commands import Child, arguments, at_place, difference, fails, finished, outcome, tiny_dataset, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows locks no folders")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "r"
    return finished(arguments(data, out), out)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.01)


def pause(here: Path, go: Path) -> None:
    here.touch()
    wait_for(go)


def paused(n: int, place: str, folder: Path, *args: object, after: bool = False) -> Child:
    """Training that has come to the n-th call of a place, and waits there for a file `go` in the folder."""
    folder.mkdir()
    sabotage = partial(at_place, n, place, partial(pause, folder / "here", folder / "go"), after)
    child = Child(*args, log=folder / "log", sabotage=sabotage)
    wait_for(folder / "here")
    return child


def test_a_run_that_is_under_way_is_not_resumed(data, whole, tmp_path):
    out = tmp_path / "r"
    first = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "first", *arguments(data, out))
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    refused = f"another process is training in {out}: let it end, or stop it and go on with --resume {out}\n"
    assert fails("--resume", out) == f"minidl.train: error: {refused}"
    assert before == {f.name: f.read_bytes() for f in out.iterdir()}
    (tmp_path / "first" / "go").touch()
    assert first.wait() == 0, first.output
    assert not difference(outcome(out), outcome(whole))
    assert "is finished" in train("--resume", out, log=tmp_path / "log")[1]


def test_a_run_that_was_killed_is_resumed_at_once(data, whole, tmp_path):
    out = tmp_path / "r"
    first = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "first", *arguments(data, out))
    assert first.kill_after(0)
    status, output = train("--resume", out, log=tmp_path / "log")
    assert status == 0, output
    assert not difference(outcome(out), outcome(whole))


def test_two_that_begin_in_one_folder_at_once(data, whole, tmp_path):
    """Both have found it unused; the one that comes second leaves it alone."""
    out = tmp_path / "r"
    late = paused(
        1, "minidl.training.run:check_unused", tmp_path / "late", *arguments(data, out), "--seed", 1, after=True
    )
    first = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "first", *arguments(data, out))
    (tmp_path / "late" / "go").touch()
    assert late.wait() == 2, late.output
    assert f"another process is training in {out}" in late.output
    (tmp_path / "first" / "go").touch()
    assert first.wait() == 0, first.output
    assert not difference(outcome(out), outcome(whole))


def test_the_lock_goes_with_its_holder(tmp_path):
    for _ in range(2):
        with ExitStack() as held, ExitStack() as other:
            lock(tmp_path, held)
            with pytest.raises(ValueError, match="another process is training"):
                lock(tmp_path, other)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["os.open", "fcntl.flock"])
def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch, missing):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "no locks available")

    with ExitStack() as held, monkeypatch.context() as patched:
        patched.setattr(missing, refuse)
        lock(tmp_path, held)
        lock(tmp_path, held)
