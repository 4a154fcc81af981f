"""One process at a time trains in a run folder: a second is refused, and none is kept out by one that is dead."""

import errno
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minidl import Observer, Trainer, load_run, nn
from minidl.optim import SGD
from minidl.training.checkpoint import CheckpointError
from minidl.training.lock import LOCK, _machine, lock
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
    refused = f"another process is training in {out}: let it finish, or stop it and resume with --resume {out}\n"
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


def refuse(*args, **kwargs):
    raise OSError(errno.ENOLCK, "no locks available")


def test_where_the_system_has_no_lock_the_file_keeps_others_out(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refuse)
    with ExitStack() as held:
        assert lock(tmp_path, held).note is None
        with ExitStack() as other, pytest.raises(ValueError, match=r"is training in .* then remove .*\.minidl\.lock"):
            lock(tmp_path, other)
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_where_no_file_can_be_made_the_lock_keeps_others_out(tmp_path, monkeypatch):
    monkeypatch.setattr("minidl.training.lock._write", refuse)
    with ExitStack() as held, ExitStack() as other:
        assert lock(tmp_path, held).note is None
        with pytest.raises(ValueError, match="another process is training"):
            lock(tmp_path, other)


def test_where_neither_works_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("minidl.training.lock._write", refuse)
    for _ in range(2):
        with ExitStack() as held:
            assert "has no locks: make sure that no second process trains there" in lock(tmp_path, held).note


@pytest.mark.parametrize(
    ("content", "kept_out"),
    [
        ("this machine", False),  # the system's lock is free: whoever made the file is gone
        ("another machine", True),  # where the drive's locks may be unknown here
        ("", True),
        ("[1]", True),
    ],
)
def test_a_file_that_was_left(tmp_path, content, kept_out):
    machines = {"this machine": _machine(), "another machine": {"host": "far", "boot": "away"}}
    (tmp_path / LOCK).write_text(json.dumps({**machines[content], "pid": 7}) if content in machines else content)
    with ExitStack() as held:
        if kept_out:
            with pytest.raises(ValueError, match="then remove"):
                lock(tmp_path, held)
        else:
            lock(tmp_path, held)
    assert (tmp_path / LOCK).exists() == kept_out


# ---- interleavings: each of two processes is held at each place, while the other runs to its end ----

BEGINNING = [  # where a run begins, and what comes next
    "minidl.train:check_unused", "minidl.training.run:check_unused", "minidl.training.run:lock",
    "minidl.training.run:Run.sweep", "minidl.training.run:Run.save", "minidl.training.run:Run.write_config",
    "minidl.trainer:Trainer.train_step", "minidl.training.run:Run.write_metrics",
    "minidl.training.run:Run.write_summary", "minidl.cli.closing:plot_curves",
]  # fmt: skip


@pytest.mark.parametrize("place", BEGINNING)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_one_is_held_while_another_begins_in_its_folder(data, whole, tmp_path, place, after):
    """Whichever has the folder ends as if it were alone; the other is refused, before or after, and changes nothing."""
    out = tmp_path / "r"
    held = paused(1, place, tmp_path / "held", *arguments(data, out), after=after)
    status, output = train(*arguments(data, out), log=tmp_path / "log")
    finished_first = {f.name: f.read_bytes() for f in out.iterdir()} if status == 0 else None
    (tmp_path / "held" / "go").touch()
    late = held.wait()
    assert sorted((status, late)) == [0, 2], output + held.output
    assert not difference(outcome(out), outcome(whole))
    if finished_first:
        assert finished_first == {f.name: f.read_bytes() for f in out.iterdir()}
    assert "Traceback" not in output + held.output


@pytest.mark.parametrize("place", ["minidl.training.run:lock", *BEGINNING[6:]])
def test_one_is_held_while_another_resumes(data, whole, tmp_path, place):
    out = tmp_path / "r"
    first = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "first", *arguments(data, out))
    assert first.kill_after(0)
    held = paused(1, place, tmp_path / "held", "--resume", out)
    status, output = train("--resume", out, log=tmp_path / "log")
    assert status == (0 if place.endswith("lock") else 2), output
    (tmp_path / "held" / "go").touch()
    assert held.wait() == 0, held.output
    assert not difference(outcome(out), outcome(whole))


# ---- a Trainer's folder ----


def trainer(folder: Path | None) -> Trainer:
    net = nn.Linear(4, 2, rng=np.random.default_rng(0))
    return Trainer(Flat(net), SGD(net.parameters(), lr=0.1), ARRAYS, batch_size=4, folder=folder)


class Flat(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.flatten(1))


ARRAYS = (np.random.default_rng(1).random((8, 1, 2, 2), np.float32), np.arange(8) % 2)


def loaded(folder: Path):
    return load_run(folder, Flat(nn.Linear(4, 2)), ARRAYS)


def test_a_trainers_folder_is_locked_while_it_is_made_and_trained_in(tmp_path):
    with ExitStack() as held:
        lock(tmp_path, held)
        with pytest.raises(ValueError, match="another process is training in"):
            trainer(tmp_path)
    assert not list(tmp_path.iterdir())
    made = trainer(tmp_path / "r")
    for work in (lambda: made.fit(1, verbose=False), made.save):
        with ExitStack() as held:
            lock(tmp_path / "r", held)
            with pytest.raises(ValueError, match="another process is training in"):
                work()
        work()
    assert not (tmp_path / "r" / LOCK).exists()


def test_of_two_that_loaded_one_state_only_the_first_goes_on(tmp_path):
    """Once the second wrote its older state over what the first had trained since."""
    trainer(tmp_path / "r").fit(1, verbose=False)
    first, second = loaded(tmp_path / "r"), loaded(tmp_path / "r")
    second.trainer  # noqa: B018 (it is made now)
    first.fit(2, verbose=False)
    first.fit(1, verbose=False)
    first.save()
    before = {file.name: file.read_bytes() for file in (tmp_path / "r").iterdir()}
    for work in (lambda: second.fit(1, verbose=False), second.save):
        with pytest.raises(ValueError, match=r"another Trainer, here or in another program, has continued the run in"):
            work()
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "r").iterdir()}
    second.save(tmp_path / "other")
    assert [len(loaded(tmp_path / name).metrics) for name in ("r", "other")] == [4, 1]
    shutil.rmtree(tmp_path / "r")
    with pytest.raises(ValueError, match="is gone"):
        first.fit(1, verbose=False)
    assert not (tmp_path / "r").exists()


def test_to_load_a_run_takes_nothing_away_from_who_trains_there(tmp_path):
    """Once it swept up the file that another process was just writing, whose training ended with an error."""
    trainer(tmp_path)
    part = tmp_path / ".checkpoint.safetensors.00000000.part"
    part.touch()
    run = loaded(tmp_path)
    run.evaluate(ARRAYS)
    run.trainer.evaluate(ARRAYS)
    assert part.exists()
    run.fit(1, verbose=False)  # now the folder is its own
    assert not part.exists()


def test_an_observer_may_save_while_the_folder_is_held(tmp_path):
    class Saves(Observer):
        def after_epoch(self, record):
            made.save()
            made.save(tmp_path / f"epoch{record['epoch']}")

    made = trainer(tmp_path / "r")
    made.fit(2, Saves(), verbose=False)
    made.fit(1, verbose=False)
    assert [len(loaded(tmp_path / name).metrics) for name in ("epoch1", "epoch2", "r")] == [1, 2, 3]


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json", "curves.png"])
def test_a_folder_in_the_place_of_a_file(whole, tmp_path, name):
    """Once "[Errno 21] Is a directory", for curves.png at the end of the run."""
    shutil.copytree(whole, tmp_path / "r")
    (tmp_path / "r" / name).unlink()
    (tmp_path / "r" / name).mkdir()
    assert f"{name} is a folder, where a file of the run belongs" in fails("--resume", tmp_path / "r")
    own = tmp_path / "own"
    trainer(own)
    (own / name).unlink(missing_ok=True)
    (own / name).mkdir()
    with pytest.raises(CheckpointError, match="is a folder"):
        loaded(own).fit(1, verbose=False)


def test_a_folder_that_is_removed_and_begun_anew_by_another(data, whole, tmp_path):
    """A process that was stopped all the while writes nothing into the run of the other."""
    out = tmp_path / "r"
    held = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "held", *arguments(data, out))
    shutil.rmtree(out)
    assert train(*arguments(data, out), log=tmp_path / "log")[0] == 0
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    (tmp_path / "held" / "go").touch()
    assert held.wait() == 1
    assert f"{out} was removed during training" in held.output
    assert "--resume" not in held.output.splitlines()[-1]
    assert before == {f.name: f.read_bytes() for f in out.iterdir()}


def test_macos_says_by_fcntl_what_a_folder_is_called_now(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    asked = []

    def getpath(descriptor, what, room):
        asked.append(what)
        return str(tmp_path / "new").encode().ljust(len(room), b"\0")

    monkeypatch.setattr(fcntl, "F_GETPATH", 50, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", getpath)
    monkeypatch.setattr(sys, "platform", "darwin")
    (tmp_path / "old").mkdir()
    with ExitStack() as held:
        mine = lock(tmp_path / "old", held)
        assert mine.path() == tmp_path / "old"
        (tmp_path / "old").rename(tmp_path / "new")
        assert mine.path() == tmp_path / "new"
        (tmp_path / "new").rename(tmp_path / "elsewhere")
        assert mine.path() is None
    assert asked == [50, 50]


def test_a_folder_that_is_renamed_takes_its_run_along(data, whole, tmp_path):
    out, new = tmp_path / "r", tmp_path / "renamed"
    held = paused(5, "minidl.trainer:Trainer.train_step", tmp_path / "held", *arguments(data, out))
    out.rename(new)
    (tmp_path / "held" / "go").touch()
    assert held.wait() == 0, held.output
    assert f"written to  {new}" in held.output
    assert not difference(outcome(new), outcome(whole))
