"""The front door on the full MNIST: the accuracies that tutorials/pages/optimizers.md promises.

The first of three seeds of the hybrid and of Adam. `python -m tests.compare` is the long form: it makes the page's
table, of all optimizers and seeds, and its status is 1 where one is below. Here each of the others has two epochs.
"""

import json
import os

import pytest

from minidl.training.build import NAMES
from tests.compare import LEAST, train
from tests.test_train import command

pytestmark = pytest.mark.mnist


def summary_of(out, *args):
    result = command("--dataset", "mnist", *args, "--out", out, timeout=1200)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize(("opt", "model"), [("hybrid", "cnn"), ("hybrid", "mlp"), ("adam", "mlp")])
def test_with_its_defaults(mnist_root, tmp_path, opt, model):
    summary = summary_of(tmp_path / "r", "--opt", opt, "--model", model, "--seed", 0)
    assert summary["dataset"] == "mnist"
    assert summary["test_accuracy"] >= LEAST[opt, model]
    if opt == "hybrid":
        assert summary["switch"]["step"] > 0
        assert summary["switch"]["lr"] > 0


@pytest.mark.parametrize("opt", [name for name in NAMES if name not in ("hybrid", "adam")])
def test_every_other_optimizer_in_two_epochs(mnist_root, opt):
    run = {"dataset": "mnist", "model": "mlp", "opt": opt, "seed": 0, "epochs": 2}
    assert train(run)["test_accuracy"] >= 0.94


def test_auto_takes_the_full_data_where_it_is_at_hand(mnist_root, tmp_path):
    assert os.environ["MINIDL_DATA"]
    assert "data: mnist (" in command("--epochs", 1, "--model", "linear", "--out", tmp_path / "r").stdout
