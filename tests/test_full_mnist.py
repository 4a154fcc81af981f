"""The front door on the full MNIST: the accuracies that tutorials/pages/optimizers.md promises.

The perceptron for its three seeds, the CNN, whose run takes ten times as long, for the first of them: the page's table
is made of all three by `python -m tests.compare`.
"""

import json
import os

import pytest

from minidl.training.build import NAMES
from tests.test_train import command

pytestmark = pytest.mark.mnist


def summary_of(out, *args):
    result = command("--dataset", "mnist", *args, "--out", out, timeout=1200)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize(
    ("model", "seed", "least"), [("cnn", 0, 0.990), ("mlp", 0, 0.980), ("mlp", 1, 0.980), ("mlp", 2, 0.980)]
)
def test_hybrid_with_defaults(mnist_root, tmp_path, model, seed, least):
    summary = summary_of(tmp_path / "r", "--opt", "hybrid", "--model", model, "--seed", seed)
    assert summary["dataset"] == "mnist"
    assert summary["test_accuracy"] >= least
    assert summary["switch"]["step"] > 0
    assert summary["switch"]["lr"] > 0


@pytest.mark.parametrize("opt", [name for name in NAMES if name != "hybrid"])
def test_every_optimizer_reaches_097_with_its_defaults(mnist_root, tmp_path, opt):
    """Seed 0 here; `python -m tests.compare` makes the table of tutorials/pages/optimizers.md from three."""
    assert summary_of(tmp_path / "r", "--opt", opt, "--seed", 0)["test_accuracy"] >= 0.970


def test_auto_takes_the_full_data_where_it_is_at_hand(mnist_root, tmp_path):
    assert os.environ["MINIDL_DATA"]
    assert "data: mnist (" in command("--epochs", 1, "--model", "linear", "--out", tmp_path / "r").stdout
