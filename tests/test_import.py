"""`import minidl` is quick and brings along nothing that it does not need."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minidl import fast

ROOT = Path(__file__).parent.parent


def seconds_to_import(module: str) -> float:
    """Of the processor: other programs do not count."""
    code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
    return float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout)


def test_import_takes_at_most_a_fifth_of_a_second_more_than_numpy():
    seconds_to_import("minidl")  # compiles
    pairs = [(seconds_to_import("minidl"), seconds_to_import("numpy")) for _ in range(5)]
    assert min(a for a, _ in pairs) - min(b for _, b in pairs) < 0.2


@pytest.mark.parametrize(
    "module", ["minidl", "minidl.optim", "minidl.data", "minidl.trainer", "minidl.training.checkpoint"]
)
def test_import_brings_no_heavy_module(module):
    code = f"import sys, {module}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    loaded = set(result.stdout.split())
    assert module in loaded
    assert not loaded & {"matplotlib", "cupy", "torch", "PIL", "requests", "pooch"}


def test_batches_of_the_package_is_the_function():
    """Also where its module of that name was imported before or after, as its readers do."""
    code = """
import minidl.data.batches
from minidl.data import batches, load_mnist, split
from minidl.data.splits import Splits
import minidl, minidl.data
assert minidl.data.batches is batches is minidl.batches and minidl.data.split is split is minidl.split
train = split(load_mnist("mnist5k")).train
print(next(batches(train.images, train.labels, 8))[0].shape)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert result.stdout == "(8, 1, 28, 28)\n"


@pytest.mark.parametrize("name", ["optim", "data"])
def test_the_folders_of_a_clone_are_no_packages_of_their_own(name):
    """There would be two classes Adam, and neither would be an instance of the other's bases."""
    result = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"ImportError: import minidl.{name}: " in result.stderr


COMPUTES = """
import sys
import numpy as np
from minidl import Tensor, nn, ops
from minidl.optim import Adam
model = nn.Sequential(nn.Linear(12, 70, rng=0), nn.ReLU(), nn.Linear(70, 3, rng=1))
adam = Adam(model.parameters(), lr=1e-3)
ops.cross_entropy(model(Tensor(np.ones((5, 12), np.float32))), np.arange(5) % 3).backward()
adam.step()
print(*sys.modules)
"""


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_loops_that_are_compiled_already_bring_no_compiler():
    """What numba compiles with, and SciPy where it is installed, are a third of a second and 25 MB of each command."""
    for _ in range(2):  # the first may have to compile
        done = subprocess.run([sys.executable, "-c", COMPUTES], cwd=ROOT, capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert "minidl.fast.loops.kernels" in loaded
    assert not loaded & {"numba.np.linalg", "numba.np.arraymath", "scipy.linalg"}


def test_predict_is_the_function_and_the_command_runs_by_its_name():
    code = "from minidl import predict; print(predict.__module__, callable(predict))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout.split() == ["minidl.evaluation", "True"]


def test_a_python_without_the_packages_is_told_in_one_line():
    """A new terminal, in which the environment is not activated: the clone is found, NumPy is not."""
    done = subprocess.run([sys.executable, "-S", "-m", "minidl.train"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("minidl: error: numpy is not installed; this is Python 3.")
    assert "python -m pip install .\n" in done.stderr


def test_what_a_command_needs_is_what_pip_installs():
    from minidl.cli.early import NEEDS

    required = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.M | re.S)
    assert required is not None
    names = re.findall(r'^ *"([a-z]+)', required[1], re.M)
    assert [name.replace("pillow", "PIL") for name in names] == list(NEEDS)


@pytest.mark.parametrize("how", ["-m minidl.train", "-c import minidl"])
def test_an_old_python_is_told_in_one_line(how, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.version_info = (3, 9, 1); del sys.orig_argv")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    words = how.split(" ", 1)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert "needs Python 3.10 or later; this is Python" in done.stderr.splitlines()[-1]
    if words[0] == "-m":
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
