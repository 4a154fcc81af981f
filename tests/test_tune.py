"""tune: the plan of its rounds, a search on real digits, bad input."""

import re

import numpy as np
import pytest

from minidl import tune
from minidl.data import load_mnist, write_idx
from minidl.training.config import Config
from tests.commands import command, fails


def test_each_round_has_half_the_settings_for_twice_as_long():
    assert tune.rounds(24, 10) == [(24, 2), (12, 5), (6, 10)]
    assert tune.rounds(24, 20) == [(24, 5), (12, 10), (6, 20)]
    assert tune.rounds(24, 1) == [(24, 1)]


def test_the_better_half_goes_on(monkeypatch):
    """With accuracies made up beforehand: the best setting wins, and only the better half is tried for longer."""
    tried = []

    def try_out(setting, base, dataset, epochs):
        tried.append((setting, epochs))
        return tune.Score(setting, val_accuracy=1 - abs(setting.lr_sgd - 0.03) - setting.lr, val_loss=1.0)

    monkeypatch.setattr(tune, "try_out", try_out)
    rounds = list(tune.search(Config(), None, 8))
    assert [epochs for epochs, _ in rounds] == [2, 4, 8]
    assert [len(results) for _, results in rounds] == [24, 12, 6]
    ranked = [result.setting for result in rounds[0][1]]
    assert [setting for setting, epochs in tried if epochs == 4] == ranked[:12]
    assert (rounds[-1][1][0].setting.lr, rounds[-1][1][0].setting.lr_sgd) == (3e-4, 0.03)


def test_a_setting_that_diverges_is_the_worst():
    result = tune.try_out(tune.Setting(1e30, 1e30, 0.3), Config(model="mlp"), tiny(), 1)
    assert (result.val_accuracy, result.val_loss) == (0, np.inf)


def tiny():
    digits = load_mnist(name="mnist5k")
    return type(digits)(
        "tiny", "here", digits.train_images[:300], digits.train_labels[:300], digits.test_images[:50],
        digits.test_labels[:50], 10, "",
    )  # fmt: skip


def test_the_command_prints_flags_that_work(tmp_path):
    digits = tiny()
    for part, images, labels in (
        ("train", digits.train_images, digits.train_labels),
        ("t10k", digits.test_images, digits.test_labels),
    ):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    result = command("--model", "linear", "--dataset", tmp_path, "--epochs", 2, module="minidl.tune")
    assert result.returncode == 0, result.stderr
    flags = re.search(r"^  python -m minidl\.train (.*)$", result.stdout, re.MULTILINE)[1]
    assert "switch to sgd after step" in command(*flags.split(), "--out", tmp_path / "run").stdout


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--model", "mpl"), "'mlp'"),
        (("--dataset", "nowhere"), "nowhere"),
        (("--epochs", "0"), "got 0"),
        (("--val-fraction", "0"), "give a --val-fraction above 0"),
    ],
)
def test_bad_input(args, part):
    assert part in fails(*args, module="minidl.tune")
