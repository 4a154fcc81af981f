"""Each rule against the textbook (1e-12) and PyTorch (1e-9), in blocks or whole, and without an allocation."""

import tracemalloc

import numpy as np
import pytest

from minidl import Tensor
from minidl.fast.threads import use_threads
from minidl.optim import (
    SGD,
    SWATS,
    Adagrad,
    Adam,
    AdamW,
    AfterSteps,
    Blend,
    Hybrid,
    RMSprop,
)
from tests import textbook

H = [0.3, 1.0, 2.0, 0.05, 5.0, 0.7, 1.5, 0.2]  # curvature of each weight
START = [1.0, -2.0, 0.5, 3.0, -0.1, 0.0, 2.5, -1.0]
NOISE = np.random.default_rng(0).normal(size=(1000, 8)).tolist()


def noisy_bowl(k, w):
    """Gradient of sum h/2 (w-1)^2 with noise of its own at each step k."""
    return [h * (x - 1) + 0.1 * n for h, x, n in zip(H, w, NOISE[k - 1], strict=True)]


def parameters(dtype=np.float64):
    """The eight weights as two tensors of different shapes."""
    w = np.array(START, dtype)
    return [Tensor(w[:6].reshape(2, 3), requires_grad=True), Tensor(w[6:], requires_grad=True)]


def values(params):
    return np.concatenate([p.numpy().ravel() for p in params])


def feed(params, gradient):
    """Put a gradient of eight numbers where backward() would."""
    g = np.array(gradient, params[0].dtype)
    params[0].grad, params[1].grad = g[:6].reshape(2, 3), g[6:]


def run(make, steps=1000, gradient=noisy_bowl):
    params = parameters()
    optimizer = make(params)
    for k in range(1, steps + 1):
        feed(params, gradient(k, values(params).tolist()))
        optimizer.step()
        yield values(params)


RULES = {  # name: (ours, textbook, PyTorch's or None)
    "sgd": (lambda p: SGD(p, lr=0.1), lambda: textbook.sgd(START, noisy_bowl, 0.1), "SGD", {"lr": 0.1}),
    "sgd-decay": (
        lambda p: SGD(p, lr=0.1, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.1, wd=0.02),
        "SGD",
        {"lr": 0.1, "weight_decay": 0.02},
    ),
    "momentum": (
        lambda p: SGD(p, 0.05, 0.9, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.05, 0.9, 0.02),
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02},
    ),
    "nesterov": (
        lambda p: SGD(p, 0.05, 0.9, nesterov=True, weight_decay=0.02),
        lambda: textbook.sgd(START, noisy_bowl, 0.05, 0.9, 0.02, nesterov=True),
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True},
    ),
    "adam": (lambda p: Adam(p), lambda: textbook.adam(START, noisy_bowl, 1e-3), "Adam", {}),
    "adam-decay": (
        lambda p: Adam(p, 0.01, (0.8, 0.95), 1e-3, 0.02),
        lambda: textbook.adam(START, noisy_bowl, 0.01, 0.8, 0.95, 1e-3, 0.02),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02},
    ),
    "adamw": (
        lambda p: AdamW(p, 0.01),
        lambda: textbook.adam(START, noisy_bowl, 0.01, wd=0.01, decoupled=True),
        "AdamW",
        {"lr": 0.01},
    ),
    "amsgrad": (
        lambda p: Adam(p, 0.01, (0.8, 0.9), 1e-3, 0.02, amsgrad=True),
        lambda: textbook.adam(START, noisy_bowl, 0.01, 0.8, 0.9, 1e-3, 0.02, amsgrad=True),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.02, "amsgrad": True},
    ),
    "adamw-amsgrad": (
        lambda p: AdamW(p, 0.01, amsgrad=True),
        lambda: textbook.adam(START, noisy_bowl, 0.01, wd=0.01, decoupled=True, amsgrad=True),
        "AdamW",
        {"lr": 0.01, "amsgrad": True},
    ),
    "rmsprop": (lambda p: RMSprop(p), lambda: textbook.rmsprop(START, noisy_bowl, 0.01), "RMSprop", {}),
    "rmsprop-momentum": (
        lambda p: RMSprop(p, 1e-3, 0.9, 1e-3, 0.02, 0.9),
        lambda: textbook.rmsprop(START, noisy_bowl, 1e-3, 0.9, 1e-3, 0.02, 0.9),
        "RMSprop",
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.02, "momentum": 0.9},
    ),
    "adagrad": (lambda p: Adagrad(p), lambda: textbook.adagrad(START, noisy_bowl, 0.01), "Adagrad", {}),
    "adagrad-decay": (
        lambda p: Adagrad(p, 0.1, 1e-3, 0.02, 0.5, 1e-3),
        lambda: textbook.adagrad(START, noisy_bowl, 0.1, 1e-3, 0.02, 0.5, 1e-3),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 1e-3, "weight_decay": 0.02, "initial_accumulator_value": 0.5, "eps": 1e-3},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_is_the_textbook_rule(name):
    ours, theirs, *_ = RULES[name]
    for w, expected in zip(run(ours), theirs(), strict=False):
        np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", RULES)
def test_rule_is_pytorchs_rule(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    ours, _, torch_name, arguments = RULES[name]
    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.optim, torch_name)([w], **arguments)
    for k, own in enumerate(run(ours), start=1):
        w.grad = torch.tensor(noisy_bowl(k, w.tolist()), dtype=torch.float64)
        theirs.step()
        np.testing.assert_allclose(own, w.detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_blocks_do_not_show(name, monkeypatch):
    """A vector cut into blocks of 3, 3 and 2 takes the same steps as a whole one, bit for bit."""
    whole = list(run(RULES[name][0], 20))
    monkeypatch.setattr("minidl.optim.flat.BLOCK", 3)
    for a, b in zip(whole, run(RULES[name][0], 20), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:this step uses gradients that the previous step")
@pytest.mark.parametrize("name", [*RULES, "blend", "swats", "hybrid"])
def test_step_allocates_nothing(name):
    """But Python's small change; and where gamma is computed, two blocks in float64."""
    make = {
        "blend": lambda p: Blend(p, steps_per_epoch=10),
        "swats": SWATS,
        "hybrid": lambda p: Hybrid(p, Adam(lr=1e-3), SGD(lr=1e-3, momentum=0.9), AfterSteps(10**6), "matched"),
    }.get(name) or RULES[name][0]
    p = Tensor(np.ones(1_000_000, np.float32), requires_grad=True)
    optimizer = make([p])
    p.grad = p.home.grad
    optimizer.step()
    with use_threads(1):  # to wake a helper takes some memory, whenever one sleeps
        tracemalloc.start()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    limit = 600_000 if name in ("swats", "hybrid") else 20_000
    assert peak < limit, f"{peak:,} bytes for a vector of 4,000,000"


class Lookahead(Adam):
    """Back by half of the way at every second step: Python that a captured step would not run again."""

    name = "lookahead"

    def update(self):
        before = self.flat.w.copy()
        super().update()
        if self.t % 2 == 0:
            self.flat.w[...] = (self.flat.w + before) / 2


class Counts(Adam):
    name = "counts"

    def settle(self):
        self.settled = self.t


@pytest.mark.parametrize(
    ("make", "captured"),
    [
        (Adam, True),
        (lambda p: Hybrid(p, Adam(), SGD(lr=0.1), AfterSteps(9)), True),
        (Counts, True),
        (Lookahead, False),
        (lambda p: Hybrid(p, Lookahead(), SGD(lr=0.1), AfterSteps(9)), False),
    ],
)
def test_a_step_with_python_of_the_users_own_is_not_captured(make, captured, monkeypatch):
    """On a GPU. Here there is none: what finds a rule's kernel there stands in."""
    params = parameters()
    optimizer = make(params)
    feed(params, H)
    optimizer.step()
    monkeypatch.setattr("minidl.optim.optimizer.kernel_for", lambda w, name: lambda rule: rule.formula)
    assert (optimizer.kind() is not None) is captured
