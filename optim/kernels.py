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
from minidl.gpu import trusted
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


def step(rule: Rule, lr: float) -> Any:
    """Add the step at rate lr to all parameters, in one kernel; NotImplemented for a rule that has no formula here."""
    found = _formula(rule, lr)
    kernel = None if found is None else _checked(rule, found[0])
    if found is None or kernel is None:
        return NotImplemented
    flat, kept = rule._bound(), () if rule.p is None else (rule.p,)
    kernel(flat.g, *found[1].values(), *(getattr(rule, name) for name in rule.vectors), *kept, flat.w)
    return None


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


def _checked(rule: Rule, text: str) -> Any:
    """The kernel of this formula, compared with the rule's reference form before its first use; None if it failed.

    They are compared at rate 1, where a wrong step can't hide behind the weights.
    """
    flat = rule._bound()
    key = flat.xp, flat.w.dtype, text, rule.p is None
    if key not in _kernels:
        found = _formula(rule, 1.0)
        assert found is not None
        kernel = _compile(rule, *found)
        good = trusted(f"the update rule '{rule.name}'", lambda: _both_ways(rule, 1.0, kernel, found[1]))
        _kernels[key] = kernel if good else None
    return _kernels[key]


def _compile(rule: Rule, text: str, numbers: dict[str, float]) -> Any:
    outputs = [*rule.vectors, *([] if rule.p is None else ["p"]), "w"]
    own = "T g = grad; T p;" if rule.p is None else "T g = grad;"
    return rule._bound().xp.ElementwiseKernel(
        ", ".join(f"T {name}" for name in ("grad", *numbers)),
        ", ".join(f"T {name}" for name in outputs),
        f"{own} {text} w += p;",
        "minidl_rule",
    )


def _both_ways(rule: Rule, lr: float, kernel: Any, numbers: dict[str, float]) -> list[tuple[Array, Array]]:
    """w and the state after one step from random vectors: by the rule's reference form, and by its kernel."""
    w = rule._bound().w
    rng, names = np.random.default_rng(0), ("g", *rule.vectors, "w")
    values = {name: rng.uniform(0.5, 1.5, 97).astype(w.dtype) for name in names}
    a, b = ({name: backend_of(w).from_host(v) for name, v in values.items()} for _ in range(2))
    p, q = (backend_of(w).xp.zeros_like(a["w"]) for _ in range(2))
    rule.rule(rule.decayed(a["w"], a["g"], lr), p, lr, **{name: a[name] for name in rule.vectors})
    a["w"] += p
    kept = () if rule.p is None else (q,)
    kernel(b["g"], *numbers.values(), *(b[name] for name in rule.vectors), *kept, b["w"])
    return [(a[name], b[name]) for name in names] + ([(p, q)] if kept else [])


GPU_KERNELS["rule"] = step
