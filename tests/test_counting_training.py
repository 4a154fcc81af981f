"""Training on a device that is not the CPU: the CPU's numbers, and each way across counted."""

import json
import re

import numpy as np
import pytest

import minidl.predict as prediction
from minidl import Tensor, gradcheck, nn, ops
from minidl import train as program
from minidl.data import load_mnist
from minidl.data.splits import Examples, split
from minidl.optim import SGD, Adam, AfterEpochs, Crossing, Gap, Hybrid, Plateau
from minidl.trainer import Trainer, evaluate
from minidl.training.build import NAMES
from minidl.training.checkpoint import load_checkpoint
from minidl.training.config import Config, prepare
from minidl.training.divergence import Diverged
from minidl.training.models import MODELS, build_model
from minidl.training.run import Run
from tests import device_checks as checks
from tests.commands import tiny_dataset
from tests.counting import Counting
from tests.device_checks import EPOCH_STEPS as STEPS
from tests.device_checks import job

PLACE = np.dtype(np.int64).itemsize  # bytes that each example's place in the order takes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def warm_up(data, model, opt):
    """A kernel is compared with the reference before its first use, which reads: let that be over."""
    job(data, "counting", model=model, opt=opt).trainer.train_to(2)


# ---- the same numbers ----


@pytest.mark.parametrize("model", MODELS)
def test_each_model_learns_as_on_the_cpu(data, model, device, tmp_path):
    checks.check_model(model, "counting", tiny_dataset(tmp_path, every=1) if model == "race" else data)


@pytest.mark.parametrize("opt", NAMES)
def test_each_optimizer_trains_as_on_the_cpu(data, opt, device):
    checks.check_optimizer(opt, "counting", data)


CONDITIONS = [AfterEpochs(1), Plateau("train_accuracy", 1, 0.9), Crossing("val_loss", 9.0), Gap(-1.0)]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions_on_reports_switch_where_they_do_on_the_cpu(data, condition, device):
    for where in ("cpu", "counting"):
        one = job(data, where, model="underfit")
        optimizer = Hybrid(one.model.parameters(), Adam(), SGD(lr=0.01), condition)
        trainer = Trainer(one.model, optimizer, one.trainer.splits, 30)
        trainer.train_to(2)
        assert optimizer.switch_event is not None
        assert optimizer.switch_event.step in (STEPS, 2 * STEPS)


def test_dropout_draws_the_cpus_masks(device):
    x = np.ones((20, 30), np.float32)
    near, far = (nn.Dropout(0.4, rng=3)(Tensor(x, device=where)) for where in ("cpu", "counting"))
    np.testing.assert_array_equal(far.numpy(), near.numpy())


# ---- what crosses ----


def test_the_data_set_and_the_weights_cross_once(data, device: Counting):
    with device.measure() as traffic:
        one = job(data, "counting", model="mlp")
    arrays = [a for part in ("train", "val", "test") for a in vars(getattr(one.trainer.splits, part)).values()]
    weights = list(one.model.parameters())
    assert traffic.uploads == len(arrays) + len(weights) == 6 + 6
    assert traffic.upload_bytes == sum(a.nbytes for a in arrays) + sum(p.data.nbytes for p in weights)
    assert traffic.downloads == 0


@pytest.mark.parametrize(  # each rule, and each model: what the one sends the other does not change
    ("model", "opt"),
    [*(("mlp", opt) for opt in ("momentum", "adam", "hybrid", "blend")), ("cnn", "hybrid"), ("overfit", "adam")],
)
def test_an_epoch_sends_its_order_and_reads_its_losses_once(data, model, opt, device: Counting):
    warm_up(data, model, opt)
    one = job(data, "counting", model=model, opt=opt)
    one.trainer.train_to(1)
    n, steps = len(one.trainer.splits.train), one.trainer.steps()
    with device.measure() as traffic:
        next(steps)
    assert (traffic.uploads, traffic.upload_bytes, traffic.downloads) == (1, n * PLACE, 0)  # the order, once
    with device.forbid_reads():
        for _ in range(STEPS - 1):
            with device.measure() as traffic:
                next(steps)
            assert traffic.uploads == 0
    with device.measure() as traffic:
        assert next(steps, None) is None  # the end of the epoch: the losses and counts of all its steps
    assert (traffic.uploads, traffic.downloads, traffic.download_bytes) == (0, 1, STEPS * 2 * 8)


@pytest.mark.parametrize(("model", "most"), [("mlp", (69, 25)), ("cnn", (161, 43))])
def test_a_step_is_few_launches(model, most, device: Counting):
    """On a GPU each costs microseconds, however small the arrays. tutorials/pages/gpu-numbers.md has such numbers."""
    data = load_mnist(name="mnist5k")
    one = prepare(Config(dataset="mnist5k", device="counting", model=model, opt="adam"), data)
    steps = one.trainer.steps()
    next(steps)
    with device.measure() as traffic:
        next(steps)
    assert traffic.launches == most[bool(device.backend.kernels)]


def test_losses_are_read_once_in_each_interval(data, device: Counting):
    warm_up(data, "linear", "sgd")
    one = job(data, "counting", model="linear", opt="sgd")
    trainer = Trainer(one.model, one.trainer.optimizer, one.trainer.splits, 10, read_every=7)
    reads = []
    steps = trainer.steps()
    for _ in range(trainer.steps_per_epoch):
        with device.measure() as traffic:
            next(steps)
        reads.append(traffic.downloads)
    assert reads == [1 if k % 7 == 0 else 0 for k in range(1, trainer.steps_per_epoch + 1)]


def test_dropout_draws_its_masks_on_the_device_or_sends_one_for_each_layer(data, device: Counting):
    one = job(data, "counting", model="goodfit", opt="sgd")
    steps = one.trainer.steps()
    next(steps)
    with device.measure() as traffic, device.forbid_reads():
        next(steps)
    sent = (0, 0) if device.backend.kernels else (2, 30 * (512 + 256) * 4)
    assert (traffic.uploads, traffic.upload_bytes) == sent


def test_swats_waits_in_each_step_of_its_first_phase(data, device: Counting):
    one = job(data, "counting", model="linear", opt="swats")
    steps = one.trainer.steps()
    next(steps)
    with device.measure() as traffic:
        next(steps)
    assert (traffic.downloads, traffic.download_bytes) == (1, 16)


def test_an_evaluation_reads_once(data, device: Counting):
    warm_up(data, "mlp", "sgd")
    one = job(data, "counting", model="mlp")
    with device.measure() as traffic:
        evaluate(one.model, one.trainer.splits.train, 30)
    assert (traffic.uploads, traffic.downloads) == (0, 1)


def test_a_checkpoint_reads_each_array_once_and_one_flag(data, tmp_path, device: Counting):
    run = Run.create(job(data, "counting", model="linear", opt="adam"), tmp_path / "r")
    with device.measure() as traffic:
        run.save()
    assert (traffic.uploads, traffic.downloads) == (0, 1 + 2 + 2)  # finite or not; weight, bias; m, v


# ---- the programs ----


def command(capsys, *args):
    status = program.main([str(a) for a in args])
    output = capsys.readouterr()
    return status, output.out + output.err


def test_the_command_trains_on_the_device(data, tmp_path, capsys, device):
    args = ["--dataset", data, "--epochs", 2, "--batch-size", 30, "--model", "cnn", "--opt", "hybrid"]
    for where in ("cpu", "counting"):
        status, output = command(capsys, *args, "--device", where, "--out", tmp_path / where)
        assert status == 0, output
        assert f"on {where};" in output
    a, b = (json.loads((tmp_path / where / "summary.json").read_text()) for where in ("cpu", "counting"))
    assert b["device"] == "counting"
    assert b["test_loss"] == pytest.approx(a["test_loss"], rel=1e-4)
    assert b["switch"]["step"] == a["switch"]["step"]
    model, size = prediction.load_model(tmp_path / "counting")  # on the CPU
    probabilities = prediction.classify(model, np.zeros(size, np.float32))
    assert probabilities.sum() == pytest.approx(1)


def test_a_run_goes_on_on_another_device(data, tmp_path, capsys, device):
    """Begun on the CPU, cut after an epoch, ended on the device; and the other way round."""
    args = ["--dataset", data, "--batch-size", 30, "--model", "underfit", "--switch", "step:8"]
    assert command(capsys, *args, "--epochs", 2, "--device", "cpu", "--out", tmp_path / "whole")[0] == 0
    whole = load_checkpoint(tmp_path / "whole" / "checkpoint.safetensors")
    for first, second in (("cpu", "counting"), ("counting", "cpu")):
        out = tmp_path / f"{first}-{second}"
        run = Run.create(job(data, first, model="underfit", switch="step:8"), out)
        for _ in run.job.trainer.steps():
            if run.job.trainer.progress.batch == 3:
                run.save()
        status, output = command(capsys, "--resume", out, "--device", second)
        assert status == 0, output
        for name, values in load_checkpoint(out / "checkpoint.safetensors").model.items():
            np.testing.assert_allclose(values, whole.model[name], rtol=1e-3, atol=1e-5)


def test_a_divergence_is_reported_as_on_the_cpu(data, tmp_path, capsys, device):
    """The losses are read late, but the message names the same step and layer."""
    messages = []
    for where in ("cpu", "counting"):
        args = ["--dataset", data, "--epochs", 2, "--batch-size", 30, "--model", "mlp", "--opt", "sgd", "--lr", "1e9"]
        status, output = command(capsys, *args, "--device", where, "--out", tmp_path / where)
        assert status == 1
        messages.append(re.search(r"training diverged at step (\d+): .* learning rate .*layer (\S+),", output).groups())
    assert messages[0] == messages[1]


def test_weights_that_are_not_finite_are_named(data, tmp_path, device):
    run = Run.create(job(data, "counting", model="mlp", opt="sgd"), tmp_path / "r")
    run.job.model[3].weight.data[0] = np.float32("nan")
    with pytest.raises(Diverged, match=r"weight of layer 3, Linear\(64, 128\)|weight of layer 3, Linear\("):
        run.save()


def test_gradcheck_takes_tensors_from_the_device(device):
    x = Tensor(device.from_host(np.array([0.3, -1.2, 2.0])), requires_grad=True)
    assert gradcheck(lambda x: ops.sum(ops.tanh(x) * x), [x])


def test_state_dicts_cross(device):
    model, twin = (build_model("cnn", (8, 8), 3, seed) for seed in (0, 1))
    twin.to("counting").load_state_dict(model.state_dict())
    for name, values in twin.to("cpu").state_dict().items():
        np.testing.assert_array_equal(values, model.state_dict()[name])


def test_splits_are_the_cpus(device):
    dataset = load_mnist(name="mnist5k")
    near, far = split(dataset), split(dataset, device="counting")
    assert isinstance(far.train, Examples)
    np.testing.assert_array_equal(far.train.images.get(), near.train.images)
