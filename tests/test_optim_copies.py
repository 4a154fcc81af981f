"""Optimizers that are pickled or copied, with their model or alone, go on as the original, on memory of their own."""

import copy
import pickle

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from minidl.optim import GNMT, SGD, SWATS, Adam, AfterSteps, Hybrid
from minidl.training.build import build
from tests.test_optim import RULES

RNG = np.random.default_rng(3)
IMAGES, LABELS = RNG.normal(size=(8, 6)).astype(np.float32), RNG.integers(0, 3, 8)

MAKE = {name: rule[0] for name, rule in RULES.items()} | {
    "swats": lambda p: SWATS(p, switch_rtol=0.5),
    "hybrid": lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.1, momentum=0.9), AfterSteps(4), "projected"),
    "matched": lambda p: Hybrid(p, Adam(lr=0.01), SGD(lr=0.1), AfterSteps(9), "matched"),
    "gnmt": lambda p: GNMT(p, total_steps=200),
    "groups": lambda p: Adam(
        [{"params": [next(it := iter(p))], "lr": 1e-4}, {"params": list(it), "weight_decay": 0.1}]
    ),
}
MAKE["built"] = lambda p: build(
    "hybrid", p, total_steps=20, steps_per_epoch=5, lr=0.01, lr_sgd=0.1, momentum=0.9, weight_decay=0.1,
    switch="step:5", schedule="linear", schedule_sgd="cosine",
)  # fmt: skip
COPY = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy}


def network():
    return nn.Sequential(nn.Linear(6, 5, rng=0), nn.Tanh(), nn.Linear(5, 3, rng=1))


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        ops.cross_entropy(model(Tensor(IMAGES)), LABELS).backward()
        optimizer.step()


@pytest.mark.parametrize("how", COPY)
@pytest.mark.parametrize("name", MAKE)
def test_model_and_optimizer_together(name, how):
    model = network()
    optimizer = MAKE[name](model.parameters())
    train(model, optimizer, 3)
    again, its = COPY[how]((model, optimizer))
    train(model, optimizer, 5)
    before = {key: value.copy() for key, value in model.state_dict().items()}
    train(again, its, 5)
    for key, value in again.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
        np.testing.assert_array_equal(model.state_dict()[key], before[key])
    assert its.phase == optimizer.phase
    assert its.lr == optimizer.lr
    assert all(np.shares_memory(p.data, its.flat.w) for p in again.parameters())
    assert all(getattr(its.active, v).ctypes.data % 64 == 0 for v in its.active.vectors)


@pytest.mark.parametrize("how", COPY)
def test_frozen_for_now(how):
    model = network()
    optimizer = Adam(model.parameters(), lr=0.01)
    train(model, optimizer, 3)
    for p in model.parameters():
        p.requires_grad = False
    again, its = COPY[how]((model, optimizer))
    for p in (*model.parameters(), *again.parameters()):
        p.requires_grad = True
    train(model, optimizer, 2)
    train(again, its, 2)
    for key, value in again.state_dict().items():
        np.testing.assert_array_equal(value, model.state_dict()[key])


@pytest.mark.parametrize("how", COPY)
def test_alone_an_optimizer_takes_parameters_of_its_own_along(how):
    model = network()
    optimizer = Adam(model.parameters())
    train(model, optimizer, 2)
    its = COPY[how](optimizer)
    assert not np.shares_memory(its.flat.w, optimizer.flat.w)
    np.testing.assert_array_equal(its.flat.w, optimizer.flat.w)
    np.testing.assert_array_equal(its.m, optimizer.m)


@pytest.mark.parametrize("how", COPY)
def test_alone_a_model_is_free(how):
    model = network()
    optimizer = Adam(model.parameters())
    train(model, optimizer, 2)
    again = COPY[how](model)
    assert all(p.home is None for p in again.parameters())
    np.testing.assert_array_equal(again[0].weight.numpy(), model[0].weight.numpy())
    train(again, Adam(again.parameters()), 1)
    train(model, optimizer, 1)
