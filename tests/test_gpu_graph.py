"""Captured training steps on a real GPU: the same bits as step by step, whatever happens in between.

`python -m pytest -m gpu`. A step that can't be captured warns, and a warning fails a test.
"""

import json
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from minidl import DeviceError, Tensor, nn, ops
from minidl.backend import get_backend, to_numpy
from minidl.fast.gpu.graph import WARM_UP, captured
from minidl.fast.gpu.products import cublas, tf32
from minidl.module import Module
from minidl.optim import SGD, SWATS, Adam, AfterSteps, Hybrid
from minidl.rng import CounterRng
from minidl.study.check import check
from minidl.study.execute import run_study
from minidl.study.store import Store
from minidl.training.build import NAMES
from minidl.training.checkpoint import load_checkpoint
from tests import device_checks as checks
from tests.commands import tiny_dataset
from tests.tiny_study import ONE

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        backend = get_backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))
    if cublas() is None:
        pytest.skip("nvmath-python is not installed: nothing is captured")
    return backend


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def batches(gpu, shape, classes=5, count=12, seed=0):
    """Batches on the device; the last of every four is smaller."""
    rng = np.random.default_rng(seed)
    sizes = [shape[0] if k % 4 < 3 else shape[0] - 3 for k in range(count)]
    images = [rng.standard_normal((n, *shape[1:])).astype(np.float32) for n in sizes]
    return [(gpu.from_host(x), gpu.from_host(rng.integers(0, classes, len(x)))) for x in images]


def state(model, optimizer):
    vectors = optimizer.state_dict()["vectors"]
    return [*model.state_dict().values(), *vectors.values()]


def same_bits(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def network(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "norm":
        layers = [nn.Conv2d(1, 8, 3, padding=1, rng=rng), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                  nn.Conv2d(8, 6, 3, rng=rng), nn.Tanh(), nn.AvgPool2d(2, 1), nn.Flatten(),
                  nn.Linear(24, 5, rng=rng)]  # fmt: skip
    else:
        layers = [nn.Flatten(), nn.Linear(100, 30, rng=rng), nn.ReLU(), nn.Dropout(0.3, rng=rng),
                  nn.Linear(30, 20, rng=rng), nn.BatchNorm1d(20), nn.Sigmoid(), nn.Dropout(0.2, rng=rng),
                  nn.Linear(20, 5, rng=rng)]  # fmt: skip
    return nn.Sequential(*layers).to("gpu")


OPTIMIZERS = {
    **checks.RULES,
    "switch in the middle": lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.1, momentum=0.9), AfterSteps(6)),
    "swats, switches": lambda p: SWATS(p, switch_rtol=0.9, weight_decay=0.1, max_norm=2.0),
}


@pytest.mark.parametrize("kind", ["norm", "dropout"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_steps_have_the_bits_of_steps_one_by_one(gpu, name, kind):
    ends = []
    for is_captured in (False, True):
        model = network(kind)
        optimizer = OPTIMIZERS[name](model.parameters())
        step = captured(lambda x, y, m=model: ops.cross_entropy(m(Tensor(x)), y), optimizer, model)
        losses: list[Tensor] = [
            (step if is_captured else step.as_usual)(x, y)
            for x, y in batches(gpu, (16, 1, 10, 10)) + batches(gpu, (16, 1, 10, 10), seed=1)
        ]
        if is_captured:
            assert step.why is None
            assert len(step.graphs) >= 2  # whole batches, and the smaller ones
        ends.append([*(loss.numpy() for loss in losses), *state(model, optimizer)])
    same_bits(*ends)


@pytest.mark.parametrize("opt", NAMES)
@pytest.mark.parametrize("model", ["mlp", "cnn", "goodfit"])
def test_a_trainer_captures_and_ends_with_the_same_bits(data, model, opt):
    ends = []
    for is_captured in (False, True):
        job = checks.job(data, "gpu", model=model, opt=opt, epochs=4)
        if not is_captured:
            job.trainer._captured = None
        job.trainer.train_to(4)
        if is_captured:
            assert job.trainer._captured.why is None
            assert job.trainer._captured.graphs
        records = [v for record in job.trainer.progress.metrics for v in checks.numbers(record).values()]
        ends.append([np.array(records), *state(job.model, job.trainer.optimizer)])
    same_bits(*ends)


def test_two_trainings_in_turns_leave_each_other_alone(gpu):
    def begin(seed):
        model = network("norm", seed)
        optimizer = Adam(model.parameters())
        return model, optimizer, captured(lambda x, y: ops.cross_entropy(model(Tensor(x)), y), optimizer, model)

    alone = begin(0)
    for x, y in batches(gpu, (16, 1, 10, 10)):
        alone[2](x, y)
    one, two = begin(0), begin(1)
    for x, y in batches(gpu, (16, 1, 10, 10)):
        one[2](x, y), two[2](x, y)
    same_bits(state(*alone[:2]), state(*one[:2]))


def test_results_stay_what_they_were(gpu):
    """The losses of thousands of steps, read at the end."""
    model = network("dropout")
    optimizer = SGD(model.parameters(), 0.01)
    step = captured(lambda x, y: ops.cross_entropy(model(Tensor(x)), y), optimizer, model)
    (x, y), *_ = batches(gpu, (16, 1, 10, 10))
    losses, early = [], []
    for k in range(9000):
        losses.append(step(x, y))
        if k < 5:
            early.append(losses[-1].item())
    assert [loss.item() for loss in losses[:5]] == early
    assert len({float(loss.numpy()) for loss in losses[::500]}) == 18


def test_rates_and_settings_are_looked_up_in_each_step(gpu):
    ends = []
    for is_captured in (False, True):
        model = network("dropout")
        optimizer = Adam(model.parameters(), lr=0.01)
        step = captured(lambda x, y, m=model: ops.cross_entropy(m(Tensor(x)), y), optimizer, model)
        for k, (x, y) in enumerate(batches(gpu, (16, 1, 10, 10), count=24)):
            if k == 8:
                optimizer.lr = 0.1
            if k == 12:
                model[3].p = 0.6
            if k == 16:
                model[1].weight.requires_grad = False
            if k == 20:
                model.eval()
            (step if is_captured else step.as_usual)(x, y)
        ends.append(state(model, optimizer))
    same_bits(*ends)


class Reads(Module):
    def forward(self, x):
        return x * float(x.data.max())


class Counts(Module):
    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class HostDropout(Module):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return ops.dropout(x, 0.5, self.rng)


@pytest.mark.parametrize("layer", [Reads, Counts, HostDropout])
def test_what_cant_be_captured_trains_as_usual_and_says_why_once(gpu, layer):
    ends = []
    for is_captured in (False, True):
        model = nn.Sequential(nn.Flatten(), nn.Linear(100, 5, rng=0), layer()).to("gpu")
        optimizer = Adam(model.parameters())
        step = captured(lambda x, y, m=model: ops.cross_entropy(m(Tensor(x)), y), optimizer, model)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for x, y in batches(gpu, (16, 1, 10, 10)):
                (step if is_captured else step.as_usual)(x, y)
        assert len(told) == is_captured
        assert not is_captured or "not captured" in str(told[0].message)
        ends.append(state(model, optimizer))
    same_bits(*ends)


def test_a_rule_without_a_formula_trains_as_usual(gpu):
    class Signs(SGD):
        name = "signs"

        def rule(self, g, p, lr, **state):
            p[...] = -lr * (g > 0)

    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 5, rng=0)).to("gpu")
    step = captured(lambda x, y: ops.cross_entropy(model(Tensor(x)), y), Signs(model.parameters(), 0.1), model)
    for x, y in batches(gpu, (16, 1, 10, 10)):
        step(x, y)
    assert not step.graphs


@pytest.mark.parametrize("shape", [(3,), (1000, 7), (5, 3, 11, 13)])
def test_dropout_draws_the_cpus_masks(gpu, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    near, far = CounterRng(7), CounterRng(7)
    for _ in range(3):
        wanted = ops.dropout(Tensor(x), 0.3, near).numpy()
        np.testing.assert_array_equal(ops.dropout(Tensor(gpu.from_host(x)), 0.3, far).numpy(), wanted)


def test_tf32_rounds_products_and_nothing_else(gpu):
    rng = np.random.default_rng(0)
    x, w = (gpu.from_host(rng.standard_normal((256, 256)).astype(np.float32)) for _ in range(2))
    exact = ops.linear(Tensor(x), Tensor(w)).numpy()
    with tf32():
        rounded = ops.linear(Tensor(x), Tensor(w)).numpy()
    np.testing.assert_array_equal(ops.linear(Tensor(x), Tensor(w)).numpy(), exact)
    assert 1e-5 < np.abs(rounded - exact).max() / np.abs(exact).max() < 1e-2


@pytest.mark.parametrize("opt", ["momentum", "adam", "hybrid", "blend"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_no_step_waits_for_the_gpu(data, model, opt, gpu):
    """While the GPU is busy with something long, steps are asked for and return."""
    xp = gpu.xp
    busy = xp.RawKernel(
        'extern "C" __global__ void busy(long long n) { long long t = clock64(); while (clock64() - t < n); }', "busy"
    )
    job = checks.job(data, "gpu", model=model, opt=opt, epochs=3)
    job.trainer.train_to(2)  # compiles, checks the kernels, and captures
    steps = job.trainer.steps()
    next(steps)
    xp.cuda.Device().synchronize()
    busy((1,), (1,), (np.int64(1_000_000_000),))  # half a second
    end = xp.cuda.Event()
    end.record()
    for _ in range(checks.EPOCH_STEPS - 1):
        next(steps)
    assert not end.done
    end.synchronize()
    assert WARM_UP < 2 * checks.EPOCH_STEPS


# ---- whole commands ----


def command(*args):
    return [sys.executable, "-m", "minidl.train", *map(str, args)]


def weights(folder):
    return list(load_checkpoint(folder / "checkpoint.safetensors").model.values())


ARGS = ("--dataset", "mnist5k", "--device", "gpu", "--epochs", 30, "--opt", "hybrid", "--switch", "step:400")


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, gpu):
    whole = command(*ARGS, "--checkpoint-every", 10, "--out", tmp_path / "whole")
    subprocess.run(whole, check=True, capture_output=True)
    cut = subprocess.Popen(
        command(*ARGS, "--checkpoint-every", 10, "--out", tmp_path / "cut"), stdout=subprocess.DEVNULL
    )
    checkpoint, metrics = tmp_path / "cut" / "checkpoint.safetensors", tmp_path / "cut" / "metrics.jsonl"
    deadline = time.time() + 60
    while not (checkpoint.exists() and metrics.exists() and len(metrics.read_text().splitlines()) > 5):
        assert time.time() < deadline
        time.sleep(0.005)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    subprocess.run(command("--resume", tmp_path / "cut"), check=True, capture_output=True)
    same_bits(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_two_processes_on_one_card_give_the_bits_of_one(tmp_path, gpu):
    folders = [tmp_path / name for name in ("alone", "a", "b")]
    subprocess.run(command(*ARGS, "--out", folders[0]), check=True, capture_output=True)
    both = [subprocess.Popen(command(*ARGS, "--out", f), stdout=subprocess.DEVNULL) for f in folders[1:]]
    assert [p.wait() for p in both] == [0, 0]
    for folder in folders[1:]:
        same_bits(weights(folders[0]), weights(folder))
    losses = {json.loads((f / "summary.json").read_text())["test_loss"] for f in folders}
    assert len(losses) == 1


def test_arrays_that_meet_say_where_they_are(gpu):
    here, there = Tensor(np.ones((2, 3), np.float32)), Tensor(np.ones((2, 3), np.float32), device="gpu")
    for operation in (ops.add, ops.mul, lambda a, b: ops.linear(a, b), lambda a, b: ops.matmul(a, b.T), ops.mse_loss):
        with pytest.raises(TypeError, match=r"(?s)cpu.*gpu.*\.to\(|gpu.*cpu.*\.to\("):
            operation(here, there)
    with pytest.raises(TypeError, match=r"\.numpy\(\)"):
        np.asarray(there)
    assert to_numpy(there.data).shape == (2, 3)


def test_a_studys_runs_side_by_side_are_those_made_one_by_one(tmp_path):
    weights = []
    for at_once in (1, 16):
        plan = run_study(ONE, tmp_path / str(at_once), at_once=at_once, device="gpu")
        assert not plan.missing()
        assert not plan.crashed()
        weights.append({key: record["result"]["weights"] for key, record in plan.store.all().items()})
    assert weights[0] == weights[1]
    assert check(Store(tmp_path / "16"), 20, None, 16, 1)
