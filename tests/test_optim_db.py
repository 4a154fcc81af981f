"""PyTorch's own table of optimizer inputs, optim_db, on every rule of minidl: answered rightly or refused by name.

Each sample runs on minidl's own optimizer and on a wrapped one, in float64 and float32, beside PyTorch's plain form
(no foreach, no fused). What minidl refuses is an option that it does not have, and the message names it.
"""

from collections import Counter

import numpy as np
import pytest

import minidl.optim
from minidl import Tensor
from tests.torch_internals import table

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
pytest.importorskip("expecttest", reason="PyTorch's tables need it: pip install expecttest")
from minidl.optim.torch import wrap  # noqa: E402 (needs torch)

optim_db = table("common_optimizers", "optim_db")
pytestmark = pytest.mark.pytorch

RULES = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
ELSEWHERE = {"maximize", "dampening", "centered"}  # options that no rule has
INFOS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ in RULES}
SAMPLES = [(name, i, sample) for name in RULES for i, sample in enumerate(INFOS[name].optim_inputs_func(device="cpu"))]
SHAPES = [(3, 4), (4,), (), (2, 1, 3)]
STEPS = 12


def refused(sample):
    """The option for which minidl must refuse the sample; None where it must answer."""
    return next((name for name in sample.kwargs if name in ELSEWHERE), None)


def weights_and_gradients(dtype):
    rng = np.random.default_rng(1)
    weights = [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]
    return weights, [[np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES] for _ in range(STEPS)]


def pytorchs(name, kwargs, dtype):
    weights, gradients = weights_and_gradients(dtype)
    params = [torch.tensor(w, requires_grad=True) for w in weights]
    optimizer = getattr(torch.optim, name)(params, foreach=False, **kwargs)
    return stepped(optimizer, params, gradients, torch.tensor)


def own(name, kwargs, dtype):
    weights, gradients = weights_and_gradients(dtype)
    params = [Tensor(w.copy(), requires_grad=True) for w in weights]
    return stepped(getattr(minidl.optim, name)(params, **kwargs), params, gradients, np.copy)


def wrapped(name, kwargs, dtype):
    weights, gradients = weights_and_gradients(dtype)
    params = [torch.tensor(w, requires_grad=True) for w in weights]
    return stepped(wrap(getattr(minidl.optim, name), params, **kwargs), params, gradients, torch.tensor)


def stepped(optimizer, params, gradients, make):
    for row in gradients:
        for p, g in zip(params, row, strict=True):
            p.grad = make(g)
        optimizer.step()
    return [np.array(p.detach().numpy()) for p in params]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", [own, wrapped])
@pytest.mark.parametrize(("name", "i", "sample"), SAMPLES, ids=lambda x: getattr(x, "desc", x))
def test_each_sample_is_answered_rightly_or_refused_by_name(name, i, sample, form, dtype):
    option = refused(sample)
    if option is not None:
        with pytest.raises(TypeError, match=f"{name} has no option '{option}': "):
            form(name, sample.kwargs, dtype)
        return
    rtol, atol = (1e-12, 1e-13) if dtype == np.float64 else (2e-6, 1e-6)
    for ours, theirs in zip(form(name, sample.kwargs, dtype), pytorchs(name, sample.kwargs, dtype), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def test_the_count():
    """By rule: samples answered, samples refused; `-s` prints them. A change of PyTorch's table shows up here."""
    answered = Counter(name for name, _, sample in SAMPLES if refused(sample) is None)
    not_answered = Counter(name for name, _, sample in SAMPLES if refused(sample) is not None)
    for name in RULES:
        n = answered[name] + not_answered[name]
        print(f"{name}: {answered[name]} of {n} answered, {not_answered[name]} refused")
    assert answered == {"SGD": 7, "Adam": 4, "AdamW": 4, "RMSprop": 3, "Adagrad": 6}
    assert not_answered == {"SGD": 2, "Adam": 1, "AdamW": 1, "RMSprop": 5, "Adagrad": 1}


# ---- what PyTorch refuses ----

TAKEN = ("duplicate parameters", "betas must be either both floats")  # by minidl: once; and any two numbers
ERRORS = [
    (name, i, case)
    for name in RULES
    for i, case in enumerate(INFOS[name].optim_error_inputs_func(device="cpu", dtype=torch.float64))
    if not any(words in case.error_regex for words in TAKEN)
]


@pytest.mark.parametrize("form", ["own", "wrapped"])
@pytest.mark.parametrize(("name", "i", "case"), ERRORS, ids=lambda x: getattr(x, "error_regex", x))
def test_what_pytorch_refuses_is_refused(name, i, case, form):
    given, kwargs = case.optimizer_error_input.params, dict(case.optimizer_error_input.kwargs)
    kind = getattr(minidl.optim, name)
    make = kind if form == "own" else lambda params, **kwargs: wrap(kind, params, **kwargs)
    params = [torch.zeros(2, requires_grad=True)] if given is None else given
    params = to_ours(params) if form == "own" else params
    with pytest.raises((ValueError, TypeError)):
        make(params, **kwargs)


def to_ours(given):
    """The same structure with minidl's Tensors."""
    made = {}

    def convert(x):
        if isinstance(x, torch.Tensor):
            return made.setdefault(id(x), Tensor(x.detach().numpy(), requires_grad=True))
        if isinstance(x, dict):
            return {key: convert(value) for key, value in x.items()}
        return type(x)(convert(each) for each in x) if isinstance(x, (list, tuple)) else x

    return convert(given)
