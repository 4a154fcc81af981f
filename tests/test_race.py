"""The race to 99 %: its network and settings, the standardized input, and training on all images."""

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minidl import Tensor, gradcheck, nn, ops, trace
from minidl.data import load_mnist, write_idx
from minidl.data.batches import batches, scale, statistics
from minidl.data.splits import Examples, sizes, split
from minidl.optim import Adam, Plateau, parse_switch
from minidl.predict import classify, load_model
from minidl.study.studies import QUICK
from minidl.trainer import evaluate
from minidl.training.checkpoint import load_checkpoint, save_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.models import build_model, count_parameters, input_of, standardize
from minidl.training.run import Options, Run
from tests import race, race_gpu
from tests.commands import command, difference, fails, outcome, signal_at_call, tiny_dataset, train
from tests.field import BY_NAME, minidl_net


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), every=1)


@pytest.fixture(scope="module")
def blind(data, tmp_path_factory) -> Path:
    """The folder of a run that trained on all images, with its page beside it."""
    out = tmp_path_factory.mktemp("runs") / "blind"
    args = ["--dataset", data, "--model", "race", "--val-fraction", 0, "--epochs", 6, "--batch-size", 40]
    status, output = train(*args, "--out", out, "--trace", out.with_suffix(".html"), log=out.with_suffix(".log"))
    assert status == 0, output
    return out


# ---- the network and its settings ----


def test_the_network_is_the_public_one():
    first, *layers = build_model("race", (28, 28), 10)
    assert isinstance(first, nn.Standardize)
    assert [repr(layer) for layer in layers] == [repr(layer) for layer in minidl_net(BY_NAME["race"])]
    assert count_parameters(build_model("race", (28, 28), 10)) == 215_194


def test_race_alone_decides_everything():
    config = Config(model="race")
    assert (config.opt, config.batch_size) == ("adam", 256)
    assert [config.default_epochs(name) for name in ("mnist", "own", "mnist5k")] == [1, 1, 15]
    job = prepare(replace(config, dataset="mnist5k"))
    optimizer, steps = job.trainer.optimizer, 15 * 15
    assert (type(optimizer), optimizer.betas) == (Adam, (0.7, 0.9))
    assert job.config.schedule == "onecycle"
    assert optimizer.lr == pytest.approx(0.01 / 25)
    optimizer.t = round(0.3 * steps) - 1
    assert optimizer.lr == pytest.approx(0.01, rel=1e-3)
    optimizer.t = steps - 1
    assert optimizer.lr == pytest.approx(0.01 / 25 / 1e4)


def test_other_models_are_as_they_were():
    config = Config()
    assert (config.opt, config.batch_size, config.betas) == ("hybrid", 128, None)
    assert [config.default_epochs(name) for name in ("mnist", "mnist5k")] == [10, 20]


def test_what_is_given_comes_first():
    config = Config(model="race", dataset="mnist5k", batch_size=100, epochs=2, lr=0.003, schedule="linear", opt="adamw")
    job = prepare(config)
    optimizer = job.trainer.optimizer
    assert (optimizer.name, optimizer.lr, job.epochs, job.trainer.batch_size) == ("adamw", 0.003, 2, 100)
    assert optimizer.betas == (0.9, 0.999)  # the race's are for adam
    assert prepare(replace(config, opt="adam", betas=(0.5, 0.6))).trainer.optimizer.betas == (0.5, 0.6)
    assert prepare(replace(config, opt="hybrid", betas=(0.5, 0.6))).trainer.optimizer.first.betas == (0.5, 0.6)


def test_a_hybrid_of_one_epoch_switches_inside_it(data):
    job = prepare(Config(dataset=str(data), model="race", opt="hybrid", batch_size=20))
    job.trainer.train_to(job.epochs)
    event = job.trainer.optimizer.switch_event
    assert 0 < event.step < job.trainer.steps_per_epoch
    assert job.trainer.optimizer.first.betas == (0.7, 0.9)


# ---- the standardized input ----


def test_statistics_are_numpys():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1500, 9, 7), np.uint8)
    assert statistics(pixels) == pytest.approx(((pixels / 255).mean(), (pixels / 255).std()), rel=1e-12)
    floats = rng.normal(3, 2, (1100, 5, 5))
    assert statistics(floats) == pytest.approx((floats.mean(), floats.std()), rel=1e-9)
    assert statistics(np.full((3, 2, 2), 51, np.uint8)) == (0.2, 0.0)


def test_standardize_is_an_operation_like_any_other():
    mean, std = np.array([[[1.0]], [[2.0]]]), np.array([[[0.5]], [[4.0]]])
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 4))
    layer = nn.Standardize(mean, std)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), (x - mean) / std)
    gradcheck(layer, [x])
    assert list(layer.parameters()) == []
    assert layer.state_dict().keys() == {"mean", "std"}
    for wrong, least in ((0, "0"), ([0.5, 0.0], "0"), (-1, "-1"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=rf"^Standardize: std must be above 0, got {least}: make it 1 where"):
            nn.Standardize(0.1, wrong)
    assert repr(nn.Standardize(0.13066, 0.3081)) == "Standardize(mean=0.1307, std=0.3081)"


def test_its_numbers_are_those_of_the_images_that_are_trained_on(data):
    """Neither the validation nor the test images change them."""
    dataset = load_mnist(name=str(data))
    job = prepare(Config(dataset=str(data), model="race", val_fraction=0.3, seed=5))
    train = split(dataset, 0.3, seed=5).train.images / 255
    state = job.model.state_dict()
    assert state["0.mean"] == pytest.approx(train.mean(), rel=1e-6)
    assert state["0.std"] == pytest.approx(train.std(), rel=1e-6)
    other = replace(dataset, test_images=255 - dataset.test_images)
    again = prepare(Config(dataset=str(data), model="race", val_fraction=0.3, seed=5), other).model.state_dict()
    assert again["0.mean"] == state["0.mean"]


def test_images_that_are_all_the_same_stay_finite():
    model = build_model("race", (12, 12), 2)
    standardize(model, np.full((5, 12, 12), 255, np.uint8))
    assert np.isfinite(model(Tensor(np.ones((2, 1, 12, 12), np.float32))).numpy()).all()
    assert input_of(model) == "(byte / 255 - 1.0) / 1.0"


def test_what_is_done_to_a_pixel_is_told_and_kept_with_the_model(blind, data):
    """config.json has a formula; worked out by hand it gives what the checkpoint's model sees."""
    dataset = load_mnist(name=str(data))
    formula = json.loads((blind / "config.json").read_text())["pixels"]
    by_hand = eval(formula, {"byte": dataset.test_images[0].astype(np.float64)})
    mean, std = (dataset.train_images / 255).mean(), (dataset.train_images / 255).std()
    np.testing.assert_allclose(by_hand, (dataset.test_images[0] / 255 - mean) / std, rtol=1e-5)
    model, _ = load_model(blind)
    seen = model[0](Tensor(scale(dataset.test_images[:1])[:, None])).numpy()[0, 0]
    np.testing.assert_allclose(seen, by_hand, rtol=1e-5, atol=1e-6)
    assert input_of(build_model("mlp", (28, 28), 10)) == "byte / 255"


def test_predict_sees_what_training_saw(blind, data, tmp_path):
    dataset = load_mnist(name=str(data))
    model, _ = load_model(blind)
    with_numpy = load_checkpoint(blind / "checkpoint.safetensors").model
    x = (dataset.test_images[:9] / 255 - with_numpy["0.mean"]) / with_numpy["0.std"]
    wanted = ops.softmax(nn.Sequential(*list(model)[1:])(Tensor(x[:, None].astype(np.float32)))).numpy()
    for pixels, probabilities in zip(scale(dataset.test_images[:9]), wanted, strict=True):
        np.testing.assert_allclose(classify(model, pixels), probabilities, rtol=1e-4, atol=1e-6)
    write_idx(tmp_path / "some.idx", dataset.test_images[:9])
    lines = command(blind, tmp_path / "some.idx", module="minidl.predict").stdout.splitlines()
    assert [int(line.split(": ")[1][0]) for line in lines] == wanted.argmax(1).tolist()
    summary = json.loads((blind / "summary.json").read_text())
    found = evaluate(model, Examples(dataset.test_images, dataset.test_labels))
    assert found == pytest.approx((summary["test_loss"], summary["test_accuracy"]), rel=1e-6)


def test_the_page_shows_the_images_as_they_are(blind, data):
    (recording,) = trace.read(blind.with_suffix(".html"))
    whole = next(frame for frame in recording["frames"] if frame["batch"])
    known = {image.tobytes() for image in load_mnist(name=str(data)).train_images}
    assert all(image.tobytes() in known for image in whole["batch"]["images"])
    assert recording["layers"][0]["kind"] == "Standardize"
    assert recording["config"]["pixels"] == json.loads((blind / "config.json").read_text())["pixels"]


# ---- training on all images ----


def test_a_fraction_of_zero_sets_nothing_aside(data):
    dataset = load_mnist(name=str(data))
    assert sizes(200, 0) == (200, 0)
    splits = split(dataset, 0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (200, 0, 60)
    assert sorted(map(bytes, splits.train.images)) == sorted(map(bytes, dataset.train_images))
    assert list(batches(splits.val.images, splits.val.labels, 10)) == []
    with pytest.raises(ValueError, match="no examples to evaluate on"):
        evaluate(build_model("linear", (20, 16), 4), splits.val)


def test_the_runs_files_have_null_for_what_was_not_measured(blind):
    lines = [json.loads(line) for line in (blind / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert all(line["val_loss"] is line["val_accuracy"] is None for line in lines)
    assert all(line["train_loss"] > 0 for line in lines)
    summary = json.loads((blind / "summary.json").read_text())
    assert summary["val_accuracy"] is None
    assert summary["test_accuracy"] > 0.8
    assert (blind / "curves.png").stat().st_size > 10_000
    assert [epoch["val_accuracy"] for epoch in trace.read(blind.with_suffix(".html"))[0]["epochs"]] == [None] * 6


def test_what_is_printed_says_so(blind):
    output = blind.with_suffix(".log").read_text()
    assert "200 training, no validation and 60 test images" in output
    assert "val loss" not in output
    assert output.count("| adam ") == 6
    assert "   validation none   test 0." in output


def test_a_run_that_dies_goes_on_with_the_same_bits(blind, data, tmp_path):
    out = tmp_path / "killed"
    args = ["--dataset", data, "--model", "race", "--val-fraction", 0, "--epochs", 6, "--batch-size", 40]
    kill = partial(signal_at_call, 17, "minidl.trainer:Trainer.train_step")
    status, output = train(*args, "--checkpoint-every", 3, "--out", out, sabotage=kill, log=tmp_path / "log")
    assert status == -signal.SIGKILL, output
    status, output = train("--resume", out, log=tmp_path / "log2")
    assert status == 0, output
    assert difference(outcome(out), outcome(blind)) == ""


def test_a_run_of_the_version_before_goes_on(data, tmp_path):
    """Its checkpoint knows no betas, and its config.json no pixels."""
    job = prepare(Config(dataset=str(data), model="linear", opt="adam", epochs=2))
    run = Run.create(job, tmp_path / "old")
    file = run.folder / "checkpoint.safetensors"
    old = load_checkpoint(file)
    del old.state["config"]["betas"]
    save_checkpoint(file, old.model, old.optimizer, {k: v for k, v in old.state.items() if k != "optimizer"})
    resumed = Run.resume(run.folder)
    assert resumed.job.config == job.config
    assert resumed.settings["pixels"] == "byte / 255"


def test_a_python_run_may_have_no_validation_split(data):
    job = prepare(Config(dataset=str(data), model="linear", opt="sgd", val_fraction=0))
    record = job.trainer.train_to(1)[0]
    assert record["val_loss"] is record["val_accuracy"] is None
    assert Run(job, Path("unused"), Options()).settings["val_fraction"] == 0


@pytest.mark.parametrize(
    ("switch", "metric"),
    [
        ("plateau:patience=2", "val_loss"),
        ("plateau:metric=val_accuracy,patience=2", "val_accuracy"),
        ("gap:0.02", "val_accuracy"),
        ("crossing:val_loss=0.1", "val_loss"),
        ("epoch:3 | (step:10 & crossing:val_accuracy=0.9)", "val_accuracy"),
    ],
)
def test_a_condition_on_validation_is_refused(switch, metric):
    message = fails("--dataset", "mnist5k", "--val-fraction", 0, "--switch", switch)
    assert message.count("\n") == 1
    assert f"--switch {switch} uses {metric}, but --val-fraction 0" in message


def test_conditions_on_training_are_not(data):
    for switch in ("plateau:metric=train_loss,patience=1", "crossing:train_accuracy=0.1", "swats:rtol=0.5", "epoch:1"):
        job = prepare(Config(dataset=str(data), model="linear", opt="hybrid", val_fraction=0, switch=switch, epochs=2))
        job.trainer.train_to(2)
    assert parse_switch("step:3 & swats").metrics == ()
    assert (Plateau("train_loss") | Plateau()).metrics == ("train_loss", "val_loss")


def test_a_study_needs_validation_images():
    regime = replace(QUICK.regimes[0], val_images=0)
    with pytest.raises(ValueError, match="under-fit MLP has no validation images"):
        replace(QUICK, regimes=(regime,))


# ---- beside PyTorch, and on the full MNIST ----


@pytest.mark.pytorch
def test_the_first_steps_are_pytorchs(data):
    """The network from the same weights, with Adam on one cycle, in float64: the same losses."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    job = prepare(Config(dataset=str(data), model="race", batch_size=20, epochs=2, val_fraction=0))
    model, splits = job.model.to(dtype=np.float64), job.trainer.splits
    kinds = {"kernel_size": 2}
    twin = torch.nn.Sequential(
        torch.nn.Identity(), torch.nn.Conv2d(1, 24, 5), torch.nn.MaxPool2d(**kinds), torch.nn.ReLU(),
        torch.nn.Conv2d(24, 32, 3), torch.nn.MaxPool2d(**kinds), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(3 * 2 * 32, 256), torch.nn.ReLU(), torch.nn.Linear(256, 4),
    ).to(torch.float64)  # fmt: skip
    state = {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
    mean, std = state.pop("0.mean"), state.pop("0.std")
    twin.load_state_dict(state)
    from minidl.training.build import build

    steps = 2 * job.trainer.steps_per_epoch
    options = {name: getattr(job.config, name) for name in ("lr", "betas", "schedule")}
    optimizer = build("adam", model.parameters(), total_steps=steps, steps_per_epoch=10, **options)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01, betas=(0.7, 0.9))
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 0.01, total_steps=steps, cycle_momentum=False)
    for _ in range(2):
        for x, labels in batches(splits.train.images, splits.train.labels, 20, dtype=np.float64):
            loss = ops.cross_entropy(model(x), labels)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            other = torch.nn.functional.cross_entropy(
                twin((torch.from_numpy(x.numpy()) - mean) / std), torch.from_numpy(labels)
            )
            adam.zero_grad(), other.backward(), adam.step()
            cycle.step() if cycle.last_epoch < steps - 1 else None
            assert loss.item() == pytest.approx(other.item(), rel=1e-6, abs=1e-9)


def test_99_percent_in_one_epoch(mnist_root, tmp_path):
    """One run; `python -m tests.race` has the mean of twenty, beside PyTorch's."""
    result = command(
        "--dataset", "mnist", "--model", "race", "--val-fraction", 0, "--out", tmp_path / "r", timeout=1200
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["steps"], summary["epochs"]) == (235, 1)
    assert summary["test_accuracy"] > 0.987


def test_the_race_on_a_card_is_the_same_training(data, monkeypatch):
    """Tried on the CPU: its accuracies are those of the command with the same seed."""
    found = list(race_gpu.minidl_runs(str(data), [3, 4], "cpu"))
    for seed, (accuracy, seconds) in zip((3, 4), found, strict=True):
        job = prepare(Config(dataset=str(data), model="race", val_fraction=0, seed=seed, epochs=1, device="cpu"))
        job.trainer.train_to(1, validate=False)
        assert accuracy == job.trainer.evaluate().accuracy
        assert 0 < seconds < 60


@pytest.mark.extra("scipy")
def test_the_words_about_the_race_on_a_card():
    runs = {"minidl": [(0.9901, 0.10), (0.9903, 0.12)], "torch graph": [(0.9910, 0.13), (0.9908, 0.13)]}
    lines = "\n".join(race_gpu.report(runs))
    assert "minidl takes at most 0.11 s" in lines
    assert "minus torch graph: -0.070 points, FURTHER than 0.05 below" in lines
    mean, low, high = race.mean_interval([1.0, 2.0, 3.0, 4.0])  # t of 3 degrees of freedom: 3.182
    assert (mean, low, high) == pytest.approx((2.5, 2.5 - 3.18245 * 0.645497, 2.5 + 3.18245 * 0.645497), rel=1e-5)


@pytest.mark.parametrize("module", [race, race_gpu])
def test_one_seed_has_no_interval(module, monkeypatch, capsys, tmp_path):
    """It ended in a traceback of the standard deviation, after the runs."""
    monkeypatch.setattr("sys.argv", ["race", "--seeds", "1"])
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    assert "--seeds must be at least 2" in capsys.readouterr().err
