"""The update rules once more, in C: on a GPU each takes its whole step in one kernel.

Written with array operations, Adam goes over its vectors a dozen times, and on a GPU each pass is a kernel that reads
them from memory and writes them back. Here the formula is written for one element, as in the paper: the kernel reads
g, w and the state once and writes them once. NumPy's form in each rule's own file stays the reference: what is here is
compared with it before its first use, and left alone if the two differ. A rule of your own needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import GPU_KERNELS, Array, backend_of
from minidl.fast.gpu.launch import MANY, Kernels, trusted
from minidl.fast.gpu.slip import numbers
from minidl.optim.adagrad import Adagrad
from minidl.optim.adam import Adam, AdamW
from minidl.optim.blend import Blend
from minidl.optim.optimizer import Rule
from minidl.optim.rmsprop import RMSprop
from minidl.optim.sgd import SGD
from minidl.optim.swats import SWATS

# For one element: the state's new values from the old ones and the gradient g, then p. And the numbers in it, which
# Python computes in double precision.
Formula: TypeAlias = "tuple[str, dict[str, float]]"
MOMENTS = "m = b1 * m + c1 * g; {v} = b2 * {v} + c2 * g * g;"


def _sgd(rule: SGD, lr: float) -> Formula:
    if not rule.momentum:
        return "p = -lr * g;", {"lr": lr}
    step = "p = -lr * (g + mu * v);" if rule.nesterov else "p = -lr * v;"
    return f"v = mu * v + g; {step}", {"lr": lr, "mu": rule.momentum}


def _adam(rule: Adam, lr: float) -> Formula:
    (b1, b2), t = rule.betas, rule.t
    numbers = {"b1": b1, "c1": 1 - b1, "b2": b2, "c2": 1 - b2, "eps": rule.eps}
    numbers |= {"rate": lr / (1 - b1**t), "scale": 1 / sqrt(1 - b2**t)}
    return MOMENTS.format(v="v") + " p = -rate * m / (sqrt(v) * scale + eps);", numbers


def _swats(rule: SWATS, lr: float) -> Formula:
    (b1, b2), k = rule.betas, rule.t
    if rule.switch_event is not None:
        return "v = b1 * v + g; p = -lr * v;", {"lr": lr, "b1": b1}
    numbers = {"b1": b1, "c1": 1 - b1, "b2": b2, "c2": 1 - b2, "eps": rule.eps}
    numbers |= {"rate": lr * sqrt(1 - b2**k) / (1 - b1**k)}
    return MOMENTS.format(v="a") + " p = -rate * m / (sqrt(a) + eps);", numbers


def _rmsprop(rule: RMSprop, lr: float) -> Formula:
    numbers = {"alpha": rule.alpha, "c": 1 - rule.alpha, "eps": rule.eps, "lr": lr}
    mean = "s = alpha * s + c * g * g;"
    if not rule.momentum:
        return f"{mean} p = -lr * g / (sqrt(s) + eps);", numbers
    return f"{mean} v = mu * v + g / (sqrt(s) + eps); p = -lr * v;", {**numbers, "mu": rule.momentum}


def _adagrad(rule: Adagrad, lr: float) -> Formula:
    rate = lr / (1 + (rule.t - 1) * rule.lr_decay)
    return "s = s + g * g; p = -rate * g / (sqrt(s) + eps);", {"rate": rate, "eps": rule.eps}


def _blend(rule: Blend, lr: float) -> Formula:
    a_sgd = rule.a_sgd((rule.t - 1) / rule.steps_per_epoch)
    a_rms = (1 - a_sgd) * rule.lr_rms / lr if lr > 0 else 0.0
    numbers = {"mu2": rule.alpha, "c": 1 - rule.alpha, "mu1": rule.momentum, "eps": rule.eps, "lr": lr}
    step = "D = mu1 * D - (a_sgd + a_rms / (sqrt(m) + eps)) * g; p = lr * D;"
    return f"m = mu2 * m + c * g * g; {step}", {**numbers, "a_sgd": a_sgd, "a_rms": a_rms}


FORMULAS: dict[Any, Callable[[Any, float], Formula]] = {
    SGD.rule: _sgd,
    Adam.rule: _adam,
    SWATS.rule: _swats,
    RMSprop.rule: _rmsprop,
    Adagrad.rule: _adagrad,
    Blend.rule: _blend,
}

# Weight decay: part of the gradient, or a shrinking of w itself, by a factor.
DECAYS: dict[Any, Callable[[Any, float], Formula]] = {
    Rule.decayed: lambda rule, lr: ("g = g + decay * w;", {"decay": rule.weight_decay}),
    AdamW.decayed: lambda rule, lr: ("w *= shrink;", {"shrink": 1 - lr * rule.weight_decay}),
    SWATS.decayed: lambda rule, lr: ("w *= shrink;", {"shrink": 1 - _lambda(rule, lr) * rule.weight_decay}),
}


def _lambda(rule: SWATS, lr: float) -> float:
    """The rate that SWATS decays with: lr, and in the SGD phase, where lr is (1-b1) Lambda, Lambda."""
    return lr if rule.switch_event is None else lr / (1 - rule.betas[0])


def step(rule: Rule) -> Any:
    """Add the step at rule.rate to all parameters, in one kernel; NotImplemented for a rule without a formula here."""
    found = _formula(rule, rule.rate)
    kernels = None if found is None else _checked(rule, found[0])
    if found is None or kernels is None or rule._bound().w.size > MANY:
        return NotImplemented
    at, now = numbers(lambda: list(_numbers(rule).values()))
    flat = rule._bound()
    kept = () if rule.p is None else (rule.p,)
    vectors = [getattr(rule, name) for name in rule.vectors]
    kernels("rule", flat.w.size, flat.w, flat.g, *vectors, *kept, at, *now, flat.w.size)
    return None


def text(rule: Rule) -> str | None:
    """The formula of the rule's next step; None where it has none here, or its kernel is not to be trusted."""
    found = _formula(rule, rule.rate)
    return None if found is None or _kernels.get(_key(rule, found[0]), 0) is None else found[0]


def _numbers(rule: Rule) -> dict[str, float]:
    found = _formula(rule, rule.rate)
    assert found is not None
    return found[1]


def _formula(rule: Rule, lr: float) -> Formula | None:
    """The whole step, weight decay counted; None for a class that has another `rule` or `decayed` than those here."""
    formula, decay = FORMULAS.get(type(rule).rule), DECAYS.get(type(rule).decayed)
    if formula is None or decay is None:
        return None
    text, numbers = formula(rule, lr)
    if not rule.weight_decay:
        return text, numbers
    before, more = decay(rule, lr)
    return f"{before} {text}", {**numbers, **more}


_kernels: dict[Any, Any] = {}  # those made so far; None for one that failed its check


def _key(rule: Rule, formula: str) -> Any:
    flat = rule._bound()
    return flat.xp, flat.w.dtype, formula, rule.p is None


def _checked(rule: Rule, formula: str) -> Any:
    """The kernel of this formula, compared with the rule's reference form before its first use; None if it failed.

    They are compared at rate 1, where a wrong step can't hide behind the weights.
    """
    key = _key(rule, formula)
    if key not in _kernels:
        found = _formula(rule, 1.0)
        assert found is not None
        kernels: list[Kernels] = []

        def both_ways() -> list[tuple[Array, Array]]:
            kernels.append(_compile(rule, *found))
            return _both_ways(rule, 1.0, kernels[0], found[1])

        _kernels[key] = kernels[0] if trusted(f"the update rule '{rule.name}'", both_ways) else None
    return _kernels[key]


def _compile(rule: Rule, formula: str, values: dict[str, float]) -> Any:
    """The formula as a kernel. Its numbers are arguments, or lie on the device at `at` (see slip.py)."""
    vectors = [*rule.vectors, *([] if rule.p is None else ["p"])]
    inputs = "".join(f", T *{name}_" for name in vectors) + ", const double *at"
    load = "".join(f"T {name} = {name}_[i]; " for name in rule.vectors)
    load += "".join(f"const T {name} = at ? at[{k}] : {name}_; " for k, name in enumerate(values))
    store = "".join(f"{name}_[i] = {name}; " for name in vectors)
    source = (
        f"KERNEL rule(T *w_, const T *g_{inputs}{''.join(f', double {name}_' for name in values)}, int n) {{\n"
        "    const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;\n"
        f"    T g = g_[i], w = w_[i], p; {load}\n    {formula}\n    w_[i] = w + p; {store}\n}}\n"
    )
    return Kernels(rule._bound().xp, rule._bound().w.dtype, source)


def _both_ways(rule: Rule, lr: float, kernels: Any, values: dict[str, float]) -> list[tuple[Array, Array]]:
    """w and the state after one step from random vectors: by the rule's reference form on the CPU, and by its kernel."""
    backend = backend_of(rule._bound().w)
    rng, names = np.random.default_rng(0), ("w", "g", *rule.vectors)
    a = {name: rng.uniform(0.5, 1.5, 97).astype(rule._bound().w.dtype) for name in names}
    b = {name: backend.from_host(v.copy()) for name, v in a.items()}
    p, q = np.zeros_like(a["w"]), backend.from_host(np.zeros_like(a["w"]))
    rule.rule(rule.decayed(a["w"], a["g"], lr), p, lr, **{name: a[name] for name in rule.vectors})
    a["w"] += p
    kept = () if rule.p is None else (q,)
    kernels("rule", 97, *b.values(), *kept, None, *values.values(), 97)
    return [(a[name], b[name]) for name in names] + ([(p, q)] if kept else [])


GPU_KERNELS["rule"] = step
GPU_KERNELS["rule_text"] = text
