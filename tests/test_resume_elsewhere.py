"""Resume depends on the run's folder and its data alone: what may change around it, and what is refused."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minidl import Trainer, fast, load_run, nn, no_fast, seed, split
from minidl.data import load_mnist, write_idx
from minidl.optim import SGD, Adam, AdamW, AfterSteps, Hybrid
from minidl.optim.schedule import cosine
from minidl.pages import read_run
from minidl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.folder import make_new
from minidl.training.results import disagreements
from minidl.training.run import Options, Run
from tests.commands import (
    arguments,
    checkpoint_bits,
    command,
    difference,
    fails,
    finished,
    signal_at_call,
    tiny_dataset,
    train,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "r"
    return finished(arguments(data, out), out)


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
    kill = partial(signal_at_call, 5, "minidl.training.run:Run.save")
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
    for module, args in (("minidl.train", ["--resume", tmp_path / "r"]), ("minidl.report", [tmp_path / "r"])):
        words = fails(*args, module=module)
        assert f"there is no data set '{tmp_path / 'old'}': give the folder that holds its four IDX files now" in words
        assert "kmnist" not in words
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
    from minidl.training.presets import PRESETS

    before = Run.create(prepare(Config(dataset=str(data), opt="hybrid")), tmp_path / "r").job
    row = PRESETS["mlp", "mnist"]
    other = row._replace(switch="step:1", lr=0.5, lr_sgd=0.5, momentum=0.1, lr_after=0.3, schedule_sgd="step:every=2")
    monkeypatch.setitem(PRESETS, ("mlp", "mnist"), other)
    after = Run.resume(tmp_path / "r").job
    assert after.config == before.config
    for job in (before, after):
        optimizer = job.trainer.optimizer
        assert str(optimizer.switch) == "epoch:8"
        assert (optimizer.first.lr, optimizer.then.momentum) == (row.lr, row.momentum)
        assert (optimizer.lr_after, optimizer.then.lr) == (row.lr_after, row.lr_sgd)


@pytest.mark.parametrize("given", [{}, {"lr_after": 0.3}, {"lr_sgd": 0.2}, {"lr_after": "projected"}, {"lr": 0.5}])
def test_what_is_spelled_out_builds_the_same_optimizer(data, given):
    from minidl.training.build import build
    from minidl.training.presets import decided

    job = prepare(Config(dataset=str(data), model="overfit", **given))
    options = decided("hybrid", given, "overfit")
    plain = build("hybrid", nn.Linear(2, 2).parameters(), total_steps=30, steps_per_epoch=3, **options)
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
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "checkpoint.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"give the folder of one of its runs, such as .*one$"):
        Run.resume(tmp_path)


def test_other_data_under_the_same_name(data, tmp_path):
    shutil.copytree(data, tmp_path / "d")
    Run.create(prepare(Config(dataset=str(tmp_path / "d"), model="linear")), tmp_path / "r")
    labels = load_mnist(name=str(data)).train_labels.astype(np.uint8)
    labels[17] = (labels[17] + 1) % 4
    write_idx(tmp_path / "d" / "train-labels-idx1-ubyte", labels)
    message = fails("--resume", tmp_path / "r")
    assert f"was trained on {tmp_path / 'd'} (sha256 " in message
    assert "is now different data" in message
    with pytest.raises(CheckpointError, match="put the same files there, or give their folder with --dataset"):
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


F32 = partial(np.zeros, dtype=np.float32)


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
        ({"trainer": {"epoch": 1}}, "it has no 'batch' in trainer"),
        ({"trainer": 5}, "trainer must be a JSON object, not 5"),
        ({"tensors": {"1.weight": F32((4, 80))}}, "missing ['1.bias'], unexpected nothing"),
        ({"tensors": {"1.weight": F32((4, 99)), "1.bias": F32(4)}}, "1.weight has shape (4, 99), this model"),
        ({"tensors": {"1.weight": np.zeros((4, 80)), "1.bias": F32(4)}}, "'1.weight' are float64, this model's are"),
        (
            {"tensors": {"1.weight": F32((4, 80)) + np.nan, "1.bias": F32(4)}},
            "320 of the 320 weights '1.weight' are NaN or infinite",
        ),
        ({"format": 1}, "has checkpoint format 1"),
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
    assert re.search(r"note: started with \{.*'numpy': '1.0'.*\}, this is \{", output)
    assert load_checkpoint(run.folder / "checkpoint.safetensors").state["versions"]["numpy"] == "1.0"


def test_another_processor_is_mentioned(data, tmp_path):
    run = Run.create(prepare(Config(dataset=str(data), model="linear", epochs=1)), tmp_path / "r")
    assert run.moved() == ""
    run.versions["processor"] = "arm64 VORTEX"
    run.save()
    status, output = train("--resume", run.folder, log=tmp_path / "log")
    assert status == 0, output
    assert re.search(r"note: started with \{.*'processor': 'arm64 VORTEX'.*\}, this is \{", output)


@pytest.mark.skipif(fast.version() is None, reason="needs the extra fast")
def test_compiled_loops_name_the_processor_they_are_made_for(data, tmp_path, monkeypatch):
    """Products are split otherwise on AMD's and on Intel's, with the same kernels of OpenBLAS: the bits differ."""
    from minidl.fast.loops import compiler

    job = prepare(Config(dataset=str(data), model="linear", epochs=1))
    run = Run.create(job, tmp_path / "r")
    assert run.versions["processor"].split()[2:] == [compiler.processor()]
    with no_fast():
        assert len(Run.create(job, tmp_path / "numpy").versions["processor"].split()) == 2
    monkeypatch.setattr(compiler, "processor", lambda: "another")
    assert " another'" in run.moved()


def test_a_run_that_does_not_name_its_processor(data, tmp_path):
    run = Run.create(prepare(Config(dataset=str(data), model="linear", epochs=1)), tmp_path / "r")
    del run.versions["processor"]
    run.save()
    assert Run.resume(run.folder).moved() == ""
    run.versions["numpy"] = "1.0"
    assert "'processor'" not in run.moved().partition(", this is")[0]


def test_where_a_new_run_goes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = prepare(Config(dataset=str(data), model="linear", opt="sgd"))
    folder = Run.create(job).folder
    assert folder.match("runs/2*-linear-sgd")
    with pytest.raises(ValueError, match="already holds a run: choose another folder, or resume it with --resume"):
        Run.create(job, folder)
    with pytest.raises(ValueError, match="is a file: give a folder"):
        Run.create(job, folder / "config.json")
    with pytest.raises(ValueError, match="must be at least 1 step, got 0"):
        Options(checkpoint_every=0)


def test_two_runs_begun_in_one_second_have_a_folder_each(tmp_path):
    folders = [make_new(tmp_path / "runs" / "now-mlp-adam") for _ in range(3)]
    assert [f.name for f in folders] == ["now-mlp-adam", "now-mlp-adam-2", "now-mlp-adam-3"]


# ---- what a program sets between two calls of fit ----


def _one_epoch(make, folder=None):
    """A Trainer after its first epoch, and its data."""
    rng = np.random.default_rng(0)
    data = rng.random((96, 1, 6, 6), np.float32), rng.integers(0, 4, 96)
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
    trainer = Trainer(net, make(net.parameters()), data, batch_size=16, folder=folder)
    trainer.fit(1, verbose=False)
    return trainer, data


def _freeze(trainer: Trainer) -> None:
    for p in trainer.model[1].parameters():
        p.requires_grad = False


def _decay(params):
    then = SGD(lr=0.1, momentum=0.9, weight_decay=0.013)
    return Hybrid(params, AdamW(weight_decay=0.03), then, AfterSteps(4), decay_after="matched")


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (partial(SGD, lr=0.1, weight_decay=0.1), lambda trainer: setattr(trainer.optimizer, "weight_decay", 0)),
        (partial(SGD, lr=0.1, momentum=0.9), lambda trainer: setattr(trainer.optimizer, "momentum", np.float32(0.1))),
        (partial(Adam, lr=0.01), lambda trainer: setattr(trainer.optimizer, "betas", (np.float32(0.1), 0.5))),
        (partial(Adam, lr=0.01), _freeze),
        (partial(Adam, lr=0.01), lambda trainer: setattr(trainer.model[3], "p", 0.6)),
        (_decay, lambda trainer: None),  # the switch has scaled the decay, which is not to be scaled once more
    ],
)
def test_what_a_program_has_set_is_there_after_loading(tmp_path, make, change):
    trainer, data = _one_epoch(make)
    change(trainer)
    shutil.copytree(trainer.save(tmp_path / "saved"), tmp_path / "loaded")
    trainer.fit(2, verbose=False)
    loaded = load_run(tmp_path / "loaded", data=data)
    loaded.fit(2, verbose=False)
    for name, right in trainer.model.state_dict().items():
        np.testing.assert_array_equal(loaded.model.state_dict()[name], right)


def test_a_trainers_folder_keeps_what_was_set_after_it_was_begun(tmp_path):
    trainer, data = _one_epoch(partial(SGD, lr=0.1, momentum=0.9), tmp_path / "r")
    trainer.optimizer.weight_decay = 0.25
    _freeze(trainer)
    trainer.save()
    assert disagreements(tmp_path / "r", load_checkpoint(tmp_path / "r" / "checkpoint.safetensors").state) == []
    loaded = load_run(tmp_path / "r", data=data)
    assert loaded.trainer.optimizer.weight_decay == 0.25
    assert [p.requires_grad for p in loaded.model.parameters()] == [False, False, True, True]
    trainer.optimizer.momentum = 0.0  # its vector v is still there, which an SGD made with 0 has not
    trainer.save()
    with pytest.raises(CheckpointError, match="momentum was set to 0 after"):
        load_run(tmp_path / "r", data=data).fit(1, verbose=False)


def test_a_run_of_the_command_line_goes_on_with_its_own_splits_alone(data, tmp_path):
    """Other ones were silently left out where they were given as Splits or arrays, and it trained on the run's own."""
    Run.create(prepare(Config(dataset=str(data), model="linear", opt="adam", epochs=1)), tmp_path / "r")
    whole = load_mnist(str(data))
    for other in (split(load_mnist("mnist5k"), 0.1, 0), (whole.train_images, whole.train_labels)):
        with pytest.raises(CheckpointError, match="trained on other data"):
            load_run(tmp_path / "r", data=other).fit(1, verbose=False)
    with pytest.raises(CheckpointError, match="these data are split by"):
        load_run(tmp_path / "r", data=split(whole, 0.1, seed=1)).fit(1, verbose=False)
    assert len(load_run(tmp_path / "r", data=split(whole, 0.1, 0)).fit(1, verbose=False)) == 1


def _train_by_hand(trainer):
    for _ in trainer.steps():
        pass
    trainer.finish_epoch()


def _halve(trainer):
    next(iter(trainer.model.parameters())).data[...] *= 0.5


@pytest.mark.parametrize(("change", "epochs"), [(_train_by_hand, 2), (_halve, 1)])
def test_results_are_those_of_the_weights_beside_them(tmp_path, change, epochs):
    """What `fit` wrote of a finished run says nothing of the weights that a program makes of it afterwards."""
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    data = split(load_mnist("mnist5k"), counts=(60, 40))
    trainer = Trainer(net, SGD(net.parameters(), lr=0.1), data, batch_size=20, folder=tmp_path / "r")
    trainer.fit(1, verbose=False)
    done = read_run(trainer.save(), 0)
    assert done.summary
    change(trainer)
    changed = read_run(trainer.save(), 0)
    assert (changed.summary, changed.notes, changed.config["epochs"]) == ({}, [], epochs)
    assert not (tmp_path / "r" / "summary.json").exists()
    trainer.fit(0, verbose=False)
    again = read_run(tmp_path / "r", 0)
    assert again.notes == []
    assert again.summary["test_loss"] == trainer.evaluate().loss != done.summary["test_loss"]


def test_a_run_by_a_loop_of_ones_own_is_as_long_as_it_was_trained(tmp_path):
    trainer, _ = _one_epoch(partial(SGD, lr=0.1), tmp_path / "r")
    _train_by_hand(trainer)
    next(trainer.steps())
    results = read_run(trainer.save(), 0)
    assert (len(results.metrics), results.config["epochs"]) == (2, 3)


def test_a_program_s_schedule_that_is_too_short_is_told(tmp_path):
    """Before anything is written where it can be known; a hybrid's second one only when the switch has come."""
    data = split(load_mnist("mnist5k"), counts=(60, 40))
    hybrid = partial(Hybrid, first=Adam(), then=SGD(lr=cosine(0.1, 4)), switch=AfterSteps(8))
    for name, make in (("adam", lambda params: Adam(params, lr=cosine(1e-3, 6))), ("hybrid", hybrid)):
        with seed(0):
            net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        Trainer(net, make(net.parameters()), data, batch_size=20, folder=tmp_path / name).fit(2, verbose=False)
    new = tmp_path / "new"
    assert "the cosine ends at step 6" in fails("--resume", tmp_path / "adam", "--epochs", 4, "--out", new)
    assert not new.exists()
    status, output = train("--resume", tmp_path / "hybrid", "--epochs", 5, "--out", new, log=tmp_path / "log")
    assert status == 1
    assert "Traceback" not in output
    assert "the cosine ends at step 4, this is step 5" in output
    assert f"The last checkpoint is in {new}" in output
    assert "the cosine ends" in fails("--resume", new, "--epochs", 6, "--out", tmp_path / "newer")
