"""Exact resume: whenever a run dies, going on from its folder gives the bits of a run that never stopped."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data import load_mnist, write_idx
from data.batches import split
from minidl import nn
from minidl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.config import Config, prepare
from minidl.run import Options, Run, make_new
from minidl.trainer import Trainer
from optim import Adam
from tests.commands import checkpoint_bits, command, difference, fails, outcome, signal_at_call, tiny_dataset, train
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
    "adamw": {},
    "swats": {"switch": "swats:rtol=0.5"},
    "gnmt": {"lr_sgd": 0.1},
    "blend": {},
    "hybrid step": {"switch": "step:7", "model": "goodfit"},  # with dropout
    "hybrid matched": {"switch": "epoch:1", "lr_after": "matched", "schedule": "cosine"},
    "hybrid projected": {"switch": "swats:rtol=0.9 & step:4", "lr_after": "projected"},
    "hybrid schedules": {"switch": "step:6", "schedule": "cosine", "schedule_sgd": "step:every=3"},
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
        resumed.job.trainer.fit(resumed.job.epochs)
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
        resumed.fit(2)
        assert not difference(checkpoint_bits(load_checkpoint(save(resumed, "resumed"))), wanted)


# ---- killed for good, at the worst moments ----


def arguments(data: Path, out: Path) -> list:
    args = ["--dataset", data, "--model", "goodfit", "--epochs", 3, "--batch-size", 60, "--schedule", "cosine"]
    return [*args, "--switch", "step:4", "--checkpoint-every", 1, "--out", out]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "r"
    status, output = train(*arguments(data, out), log=out.with_suffix(".log"))
    assert status == 0, output
    return out


WORST = [  # one after the other, in one run of 9 steps: (kill at which call, of what, after it and not before?)
    (1, "minidl.run:Run.write_config", False),  # the checkpoint of step 0 is all there is
    (3, "os:fsync", False),  # while the checkpoint of step 1 is being written
    (1, "minidl.run:save_checkpoint", True),  # step 1
    (2, "data.atomic:os.replace", False),  # a whole checkpoint that has not got its name yet
    (1, "minidl.trainer:Trainer.finish_epoch", False),
    (1, "minidl.trainer:Trainer.finish_epoch", True),  # between the epoch and its checkpoint
    (2, "minidl.run:Run.write_metrics", False),  # between the checkpoint and the line in metrics.jsonl (once on resume)
    (1, "minidl.run:Run.save", False),  # just after the step that switched
    (1, "minidl.run:Run.save", True),  # just after the switch was saved
    (3, "minidl.trainer:Trainer.train_step", False),  # in the SGD phase
    (1, "minidl.run:Run.write_summary", False),  # after the last epoch
    (2, "data.atomic:os.replace", True),
    (1, "minidl.report:plot_curves", False),  # summary.json is written, curves.png is not
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
    assert [f.name.split(".")[1] for f in out.iterdir()] == ["checkpoint"]
    assert "nothing was trained yet, so start the run anew" in fails("--resume", out)
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


# ---- a finished run; options; another place ----


def test_a_finished_run_says_so(whole):
    before = {f.name: f.read_bytes() for f in whole.iterdir()}
    result = command("--resume", whole)
    assert result.returncode == 0
    assert "is finished: all 3 epochs are done" in result.stdout
    assert before == {f.name: f.read_bytes() for f in whole.iterdir()}


def test_the_options_stay_unless_others_are_given(data, tmp_path):
    job = prepare(Config(dataset=str(data), model="linear"))
    Run.create(job, tmp_path, Options(checkpoint_every=3, test_every_epoch=True))
    assert Run.resume(tmp_path).options == Options(3, True)
    assert Run.resume(tmp_path, {"checkpoint_every": 5}).options == Options(5, True)


def test_another_current_folder_changes_nothing(data, whole, tmp_path):
    """Relative paths were given, the run was cut off, and it is resumed and used from elsewhere."""
    shutil.copytree(data, tmp_path / "a" / "digits")
    args = [*arguments("digits", "r"), "--epochs", 3]
    kill = partial(signal_at_call, 5, "minidl.run:Run.save")
    assert train(*args, log=tmp_path / "log", cwd=tmp_path / "a", sabotage=kill)[0] == -9
    (tmp_path / "b" / "digits").mkdir(parents=True)  # a decoy
    status, output = train("--resume", tmp_path / "a" / "r", log=tmp_path / "log", cwd=tmp_path / "b")
    assert status == 0, output
    ours, theirs = (load_checkpoint(f / "checkpoint.safetensors") for f in (tmp_path / "a" / "r", whole))
    assert not difference(checkpoint_bits(ours)["model"], checkpoint_bits(theirs)["model"])
    write_idx(tmp_path / "x.idx", load_mnist(name=str(data)).test_images[:1])
    result = command(tmp_path / "a" / "r", tmp_path / "x.idx", module="minidl.predict")
    assert "x.idx[0]: " in result.stdout


def test_data_that_have_moved_are_named_with_dataset(data, tmp_path):
    shutil.copytree(data, tmp_path / "old")
    Run.create(prepare(Config(dataset=str(tmp_path / "old"), model="linear", epochs=1)), tmp_path / "r")
    (tmp_path / "old").rename(tmp_path / "new")
    assert f"there is no data set '{tmp_path / 'old'}'" in fails("--resume", tmp_path / "r")
    status, output = train("--resume", tmp_path / "r", "--dataset", tmp_path / "new", log=tmp_path / "log")
    assert status == 0, output
    assert json.loads((tmp_path / "r" / "config.json").read_text())["dataset"] == str(tmp_path / "new")


def test_auto_means_tomorrow_what_it_means_today(data, tmp_path, monkeypatch):
    Run.create(prepare(Config(model="linear"), load_mnist(name="mnist5k")), tmp_path / "small")
    full = replace(load_mnist(name=str(data)), name="mnist")
    Run.create(prepare(Config(model="linear"), full), tmp_path / "full")
    monkeypatch.setenv("MINIDL_DATA", str(data))  # where auto and mnist look, and find other images
    resumed = Run.resume(tmp_path / "small")
    assert resumed.job.dataset.name == "mnist5k"
    assert resumed.job.config.device == "cpu"
    assert f"Full MNIST was looked for in {data} only" in fails("--resume", tmp_path / "full")


def test_a_preset_that_changes_does_not_change_a_run(data, tmp_path, monkeypatch):
    """What the presets and defaults said at the beginning is in the checkpoint."""
    from optim import PRESETS

    before = Run.create(prepare(Config(dataset=str(data), opt="hybrid")), tmp_path / "r").job
    row = PRESETS["mlp", "mnist"]
    other = row._replace(switch="step:1", lr=0.5, lr_sgd=0.5, momentum=0.1, lr_after=0.3, schedule_sgd="step:every=2")
    monkeypatch.setitem(PRESETS, ("mlp", "mnist"), other)
    after = Run.resume(tmp_path / "r").job
    assert after.config == before.config
    for job in (before, after):
        optimizer = job.trainer.optimizer
        assert str(optimizer.switch) == row.switch
        assert (optimizer.first.lr, optimizer.then.momentum) == (row.lr, row.momentum)
        assert (optimizer.lr_after, optimizer.then.lr) == (row.lr_after, row.lr_sgd)


@pytest.mark.parametrize("given", [{}, {"lr_after": 0.3}, {"lr_sgd": 0.2}, {"lr_after": "projected"}, {"lr": 0.5}])
def test_what_is_spelled_out_builds_the_same_optimizer(data, given):
    from optim import build

    job = prepare(Config(dataset=str(data), model="overfit", **given))
    plain = build("hybrid", nn.Linear(2, 2).parameters(), total_steps=9, steps_per_epoch=3, model="overfit", **given)
    ours = job.trainer.optimizer
    assert str(ours.switch) == str(plain.switch)
    assert (ours.first.lr, ours.lr_after, ours.then.momentum) == (plain.first.lr, plain.lr_after, plain.then.momentum)
    if ours.lr_after is None:
        assert ours.then.lr == plain.then.lr


# ---- what does not fit ----


def test_there_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run folder"):
        Run.resume(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nothing was trained yet"):
        Run.resume(tmp_path)


def test_other_data_under_the_same_name(data, tmp_path):
    shutil.copytree(data, tmp_path / "d")
    Run.create(prepare(Config(dataset=str(tmp_path / "d"), model="linear")), tmp_path / "r")
    labels = load_mnist(name=str(data)).train_labels.astype(np.uint8)
    labels[17] = (labels[17] + 1) % 4
    write_idx(tmp_path / "d" / "train-labels-idx1-ubyte", labels)
    message = fails("--resume", tmp_path / "r")
    assert f"was trained on {tmp_path / 'd'} (sha256 " in message
    assert "is other data now" in message
    with pytest.raises(CheckpointError, match="put the same files there, or name their folder with --dataset"):
        Run.resume(tmp_path / "r")


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_truncated_checkpoint(whole, tmp_path, length):
    shutil.copytree(whole, tmp_path / "r")
    file = tmp_path / "r" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="damaged"):
        Run.resume(tmp_path / "r")
    if length == 100:
        assert "is damaged" in fails("--resume", tmp_path / "r")
        assert "is damaged" in fails(tmp_path / "r", "x.png", module="minidl.predict")


def tamper(out: Path, **changes) -> None:
    """Write the checkpoint anew, sound but with other content."""
    c = load_checkpoint(out / "checkpoint.safetensors")
    state = {k: v for k, v in {**c.state, **changes}.items() if k not in ("optimizer", "tensors") and v is not None}
    save_checkpoint(out / "checkpoint.safetensors", changes.get("tensors", c.model), c.optimizer, state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"model": "linear", "future": 1}}, "unexpected keyword argument 'future'"),
        ({"config": {"model": "transformer"}}, "unknown model 'transformer'"),
        ({"config": None}, "it has no 'config'"),
        ({"options": {"speed": 9}}, "unexpected keyword argument 'speed'"),
        ({"data": None}, "it has no 'data'"),
        ({"versions": None}, "it has no 'versions'"),
        ({"trainer": None}, "it has no 'trainer'"),
        ({"trainer": {"epoch": 1}}, "it has no 'generators'"),
        ({"trainer": {"generators": {}, "speed": 1}}, "unexpected keyword argument 'speed'"),
        ({"trainer": 5}, "not iterable"),
        ({"tensors": {"1.weight": np.zeros((4, 80), np.float32)}}, "missing ['1.bias'], unexpected nothing"),
        ({"tensors": {"1.weight": np.zeros((4, 9)), "1.bias": np.zeros(4)}}, "1.weight has shape (4, 9), this model"),
        ({"format": 2}, "has checkpoint format 2"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit(data, tmp_path, changes, message):
    Run.create(prepare(Config(dataset=str(data), model="linear")), tmp_path / "r")
    tamper(tmp_path / "r", **changes)
    with pytest.raises(CheckpointError) as caught:
        Run.resume(tmp_path / "r")
    assert message in str(caught.value)
    assert str(tmp_path / "r") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_optimizer(data, tmp_path):
    config = Config(dataset=str(data), model="linear", opt="adam")
    run = Run.create(prepare(config), tmp_path / "r")
    tamper(run.folder, config={**vars(run.job.config), "opt": "rmsprop"})
    with pytest.raises(CheckpointError, match="this state is of the rule 'adam', this optimizer is 'rmsprop'"):
        Run.resume(run.folder)


def test_another_version_of_numpy_is_mentioned(data, tmp_path):
    run = Run.create(prepare(Config(dataset=str(data), model="linear", epochs=1)), tmp_path / "r")
    run.versions["numpy"] = "1.0"
    run.save()
    status, output = train("--resume", run.folder, log=tmp_path / "log")
    assert status == 0, output
    assert "note: begun with {'minidl': '0.1.0', 'numpy': '1.0'}, this is {" in output
    assert load_checkpoint(run.folder / "checkpoint.safetensors").state["versions"]["numpy"] == "1.0"


def test_where_a_new_run_goes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = prepare(Config(dataset=str(data), model="linear", opt="sgd"))
    folder = Run.create(job).folder
    assert folder.match("runs/2*-linear-sgd")
    with pytest.raises(ValueError, match="holds a run already: choose another folder, or go on with --resume"):
        Run.create(job, folder)
    with pytest.raises(ValueError, match="is a file: give a folder"):
        Run.create(job, folder / "config.json")
    with pytest.raises(ValueError, match="must be at least 1 step, got 0"):
        Options(checkpoint_every=0)


def test_two_runs_begun_in_one_second_have_a_folder_each(tmp_path):
    folders = [make_new(tmp_path / "runs" / "now-mlp-adam") for _ in range(3)]
    assert [f.name for f in folders] == ["now-mlp-adam", "now-mlp-adam-2", "now-mlp-adam-3"]
