"""Divergence: a run whose loss is no longer a number stops, says where it went wrong, and keeps its good checkpoint."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl import backend, nn
from minidl.data import load_mnist
from minidl.data.splits import split
from minidl.optim import SGD, Adam
from minidl.trainer import Trainer
from minidl.training.checkpoint import load_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.divergence import Diverged, check_weights, first_non_finite
from minidl.training.run import Run
from tests.commands import ROOT, tiny_dataset, train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core: no helper threads")
def test_helper_threads_are_as_quiet(tmp_path):
    """Large products are computed by several threads, and none of them has warnings of its own to give."""
    args = ["--dataset", "mnist5k", "--model", "overfit", "--opt", "sgd", "--lr", "1e20", "--batch-size", "512"]
    argv = [sys.executable, "-m", "minidl.train", *args, "--out", str(tmp_path / "r")]
    threads = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    result = subprocess.run(argv, cwd=ROOT, env=threads, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.startswith("minidl.train: error: training diverged at step ")
    assert len(result.stderr.splitlines()) == 1


def weights_are_finite(out: Path) -> bool:
    arrays = load_checkpoint(out / "checkpoint.safetensors").model.values()
    return all(np.isfinite(a).all() for a in arrays)


@pytest.mark.parametrize("rate", ["1e9", "1e20", "3e38"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_command_explains_and_keeps_a_good_checkpoint(data, tmp_path, rate, model):
    out, every_step = tmp_path / "r", ("--checkpoint-every", 1)
    args = ["--dataset", data, "--model", model, "--opt", "sgd", "--lr", rate, *every_step, "--out", out]
    status, output = train(*args, log=tmp_path / "log")
    assert status == 1
    message = output[output.index("minidl.train: error: ") :]
    assert len(message.splitlines()) == 1
    assert re.search(r"training diverged at step \d+: ", message)
    assert f"learning rate {float(rate):g}" in message
    assert re.search(r"layer \d+, (Linear|Conv2d)\(", message)
    assert message.endswith(f"Try a smaller --lr. The last good checkpoint is in {out}\n")
    assert "Warning" not in output
    assert weights_are_finite(out)
    assert "NaN" not in (out / "metrics.jsonl").read_text()
    status, output = train("--resume", out, log=tmp_path / "log")  # it goes on to the same end
    assert status == 1
    assert "training diverged at step" in output
    assert weights_are_finite(out)


def test_a_step_that_spoils_the_weights_is_not_saved(data, tmp_path):
    """Its own loss was still finite: only the weights tell."""
    run = Run.create(prepare(Config(dataset=str(data), model="linear", opt="momentum", lr=3e38)), tmp_path / "r")
    with np.errstate(all="ignore"):
        for _ in itertools.islice(run.job.trainer.steps(), 1):
            run.job.model[1].weight.data *= 1e9
    with pytest.raises(Diverged, match=r"at step 1: weight of layer 1, Linear\(80, 4\), has a value that is not"):
        run.save()
    assert load_checkpoint(tmp_path / "r" / "checkpoint.safetensors").state["trainer"]["step"] == 0


def test_batch_norms_statistics_count_as_weights(data):
    t = tiny_trainer(data, read_every=1)
    t.model[3].running_var.data[1] = math.inf
    with pytest.raises(Diverged, match="running_var of layer 3, BatchNorm1d"):
        check_weights(t.model, t.progress.step, t.optimizer.lr)


def test_the_last_step_of_an_epoch(data):
    """No later step would notice: the validation loss does."""
    job = prepare(Config(dataset=str(data), model="mlp", opt="sgd", lr=1e30, batch_size=180))
    message = r"at step 1: the validation loss is (nan|inf), learning rate 1e\+30; .*layer \d, Linear"
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=message):
        job.trainer.train_to(1)
    assert job.trainer.progress.metrics == []


# ---- looked at late, as on a GPU ----


def tiny_trainer(data: Path, read_every: int) -> Trainer:
    model = nn.Sequential(nn.Flatten(), nn.Linear(80, 9, rng=1), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 4, rng=2))
    splits = split(load_mnist(name=str(data)), 0.1)
    return Trainer(model, SGD(model.parameters(), lr=0.1), splits, batch_size=10, read_every=read_every)


def poison(t: Trainer, at: int, layer: int) -> None:
    """Let one weight of a layer overflow before step `at`, as a step that is too long would."""
    for step in t.steps():
        if step == at - 1:
            t.model[layer].weight.data[0, 0] = np.inf
            t.optimizer.lr = 0.05
        if step == at:
            t.optimizer.lr = 0.025


@pytest.mark.parametrize("layer", [1, 4])
@pytest.mark.parametrize("at", [2, 5, 10, 11, 18])
def test_a_late_look_names_the_same_step_rate_and_layer(data, at, layer):
    messages = []
    for read_every in (1, 5, 50):
        t = tiny_trainer(data, read_every)
        with np.errstate(invalid="ignore", over="ignore"), pytest.raises(Diverged) as caught:
            poison(t, at, layer)
        messages.append(str(caught.value))
    assert len(set(messages)) == 1
    assert f"diverged at step {at}: the loss is " in messages[0]
    assert f"learning rate 0.05; the first output that is not finite is that of layer {layer}, Linear" in messages[0]


def test_a_checkpoint_looks_first(data, tmp_path):
    """Losses that nobody has looked at yet are looked at before anything is written."""
    t = tiny_trainer(data, read_every=50)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = t.steps()
        next(steps)
        t.model[1].weight.data[0, 0] = np.inf
        next(steps)
        with pytest.raises(Diverged, match="diverged at step 2"):
            t.state()


def test_the_losses_come_to_the_host_once_in_read_every_steps(data, monkeypatch):
    looks = []
    to_numpy = backend.to_numpy
    monkeypatch.setattr(backend, "to_numpy", lambda array: looks.append(len(array)) or to_numpy(array))
    t = tiny_trainer(data, read_every=7)
    for _ in t.steps():
        pass
    assert looks == [14, 14, 8]  # losses and counts of 18 steps


def test_the_numbers_are_the_same_however_often_one_looks(data):
    records = []
    for read_every in (1, 4, 50):
        t = tiny_trainer(data, read_every)
        records.append([{**r, "seconds": 0} for r in t.train_to(2)])
    assert records[0] == records[1] == records[2]


def test_metrics_are_strict_json(data, tmp_path):
    run = Run.create(prepare(Config(dataset=str(data), model="linear", epochs=1)), tmp_path)
    run.job.trainer.train_to(1)
    run.write_metrics()
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["epoch"] == 1


def test_a_model_that_is_one_layer_of_its_own(data):
    """first_non_finite leaves the model as it was."""
    model = nn.Linear(3, 2, rng=0)
    model.weight.data[:] = np.nan
    before = set(vars(model))
    assert "Linear(3, 2)" in first_non_finite(model, nn.Tensor(np.ones((1, 3), np.float32)))
    assert set(vars(model)) == before
    model.weight.data[:] = 1
    assert first_non_finite(model, nn.Tensor(np.ones((1, 3), np.float32))) == "the loss"
    assert Adam(model.parameters()).switch_event is None
