"""The update rules in C: on a GPU each takes its whole step in one kernel, generated from the rule's formula.

Written with array operations, Adam makes a dozen passes over its vectors, and on a GPU each pass is a kernel that reads
them from memory and writes them back. Here the formula is fused into one kernel, which reads g, w and the state once
and writes them once. The NumPy form of a rule stays the reference: a kernel is compared with it before its first use,
and not used if the two differ. Nothing here knows any rule by name, so a rule of your own has a kernel too if it has a
formula (optim/formula.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from minidl.backend import Array, backend_of
from minidl.fast.formula import Lines, Parts, take_apart
from minidl.fast.gpu.launch import MANY, Kernels, trusted
from minidl.fast.gpu.slip import CantRepeat, is_recording_step, numbers
from minidl.fast.written import c_expression


class Rule(Protocol):
    """The attributes of an update rule (optim/rule.py) that are used here."""

    name: Any
    vectors: tuple[str, ...]
    rate: float
    p: Array | None
    flat: Any

    def lines(self) -> Sequence[tuple[str, str, str]] | None: ...
    def given(self, lr: float) -> dict[str, Any]: ...
    def decayed(self, w: Array, g: Array, lr: float) -> Array: ...
    def rule(self, *args: Any, **kwargs: Any) -> None: ...


def step(rule: Rule) -> Any:
    """Add the step at rule.rate to all parameters, in one kernel; NotImplemented for a rule without a kernel."""
    parts, flat = _parts(rule), rule.flat
    kernels = None if parts is None or flat.w.size > MANY else _checked(rule, parts)
    if parts is None or kernels is None:
        if is_recording_step():
            raise CantRepeat(f"the rule '{rule.name}' has no kernel, so a replay would repeat this step's numbers")
        return NotImplemented
    # When a captured step is replayed, the rule's numbers change, but not the parts.
    at, now = numbers(lambda: parts.work_out(rule.given(rule.rate)))
    vectors = [getattr(rule, name) for name in rule.vectors]
    kept = () if rule.p is None else (rule.p,)
    kernels("rule", flat.w.size, flat.w, flat.g, *vectors, *kept, at, *now, flat.w.size)
    return None


def formula(rule: Rule) -> Any:
    """The formula of the rule's next step, which determines its kernel; None where it has none."""
    return rule.lines()


def _parts(rule: Rule) -> Parts | None:
    lines = rule.lines()
    if lines is None:
        return None
    pairs: Lines = tuple((symbol, expression) for symbol, expression, _ in lines)
    return take_apart(pairs, ("w_old", "g", *(f"{name}_old" for name in rule.vectors)), (*rule.vectors, "p"))


_kernels: dict[Any, Any] = {}  # those compiled so far; None for one that failed its check


def _key(rule: Rule, parts: Parts) -> Any:
    reference = type(rule).rule, type(rule).decayed
    return rule.flat.xp, rule.flat.w.dtype, parts, reference, rule.p is None


def _checked(rule: Rule, parts: Parts) -> Any:
    """The kernel of this formula, compared with the rule's reference form before its first use; None if it failed."""
    key = _key(rule, parts)
    if key not in _kernels:
        kernels: list[Kernels] = []

        def both_ways() -> list[tuple[Array, Array]]:
            kernels.append(Kernels(rule.flat.xp, rule.flat.w.dtype, source(parts, rule.vectors, rule.p is not None)))
            return _both_ways(rule, parts, kernels[0])

        _kernels[key] = kernels[0] if trusted(f"the update rule '{rule.name}'", both_ways) else None
    return _kernels[key]


def source(parts: Parts, vectors: tuple[str, ...], keeps_step: bool) -> str:
    """The kernel's source. Its numbers are arguments, or on the device at `at` (see slip.py).

    The arrays are w_, g_, m_, ...; the values of one element x_w, x_g, x_m, ..., so no symbol clashes with a C name.
    """
    stored = [*vectors, *(["p"] if keeps_step else [])]
    constants = [name for name, _ in parts.numbers]
    arguments = ["T *w_", "const T *g_", *(f"T *{name}_" for name in stored), "const double *at"]
    arguments += [*(f"double {name}_" for name in constants), "int n"]
    statements = [
        "const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;",
        "const T x_w_old = w_[i], x_g = g_[i];",
        *(f"const T x_{name}_old = {name}_[i];" for name in vectors),
        *(f"const T x_{name} = at ? at[{k}] : {name}_;" for k, name in enumerate(constants)),
        *(f"const T x_{symbol} = {c_expression(expression, 'x_{}'.format)};" for symbol, expression in parts.each),
        *(f"{name}_[i] = x_{name};" for name in ("w", *stored)),
    ]
    return f"KERNEL rule({', '.join(arguments)}) {{\n    " + "\n    ".join(statements) + "\n}\n"


def _both_ways(rule: Rule, parts: Parts, kernels: Kernels) -> list[tuple[Array, Array]]:
    """w and the state after one step from random vectors: by the rule's own form on the CPU, and by its kernel.

    The learning rate is 1, so that large weights can't hide a wrong step.
    """
    backend, dtype = backend_of(rule.flat.w), rule.flat.w.dtype
    rng, names = np.random.default_rng(0), ("w", "g", *rule.vectors)
    a = {name: rng.uniform(0.5, 1.5, 97).astype(dtype) for name in names}
    b = {name: backend.from_host(v.copy()) for name, v in a.items()}
    p, q = np.zeros_like(a["w"]), backend.from_host(np.zeros_like(a["w"]))
    rule.rule(rule.decayed(a["w"], a["g"], 1.0), p, 1.0, **{name: a[name] for name in rule.vectors})
    a["w"] += p
    kept = () if rule.p is None else (q,)
    kernels("rule", 97, *b.values(), *kept, None, *parts.work_out(rule.given(1.0)), 97)
    return [(a[name], b[name]) for name in names] + ([(p, q)] if kept else [])
