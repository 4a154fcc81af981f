"""The front door on the full MNIST: the accuracies that tutorials/pages/optimizers.md promises.

The first of three seeds: `python -m tests.compare` makes the page's table of all, and holds them to the same.
"""

import json
import os

import pytest

from minidl.training.build import NAMES
from tests.compare import LEAST
from tests.test_train import command

pytestmark = pytest.mark.mnist


def summary_of(out, *args):
    result = command("--dataset", "mnist", *args, "--out", out, timeout=1200)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_hybrid_with_its_defaults(mnist_root, tmp_path, model):
    summary = summary_of(tmp_path / "r", "--opt", "hybrid", "--model", model, "--seed", 0)
    assert summary["dataset"] == "mnist"
    assert summary["test_accuracy"] >= LEAST["hybrid", model]
    assert summary["switch"]["step"] > 0
    assert summary["switch"]["lr"] > 0


@pytest.mark.parametrize("opt", [name for name in NAMES if name != "hybrid"])
def test_every_other_optimizer_with_its_defaults(mnist_root, tmp_path, opt):
    assert summary_of(tmp_path / "r", "--opt", opt, "--seed", 0)["test_accuracy"] >= LEAST[opt, "mlp"]


def test_auto_takes_the_full_data_where_it_is_at_hand(mnist_root, tmp_path):
    assert os.environ["MINIDL_DATA"]
    assert "data: mnist (" in command("--epochs", 1, "--model", "linear", "--out", tmp_path / "r").stdout
