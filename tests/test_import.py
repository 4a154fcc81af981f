"""`import minidl` is quick and brings along nothing that it does not need."""

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", ["optim", "data"])
def test_the_folders_of_a_clone_are_no_packages_of_their_own(name):
    """There would be two classes Adam, and neither would be an instance of the other's bases."""
    result = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"ImportError: import minidl.{name}: " in result.stderr
