"""A step waits for nothing: every rule works, clipping included, on a device whose arrays refuse to be read."""

import numpy as np
import pytest

from minidl import Tensor, backend
from optim import SGD, SWATS, Adagrad, Adam, AdamW, AfterSteps, Blend, Hybrid, RMSprop
from optim.schedule import cosine


class FarArray(np.ndarray):
    """A NumPy array that behaves like a GPU's: reductions give 0-d arrays, and reading one as a number is an event."""

    def dot(self, other):
        return np.asarray(np.asarray(self) @ np.asarray(other)).view(FarArray)

    def sum(self, *args, **kwargs):
        return np.asarray(np.asarray(self).sum(*args, **kwargs)).view(FarArray)

    def read(self, *args):
        raise AssertionError("waited for the device")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = read


class FarModule:
    """The array module of the far device."""

    def __getattr__(self, name):
        function = getattr(np, name)
        if name in ("empty", "zeros"):
            return lambda *args, **kwargs: function(*args, **kwargs).view(FarArray)
        return function


FAR = backend.Backend("far", FarModule(), FarArray, lambda a: np.asarray(a).view(FarArray), np.asarray)

RULES = {
    "sgd": lambda p: SGD(p, cosine(0.1, 10), 0.9, nesterov=True, weight_decay=0.1, max_norm=0.5),
    "adam": lambda p: Adam(p, weight_decay=0.1, max_norm=0.5),
    "adamw": lambda p: AdamW(p, max_norm=0.5),
    "rmsprop": lambda p: RMSprop(p, momentum=0.9, max_norm=0.5),
    "adagrad": lambda p: Adagrad(p, max_norm=0.5),
    "blend": lambda p: Blend(p, steps_per_epoch=1, center=2, period=2, max_norm=0.5),
    "hybrid": lambda p: Hybrid(p, Adam(max_norm=0.5), SGD(momentum=0.9), AfterSteps(3), carry="momentum"),
}


@pytest.fixture(autouse=True)
def far_device(monkeypatch):
    monkeypatch.setattr(backend, "_loaded", {"far": FAR, **backend._loaded})  # first: its arrays are NumPy's too


def steps(make, n, like):
    values = np.random.default_rng(0).normal(size=(n + 1, 5))
    p = Tensor(like(values[0]), requires_grad=True)
    optimizer = make([p])
    for g in values[1:]:
        optimizer.zero_grad()
        p.grad = like(g)
        optimizer.step()
    return np.asarray(p.data), optimizer


@pytest.mark.parametrize("name", RULES)
def test_no_rule_reads_a_number_from_the_device(name):
    far, optimizer = steps(RULES[name], 6, FAR.from_host)
    near, _ = steps(RULES[name], 6, np.array)
    assert isinstance(optimizer.flat.w, FarArray)
    np.testing.assert_allclose(far, near, rtol=1e-15)
    again = RULES[name]([Tensor(FAR.from_host(far), requires_grad=True)])
    if name != "hybrid":
        again.load_state_dict(optimizer.state_dict())
        for vector in again.vectors:
            assert isinstance(getattr(again, vector), FarArray)
            np.testing.assert_array_equal(np.asarray(getattr(again, vector)), np.asarray(getattr(optimizer, vector)))


def test_the_far_device_would_tell():
    with pytest.raises(AssertionError, match="waited"):
        steps(SWATS, 1, FAR.from_host)  # the projection needs its two numbers on the host
