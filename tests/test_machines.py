"""Odd machines: no home, a console that is not UTF-8, a matplotlib of no use, folders that may not be read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minidl.data import load_mnist
from minidl.data.idx import DataError, write_idx
from minidl.data.mnist import cache_folder
from minidl.fast.gpu import launch

ROOT = Path(__file__).parent.parent
root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("setpriv"),
    reason="only root can be somebody else",
)
RUN = ["-m", "minidl.train", "--dataset", "mnist5k", "--model", "underfit", "--batch-size", "500", "--epochs", "1"]


def python(*arguments, cwd, closed=False, **environment):
    """Run the command in an environment with these variables; None takes one away."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    env = {name: str(value) for name, value in env.items() if value is not None}
    command = [sys.executable, *map(str, arguments)]
    command = ["sh", "-c", '"$@" >&-', "sh", *command] if closed else command
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8")


# ---- no home ----


def test_without_a_home_there_is_no_cache_and_auto_takes_what_is_embedded(monkeypatch):
    """Python says RuntimeError for a user of a container whom /etc/passwd does not have."""

    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MINIDL_CACHE", raising=False)
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", nobody)
    with pytest.raises(DataError, match=r"no home folder .* MINIDL_CACHE or MINIDL_DATA"):
        cache_folder()
    data = load_mnist("auto")
    assert data.name == "mnist5k"
    assert "no home folder" in data.note
    with pytest.raises(DataError, match="no home folder"):
        load_mnist("mnist")


@root
def test_a_user_that_the_machine_does_not_know(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path != Path("/") and os.stat(path).st_uid == 0:
            path.chmod(path.stat().st_mode | 0o755)
    folder.chmod(0o777)
    code = "import os, pathlib\ntry: pathlib.Path.home()\nexcept RuntimeError: print('none')"
    who = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "env", "-u", "HOME"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    found = subprocess.run([*who, sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if "none" not in found.stdout:
        pytest.skip("Python can't be run by somebody else here")
    command = [*who, sys.executable, *RUN, "--dataset", "auto", "--out", str(folder / "run")]
    found = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "no home folder" in found.stdout
    assert "Traceback" not in found.stderr


# ---- the console ----


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_a_console_that_is_not_utf8(encoding, tmp_path):
    """Names of folders, which may be anything, come out with escapes; statuses are as always."""
    found = python(*RUN, "--out", "数据", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert (found.returncode, found.stderr) == (0, "")
    assert "\\u6570\\u636e" in found.stdout
    found = python("-m", "minidl.train", "--resume", "数据", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert (found.returncode, found.stderr) == (0, "")
    found = python("-m", "minidl.train", "--resume", "数", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert found.returncode == 2
    assert found.stderr.startswith("minidl.train: error: there is no run folder \\u6570")


def test_a_console_that_is_closed(tmp_path):
    found = python(*RUN, "--out", "run", cwd=tmp_path, closed=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "run" / "summary.json").exists()


def test_version(tmp_path):
    for program in ("train", "predict", "tune", "study", "trace"):
        found = python("-m", f"minidl.{program}", "--version", cwd=tmp_path)
        assert (found.returncode, found.stderr) == (0, "")
        assert found.stdout.startswith("minidl ")


# ---- matplotlib ----


def test_an_unknown_backend_costs_the_picture_only(tmp_path):
    found = python(*RUN, "--out", "run", cwd=tmp_path, MPLBACKEND="nonsense")
    assert found.returncode == 0
    assert found.stderr.startswith("warning: the curves could not be plotted: ")
    assert "'nonsense' is not a valid value" in found.stderr
    assert found.stderr.count("\n") == 1
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.json", "metrics.jsonl", "checkpoint.safetensors", "summary.json"}
    found = python("-m", "minidl.train", "--resume", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "curves.png").exists(), "made as soon as it can be"


# ---- folders ----


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root everything is permitted
    monkeypatch.setenv("MINIDL_DATA", str(folder))
    for load in (lambda: load_mnist(str(folder)), lambda: load_mnist("mnist")):
        with pytest.raises(DataError, match="mine may not be read: permission denied"):
            load()


def test_a_folder_in_one_that_may_not_be_entered(tmp_path, monkeypatch):
    def forbidden(path, **how):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "locked" / "mine"))
    with pytest.raises(DataError, match="may not be read: permission denied"):
        load_mnist("mnist")


@root
def test_the_status_is_that_of_bad_input(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    who = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MINIDL_DATA": str(locked)}
    found = subprocess.run(
        [*who, sys.executable, "-m", "minidl.train"], cwd="/", env=env, capture_output=True, text=True
    )
    if "No module" in found.stderr or found.returncode in (126, 127):  # 127: nor its libraries
        pytest.skip("Python can't be run by somebody else here")
    assert found.returncode == 2
    assert found.stderr.startswith(f"minidl.train: error: the folder {locked} may not be read")


# ---- labels ----


def test_labels_that_leave_classes_empty_are_named(tmp_path):
    """EMNIST's letters are 1 to 26: 27 classes, of which 0 has no image."""
    images, labels = np.zeros((60, 4, 4), np.uint8), np.arange(60) % 26 + 1
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    data = load_mnist(str(tmp_path))
    assert data.classes == 27
    assert data.note == "no training image has the label 0, so not all of the 27 classes, 0 to 26, can be learned"
    assert load_mnist("mnist5k").note == ""
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(60, np.uint8))
    assert load_mnist(str(tmp_path)).note == "every training image has the label 0, so there is only one class"


def test_kernels_of_a_gpu_are_announced_without_a_home(monkeypatch, capsys):
    def nowhere():
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    monkeypatch.setattr(launch.Path, "home", nowhere)
    device = SimpleNamespace(compute_capability="90")
    xp = SimpleNamespace(__version__="14", cuda=SimpleNamespace(Device=lambda: device))
    launch.announce(xp, "x" * launch.ANNOUNCED)
    assert "compiling" in capsys.readouterr().err
