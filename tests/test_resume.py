"""Exact resume: whenever a run dies, going on from its folder gives the bits of a run that never stopped."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from minidl import nn
from minidl.data import load_mnist
from minidl.data.splits import split
from minidl.optim import Adam
from minidl.trainer import Trainer
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.run import Run
from tests.commands import (
    arguments,
    checkpoint_bits,
    difference,
    fails,
    finished,
    outcome,
    signal_at_call,
    tiny_dataset,
    train,
)
from tests.kill_runs import kill_runs

FILES = {"checkpoint.safetensors", "config.json", "metrics.jsonl", "summary.json", "curves.png"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


# ---- every optimizer, every step ----

EVERY_STEP = {
    "sgd": {"schedule": "step:every=5"},
    "momentum": {},
    "nesterov": {"weight_decay": 0.01},
    "adagrad": {},
    "rmsprop": {"schedule": "cosine"},
    "adam": {"schedule": "cosine:warmup=4", "clip_norm": 1.0},
    "adam onecycle": {"schedule": "onecycle", "betas": (0.7, 0.9), "val_fraction": 0},
    "adamw": {"schedule": "linear", "betas": (0.8, 0.95)},
    "momentum exponential": {"schedule": "exponential:gamma=0.5"},
    "swats": {"switch": "swats:rtol=0.5"},
    "gnmt": {"lr_sgd": 0.1},
    "blend": {},
    "hybrid step": {"switch": "step:7", "model": "goodfit"},  # with dropout
    "hybrid matched": {"switch": "epoch:1", "lr_after": "matched", "schedule": "cosine"},
    "hybrid projected": {"switch": "swats:rtol=0.9 & step:4", "lr_after": "projected"},
    "hybrid schedules": {"switch": "step:6", "schedule": "onecycle", "schedule_sgd": "exponential:gamma=0.5"},
    "hybrid plateau": {"switch": "plateau:patience=1,min_delta=0.3"},
    "hybrid gap": {"switch": "gap:-1.0 & epoch:2 | crossing:val_accuracy=1.0"},
}


@pytest.mark.parametrize("case", EVERY_STEP)
def test_a_run_goes_on_from_every_step(data, tmp_path, case):
    """A copy of the folder is made after every step and every epoch, and each is resumed to the end."""
    settings = {"model": "underfit", "opt": case.split()[0], "epochs": 3, "batch_size": 40, **EVERY_STEP[case]}
    run = Run.create(prepare(Config(dataset=str(data), **settings)), tmp_path / "whole")
    copies = [tmp_path / "0"]
    shutil.copytree(run.folder, copies[0])
    trainer = run.job.trainer
    while trainer.progress.epoch < run.job.epochs:
        for step in trainer.steps():
            run.save()
            copies.append(tmp_path / str(step))
            shutil.copytree(run.folder, copies[-1])
        trainer.finish_epoch()
    run.save()
    wanted = checkpoint_bits(load_checkpoint(run.folder / "checkpoint.safetensors"))
    switch = wanted["scalars"].get("switch")
    if case.split()[0] in ("swats", "gnmt", "hybrid"):
        assert 0 < switch["step"] < 15, f"the switch must fall inside the run, so that both sides are tested: {switch}"
    assert len(copies) == 16
    for copy in copies:
        resumed = Run.resume(copy)
        resumed.job.trainer.train_to(resumed.job.epochs)
        resumed.save()
        found = checkpoint_bits(load_checkpoint(copy / "checkpoint.safetensors"))
        assert not difference(found, wanted), f"resumed after step {copy.name}"


def test_batch_norms_running_statistics_go_on(data, tmp_path):
    dataset = load_mnist(name=str(data))

    def trainer() -> Trainer:
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3, rng=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2, rng=4), nn.Flatten(),
            nn.Linear(144, 8, rng=2), nn.BatchNorm1d(8), nn.Linear(8, 4, rng=3),
        )  # fmt: skip
        return Trainer(model, Adam(model.parameters(), lr=0.01), split(dataset, 0.1), batch_size=60)

    def save(t: Trainer, name: object) -> Path:
        path = tmp_path / str(name)
        save_checkpoint(path, t.model.state_dict(), t.optimizer.state_dict(), {"trainer": t.state()})
        return path

    whole = trainer()
    files = []
    while whole.progress.epoch < 2:
        files += [save(whole, step) for step in whole.steps()]
        whole.finish_epoch()
    wanted = checkpoint_bits(load_checkpoint(save(whole, "whole")))
    assert {"1.running_mean", "6.running_var", "6.num_batches_tracked"} <= wanted["model"].keys()
    for file in files:
        resumed, saved = trainer(), load_checkpoint(file)
        resumed.model.load_state_dict(saved.model)
        resumed.optimizer.load_state_dict(saved.optimizer)
        resumed.load_state(saved.state["trainer"])
        resumed.train_to(2)
        assert not difference(checkpoint_bits(load_checkpoint(save(resumed, "resumed"))), wanted)


# ---- killed for good, at the worst moments ----


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "r"
    return finished(arguments(data, out), out)


WORST = [  # one after the other, in one run of 9 steps: (kill at which call, of what, after it and not before?)
    (1, "minidl.training.run:Run.write_config", False),  # the checkpoint of step 0 is all there is
    (3, "os:fsync", False),  # while the checkpoint of step 1 is being written
    (1, "minidl.training.run:save_checkpoint", True),  # step 1
    (2, "minidl.data.atomic:os.replace", False),  # a whole checkpoint that has not got its name yet
    (1, "minidl.trainer:Trainer.finish_epoch", False),
    (1, "minidl.trainer:Trainer.finish_epoch", True),  # between the epoch and its checkpoint
    # Between the checkpoint and the line in metrics.jsonl (once on resume).
    (2, "minidl.training.run:Run.write_metrics", False),
    (1, "minidl.training.run:Run.save", False),  # just after the step that switched
    (1, "minidl.training.run:Run.save", True),  # just after the switch was saved
    (3, "minidl.trainer:Trainer.train_step", False),  # in the SGD phase
    (1, "minidl.training.run:Run.write_summary", False),  # after the last epoch
    (2, "minidl.data.atomic:os.replace", True),
    (1, "minidl.cli.closing:plot_curves", False),  # summary.json is written, curves.png is not
]


def test_killed_at_the_worst_moments(data, whole, tmp_path):
    out, log = tmp_path / "r", tmp_path / "log"
    for i, (n, place, after) in enumerate(WORST):
        args = ["--resume", out] if i else arguments(data, out)
        status, output = train(*args, log=log, sabotage=partial(signal_at_call, n, place, after=after))
        assert status == -9, f"{WORST[i]} never came: {output}"
    status, output = train("--resume", out, log=log)
    assert status == 0, output
    assert not difference(outcome(out), outcome(whole))
    assert {f.name for f in out.iterdir()} == FILES


def test_killed_before_anything_was_trained(data, whole, tmp_path):
    """There is nothing to go on with: it says so, and the first command works again in the same folder."""
    out, log = tmp_path / "r", tmp_path / "log"
    kill = partial(signal_at_call, 1, "os:replace")
    assert train(*arguments(data, out), log=log, sabotage=kill)[0] == -9
    assert {f.name.split(".")[1] for f in out.iterdir()} == {"checkpoint", "minidl"}  # half of it, and the lock
    assert "nothing was trained yet, so start the run again" in fails("--resume", out)
    assert train(*arguments(data, out), log=log)[0] == 0
    assert not difference(outcome(out), outcome(whole))


def test_random_kills(tmp_path):
    """A few of the 200 of `python -m tests.kill_runs`."""
    wrong, hits = kill_runs(8, tmp_path, seed=1)
    assert not wrong
    assert all(hits)


def test_only_our_own_leftovers_are_removed(data, tmp_path):
    mine = tmp_path / ".download.part"
    mine.touch()
    (tmp_path / ".checkpoint.safetensors.0123.part").touch()
    Run.create(prepare(Config(dataset=str(data), model="linear")), tmp_path)
    assert mine.exists()
    assert not list(tmp_path.glob(".checkpoint*"))
