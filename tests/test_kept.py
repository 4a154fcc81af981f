"""What a network keeps in itself besides weights, generators and numbers, continues when its run is resumed."""

import random
import warnings
from functools import partial
from http import HTTPStatus
from pathlib import Path

import numpy as np
import pytest

from minidl import Observer, Trainer, load_run, nn, ops, seed
from minidl.data.splits import Examples, Splits
from minidl.optim import Adam
from minidl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.training.kept import numbers, put_numbers
from tests.commands import difference, fails, outcome, signal_at_call, tiny_dataset, train

SOURCE = """
import numpy as np
from minidl import nn, ops


class Noise(nn.Module):
    def __init__(self):
        self.rng = np.random.default_rng(3)

    def forward(self, x):
        return x + self.rng.normal(0, 0.1, x.shape).astype(np.float32) if self.training else x


class Net(nn.Module):
    def __init__(self, image_size, classes):
        n = image_size[0] * image_size[1]
        self.rng, self.steps, self.scale, self.warm = np.random.default_rng(5), 0, 1.0, None
        self.noise, self.a, self.b = Noise(), nn.Linear(n, 24), nn.Linear(24, classes)

    def forward(self, x):
        h = self.a(self.noise(x.flatten(1))).relu()
        if self.training:
            h = ops.dropout(h, 0.2, self.rng)
            self.steps += 1
            self.scale = 0.9 * self.scale + 0.1 * np.abs(h.data).mean()  # from now on a number of NumPy's
            self.warm = True
        return self.b(h / float(self.scale)) * (1 + 1 / (1 + self.steps))
"""


def test_a_run_that_was_stopped_has_the_bits_of_one_that_was_not(tmp_path):
    data, file, log = tiny_dataset(tmp_path / "data"), tmp_path / "mine.py", tmp_path / "log"
    file.write_text(SOURCE)
    args = ["--dataset", data, "--model", f"{file}:Net", "--epochs", 3, "--batch-size", 60]
    for out, sabotage in (("whole", None), ("r", partial(signal_at_call, 5, "minidl.trainer:ops.cross_entropy", 2))):
        status, output = train(*args, "--out", tmp_path / out, log=log, sabotage=sabotage)
        assert status == (130 if sabotage else 0), output
    status, output = train("--resume", tmp_path / "r", log=log)
    assert status == 0, output
    assert not difference(outcome(tmp_path / "r"), outcome(tmp_path / "whole"))
    run = load_run(tmp_path / "r")
    assert (run.model.steps, type(run.model.scale)) == (9, np.float32)
    assert run.evaluate().accuracy == run.summary["test_accuracy"]
    assert "numbers" in run.trainer.state()  # also when it is saved once more, before any step

    file = tmp_path / "r" / "checkpoint.safetensors"
    checkpoint = load_checkpoint(file)
    state = {k: v for k, v in checkpoint.state.items() if k not in ("format", "optimizer")}
    whole = dict(state["trainer"]["numbers"])
    for name, value, words in (
        ("forward", 3, "forward of this network is not a number"),
        ("no.x", 3, "'no'"),
        ("scale", ["int8", 300], "300"),
        ("scale", ["float32", "x"], "'x'"),
    ):
        state["trainer"]["numbers"] = {**whole, name: value}
        save_checkpoint(file, checkpoint.model, checkpoint.optimizer, state)
        with pytest.raises(CheckpointError, match=words):
            load_run(tmp_path / "r")
    assert words in fails("--resume", tmp_path / "r")


def test_numbers_of_any_kind_are_put_back_as_they_were():
    net = nn.Sequential(nn.Linear(2, 2, rng=0))
    before = numbers(net)
    net.a, net[0].b, net[0].c, net.d = np.float32(0.1), np.int16(-3), float("inf"), "warm"
    net.e, net.f, net.not_a_number = np.bool_(True), None, HTTPStatus.OK
    kept = numbers(net)
    assert kept.keys() - before.keys() == {"a", "0.b", "0.c", "d", "e", "f"}
    other = nn.Sequential(nn.Linear(2, 2, rng=0))
    put_numbers(other, kept)
    assert numbers(other) == kept
    del net.not_a_number  # which would come back as a plain int
    assert {name: type(value) for name, value in vars(other).items()} == {
        name: type(value) for name, value in vars(net).items()
    }
    for wrong, error in (("9.a", KeyError), ("0", ValueError), ("0.weight.x", KeyError)):
        with pytest.raises(error):
            put_numbers(other, {wrong: 1})


RNG = np.random.default_rng(0)
SYSTEM = random.SystemRandom()  # has no state


class Chance(nn.Module):
    def __init__(self, draw):
        self.draw, self.layer = draw, nn.Linear(16, 2)

    def forward(self, x):
        return self.layer(x.flatten(1)) * (1 + self.draw() if self.training else 1)


def trainer(tmp_path: Path | None, draw) -> Trainer:
    images = np.random.default_rng(0).random((40, 4, 4), np.float32)
    examples = Examples(images, np.arange(40) % 2)
    with seed(0):
        net = Chance(draw)
    folder = None if tmp_path is None else tmp_path / "run"
    return Trainer(net, Adam(net.parameters()), Splits(examples, examples, examples, 2, (4, 4)), 8, folder=folder)


@pytest.mark.parametrize(
    ("name", "draw"),
    [("np.random", np.random.rand), ("random", random.random), ("RNG", lambda: RNG.random())],
)
def test_a_generator_that_is_not_in_the_network_is_told_once_if_a_run_is_saved(tmp_path, name, draw):
    with pytest.warns(UserWarning, match=f"step 1 draws from {name}, whose state is not saved") as told:
        trainer(tmp_path, draw).fit(2, verbose=False)
    assert len(told) == 1
    trainer(None, draw).fit(1, verbose=False)  # nothing is saved, and the program may have seeded it


def test_what_is_drawn_outside_of_the_steps_is_not_told(tmp_path):
    class Draws(Observer):
        def after_epoch(self, record):
            np.random.rand()  # noqa: NPY002

    np.random.rand()  # noqa: NPY002
    trainer(tmp_path, lambda: 0.0).fit(2, Draws(), verbose=False)


def test_dropout_by_numpys_generator_goes_on(tmp_path):
    """The generator that `ops.dropout` may be given."""

    class Net(nn.Module):
        def __init__(self):
            self.layer, self.rng = nn.Linear(16, 2, rng=0), np.random.default_rng(1)

        def forward(self, x):
            x = ops.dropout(x.flatten(1), 0.5, self.rng) if self.training else x.flatten(1)
            return self.layer(x)

    images, labels = np.random.default_rng(0).random((40, 4, 4), np.float32), np.arange(40) % 2
    whole, parts = (Trainer(net, Adam(net.parameters()), (images, labels), 8, folder=tmp_path / name)
                    for name, net in (("whole", Net()), ("parts", Net())))  # fmt: skip
    whole.fit(3, verbose=False)
    parts.fit(1, verbose=False)
    resumed = load_run(tmp_path / "parts", Net, (images, labels))
    resumed.fit(2, verbose=False)
    assert resumed.model.layer.weight.numpy().tobytes() == whole.model.layer.weight.numpy().tobytes()


def test_a_loaded_run_has_its_seed(tmp_path):
    """The class is called without one, but what it drew is replaced by the run's: no warning is due."""

    class Net(nn.Module):
        def __init__(self):
            self.layer, self.drop = nn.Linear(16, 2), nn.Dropout(0.5)

        def forward(self, x):
            return self.layer(self.drop(x.flatten(1)))

    def net():
        with seed(4):
            return Net()

    data = np.random.default_rng(0).random((40, 4, 4), np.float32), np.arange(40) % 2
    whole, parts = (Trainer(net, Adam(net.parameters()), data, 8, folder=tmp_path / name)
                    for name, net in (("whole", net()), ("parts", net())))  # fmt: skip
    whole.fit(3, verbose=False)
    parts.fit(1, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = load_run(tmp_path / "parts", Net, data)
        resumed.fit(2, verbose=False)
    assert resumed.model.layer.weight.numpy().tobytes() == whole.model.layer.weight.numpy().tobytes()
