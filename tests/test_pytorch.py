"""Beside PyTorch, in float64, from the same weights and batches: the same outputs, gradients and 200 training steps."""

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from minidl.optim import SGD, Adam
from minidl.optim.schedule import cosine, exponential, linear, onecycle
from minidl.training.models import build_model

pytestmark = pytest.mark.pytorch
torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
lr_scheduler = torch.optim.lr_scheduler


def twin(model: nn.Sequential):
    """The PyTorch model of the same layers and weights, through the state dict."""
    layers = []
    for _, layer in model.named_children():
        match layer:
            case nn.Linear():
                layers.append(torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0], layer.bias is not None))
            case nn.Conv2d():
                o, i, *kernel = layer.weight.shape
                layers.append(torch.nn.Conv2d(i, o, tuple(kernel), layer.stride, layer.padding))
            case nn.MaxPool2d() | nn.AvgPool2d():
                layers.append(getattr(torch.nn, type(layer).__name__)(layer.kernel_size, layer.stride, layer.padding))
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                layers.append(getattr(torch.nn, type(layer).__name__)(layer.weight.size))
            case _:
                layers.append(getattr(torch.nn, type(layer).__name__)())
    other = torch.nn.Sequential(*layers).to(torch.float64)
    other.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
    return other


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, rng=0), nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(4, 5, 3, stride=2, rng=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Flatten(), nn.Linear(45, 16, rng=2), nn.BatchNorm1d(16), nn.Sigmoid(), nn.Linear(16, 10, rng=3),
    )  # fmt: skip


MODELS = {
    "mlp": lambda: build_model("mlp", (28, 28), 10, seed=1),
    "cnn": lambda: build_model("cnn", (12, 12), 10, seed=1),  # small images keep the test short
    "mixed": mixed,
}
SIZES = {"mlp": 28, "cnn": 12, "mixed": 28}

SCHEDULES = {
    "onecycle": (
        lambda steps: onecycle(0.01, steps),
        lambda o, steps: lr_scheduler.OneCycleLR(o, 0.01, steps, cycle_momentum=False),
    ),
    "onecycle, otherwise": (
        lambda steps: onecycle(0.01, steps, 0.45, "linear", 10, 100),
        lambda o, steps: lr_scheduler.OneCycleLR(
            o, 0.01, steps, pct_start=0.45, anneal_strategy="linear", div_factor=10, final_div_factor=100,
            cycle_momentum=False,
        ),
    ),
    "onecycle, three phases": (
        lambda steps: onecycle(0.01, steps, three_phase=True),
        lambda o, steps: lr_scheduler.OneCycleLR(o, 0.01, steps, three_phase=True, cycle_momentum=False),
    ),
    "linear": (
        lambda steps: linear(0.01, steps),
        lambda o, steps: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=steps),
    ),
    "linear, up": (
        lambda steps: linear(0.01, 5, 0.25, 0.75),
        lambda o, steps: lr_scheduler.LinearLR(o, start_factor=0.25, end_factor=0.75, total_iters=5),
    ),
    "exponential": (  # an epoch of one step
        lambda steps: exponential(0.01, 0.9, 1),
        lambda o, steps: lr_scheduler.ExponentialLR(o, gamma=0.9),
    ),
    "cosine": (
        lambda steps: cosine(0.01, steps),
        lambda o, steps: lr_scheduler.CosineAnnealingLR(o, steps),
    ),
}  # fmt: skip


@pytest.mark.parametrize("steps", [2, 3, 7, 10, 211, 235])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_pytorchs(name, steps):
    ours, theirs = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler, rates = theirs(optimizer, steps), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    assert list(map(ours(steps), range(steps))) == pytest.approx(rates, rel=1e-9, abs=1e-12)


OPTIMIZERS = {
    "sgd": (lambda p: SGD(p, lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": (lambda p: SGD(p, lr=0.02, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "nesterov": (
        lambda p: SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "adam": (lambda p: Adam(p, lr=1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_200_training_steps(name, optimizer):
    model = MODELS[name]().to(dtype=np.float64)
    other = twin(model)
    ours, theirs = OPTIMIZERS[optimizer][0](model.parameters()), OPTIMIZERS[optimizer][1](other.parameters())
    rng = np.random.default_rng(0)
    means = rng.normal(size=(10, 1, SIZES[name], SIZES[name]))  # ten classes that can be learned, with noise
    losses = []
    for _ in range(200):
        labels = rng.integers(0, 10, 16)
        x = means[labels] + rng.normal(size=(16, *means.shape[1:]))
        loss = ops.cross_entropy(model(Tensor(x)), labels)
        ours.zero_grad()
        loss.backward()
        ours.step()
        other_loss = torch.nn.functional.cross_entropy(other(torch.from_numpy(x)), torch.from_numpy(labels))
        theirs.zero_grad()
        other_loss.backward()
        theirs.step()
        losses.append((loss.item(), other_loss.item()))
    assert losses[-1][0] < losses[0][0], "nothing was learned, so the steps were not tested"
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_crosses_to_pytorch_and_back_unchanged(name):
    model = MODELS[name]()
    model(Tensor(np.random.default_rng(0).normal(size=(4, 1, SIZES[name], SIZES[name])).astype(np.float32)))
    before = model.state_dict()
    there = twin(model).to(torch.float32).state_dict()
    fresh = MODELS[name]()
    for p in fresh.parameters():
        p.data[...] = np.nan
    fresh.load_state_dict(there)
    after = fresh.state_dict()
    assert list(before) == list(there) == list(after)
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert np.array_equal(before[key], after[key])


def test_a_checkpoint_is_read_by_safetensors_for_pytorch(tmp_path):
    from safetensors.torch import load_file

    from minidl.training.checkpoint import save_checkpoint

    model = MODELS["cnn"]()
    save_checkpoint(tmp_path / "c.safetensors", model.state_dict(), {"vectors": {}, "scalars": {}}, {})
    there = twin(model).to(torch.float32)
    for p in there.parameters():
        torch.nn.init.zeros_(p)
    there.load_state_dict(load_file(tmp_path / "c.safetensors"))
    assert all(np.array_equal(v.numpy(), model.state_dict()[k]) for k, v in there.state_dict().items())
