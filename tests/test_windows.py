"""Windows, simulated: files that are open, shells that quote otherwise, signals and modules that it lacks."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from minidl import telling
from minidl.cli.parser import matching
from minidl.data import atomic
from minidl.training.lock import LOCK, lock

ROOT = Path(__file__).parent.parent
TEMPORARY = 1 << 30


@pytest.fixture
def temporary(monkeypatch):
    """O_TEMPORARY: a file that is removed when its descriptor is closed, and that meanwhile no one else can open."""
    opened, real_open, real_close = {}, os.open, os.close

    def open_(path, flags, mode=0o777, *, dir_fd=None):
        assert dir_fd is None
        if path in opened.values() and not flags & os.O_EXCL:
            raise PermissionError(13, "Permission denied", str(path))
        descriptor = real_open(path, flags & ~TEMPORARY, mode)
        if flags & TEMPORARY:
            opened[descriptor] = path
        return descriptor

    def close(descriptor):
        real_close(descriptor)
        if descriptor in opened:
            opened.pop(descriptor).unlink()

    monkeypatch.setattr(os, "O_TEMPORARY", TEMPORARY, raising=False)
    monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "close", close)
    return opened


def test_a_folder_is_free_again_when_its_lock_is_let_go(tmp_path, temporary):
    """In one process, as a notebook is: save(), fit() and fit() again each take the folder."""
    for _ in range(3):
        with ExitStack() as held:
            assert lock(tmp_path, held).note is None
            with (
                ExitStack() as other,
                pytest.raises(ValueError, match=r"^another process is training .* then remove .*\.minidl\.lock"),
            ):
                lock(tmp_path, other)
            assert (tmp_path / LOCK).exists()
        assert not list(tmp_path.iterdir())
    assert not temporary


@pytest.mark.parametrize("looks", [1, 4, 99])
def test_a_file_that_a_scanner_has_open_is_waited_for(tmp_path, monkeypatch, looks):
    waited, real = [], os.replace

    def replace(*args, **kwargs):
        if len(waited) < looks:
            error = PermissionError(13, "Access is denied")
            error.winerror = 5
            raise error
        real(*args, **kwargs)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", waited.append)
    (tmp_path / "file").write_text("old")
    if looks < 5:
        atomic.write_text(tmp_path / "file", "new")
    else:
        with pytest.raises(PermissionError, match="Access is denied"):
            atomic.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == ("new" if looks < 5 else "old")
    assert waited == [0.1, 0.2, 0.4, 0.8][:looks]
    assert len(list(tmp_path.iterdir())) == 1


def test_elsewhere_a_folder_that_may_not_be_written_is_told_at_once(tmp_path, monkeypatch):
    def replace(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(PermissionError):
        atomic.write_text(tmp_path / "file", "new")


def test_commands_are_shown_as_the_shell_takes_them(monkeypatch):
    """cmd takes single quotes for letters: --resume 'runs\\first' would be no folder."""
    words = ["--resume", r"C:\Users\Ada L\runs\20261129-mlp-hybrid", "--dataset", r"data\mine", "--switch", "loss<0.5"]
    monkeypatch.setattr(telling, "os", SimpleNamespace(name="nt"))
    told = telling.typed(*words)
    assert told == (r'--resume "C:\Users\Ada L\runs\20261129-mlp-hybrid" --dataset data\mine --switch "loss<0.5"')
    monkeypatch.setattr(telling, "os", SimpleNamespace(name="posix"))
    assert telling.typed("a b", "c") == "'a b' c"


def test_names_with_a_star_are_found_where_the_shell_hands_them_on(tmp_path):
    for name in ("b.png", "a.png", "c[1].png", "d.jpg"):
        (tmp_path / name).touch()
    found = matching([tmp_path / "*.png", tmp_path / "d.jpg", tmp_path / "c[1].png", tmp_path / "?.gif"])
    assert [path.name for path in found] == ["a.png", "b.png", "c[1].png", "d.jpg", "c[1].png", "?.gif"]
    (tmp_path / "*.png").touch()
    assert matching([tmp_path / "*.png"]) == [tmp_path / "*.png"], "a file of that very name"


LACKS = """
import importlib, os, select, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for module, names in (
    (os, "fork register_at_fork getuid geteuid killpg sched_getaffinity mkfifo statvfs O_NOFOLLOW O_DIRECTORY O_PATH"),
    (signal, "SIGHUP SIGKILL SIGBUS SIGUSR1 SIGALRM SIGXCPU SIGPIPE SIGCHLD pthread_sigmask alarm setitimer"),
    (select, "poll POLLIN POLLOUT POLLHUP"),
):
    for name in names.split():
        vars(module).pop(name, None)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def lacking(*modules):
    """What Python says to importing these where it lacks what it lacks on Windows."""
    return subprocess.run([sys.executable, "-c", LACKS, *modules], cwd=ROOT, capture_output=True, text=True)


def test_every_command_and_the_helpers_of_the_tests_can_be_imported():
    programs = [f"minidl.{name}" for name in ("train", "tune", "predict", "report", "compare")]
    programs += [f"minidl.{name}.__main__" for name in ("data", "study", "trace", "fast")]
    teaching = [f"tutorials.assignments.{name}" for name in ("grade", "handout")]
    tests = [f"tests.{name}" for name in ("commands", "fuzz_idx", "test_signals", "test_streams", "test_tune")]
    found = lacking(*programs, *teaching, *tests, "tests.test_machines")
    assert (found.returncode, found.stderr) == (0, "")


def test_the_grader_says_that_it_needs_linux(tmp_path, monkeypatch, capsys):
    from tutorials.assignments import grade, session

    monkeypatch.setattr(session, "os", SimpleNamespace(name="nt"))
    assert grade.main(["A1", str(ROOT / "minidl" / "tensor.py")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "grade on Linux (WSL is fine)" in said.err


HIDDEN = """
import ctypes
import numpy as np
from minidl import Tensor, fast, nn, ops, seed

class Hidden:  # a library whose symbols can't be looked up by the module that was linked to it
    def __init__(self, path): pass
    def __getattr__(self, name): raise AttributeError(name)

ctypes.PyDLL = Hidden
with seed(0):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(96, 32), nn.ReLU(),
        nn.Linear(32, 3),
    )
x = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
loss = ops.cross_entropy(net(Tensor(x)), np.arange(8) % 3)
loss.backward()
assert fast.version()
print(float(loss.data), *(float(np.abs(p.grad).sum()) for p in net.parameters()))
"""


@pytest.mark.extra("numba")
def test_loops_where_numpy_s_blas_is_out_of_reach():
    """Where no BLAS is found whose products can be called, they are NumPy's, in layers done in one piece too."""
    env = {name: value for name, value in os.environ.items() if name != "MINIDL_NO_FAST"}
    hidden, usual = (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
        for code in (HIDDEN, HIDDEN.replace("ctypes.PyDLL = Hidden", ""))
    )
    assert (hidden.returncode, usual.returncode) == (0, 0), hidden.stderr
    numbers = [[float(word) for word in each.stdout.split()] for each in (hidden, usual)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4, abs=1e-5)
