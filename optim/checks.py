"""Checks of what an optimizer is given: errors that name the number."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from numbers import Integral
from typing import Any

import numpy as np

from minidl.backend import Array, xp_of


def number(name: str, value: Any) -> float:
    """`value` as a float: a number of Python, NumPy or PyTorch."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be one number, got {value!r}") from None


def at_least(name: str, value: float, low: float) -> float:
    """`value` as a float, if it is a finite number >= low."""
    if not low <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be a finite number >= {low}, got {value}")
    return float(value)


def above(name: str, value: float, low: float) -> float:
    """`value` as a float, if it is a finite number > low."""
    if not low < number(name, value) < math.inf:
        raise ValueError(f"{name} must be a finite number > {low}, got {value}")
    return float(value)


def whole_number(name: str, value: int, low: int) -> int:
    """`value` as an int, if it is a whole number >= low."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be a whole number >= {low}, got {value}")
    return int(value)


def fraction(name: str, value: float) -> float:
    """`value` as a float, if it is in [0, 1): the factor of an exponential average."""
    if not 0 <= number(name, value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
    return float(value)


def two_fractions(name: str, values: Any) -> tuple[float, float]:
    """`values` as two floats in [0, 1), such as Adam's betas."""
    try:
        first, second = values
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, such as (0.9, 0.999), got {values!r}") from None
    return fraction(f"{name}[0]", first), fraction(f"{name}[1]", second)


# Options that a rule has in PyTorch and not here, and what to do.
_ELSEWHERE = {
    "maximize": "step on the loss with its sign changed",
    "dampening": "it is 0 here",
    "centered": "RMSprop without it, or Adam",
    "foreach": "leave it out, a step is one pass over all parameters",
    "fused": "leave it out, a step is one pass over all parameters",
    "capturable": "leave it out, steps are captured by minidl.fast.gpu.graph",
    "differentiable": "leave it out, a step is no part of a graph",
    "decoupled_weight_decay": "take AdamW",
}


_CALLED = {  # Keras's names, and what they are called here
    "learning_rate": "here it is called lr",
    "beta1": "betas=(beta1, beta2)", "beta2": "betas=(beta1, beta2)",
    "beta_1": "betas=(beta1, beta2)", "beta_2": "betas=(beta1, beta2)",
    "epsilon": "here it is called eps", "rho": "here it is called alpha", "clipnorm": "here it is called max_norm",
    "clipvalue": "np.clip(p.grad, -c, c, out=p.grad) for each parameter, before step()",
}  # fmt: skip


def refuse(rule: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for options that a rule does not have, unless they only say no to what is not there."""
    for name, value in options.items():
        if name not in _ELSEWHERE or value not in (None, False, 0):
            said = _ELSEWHERE.get(name) or _CALLED.get(name)
            hint = f": {said}" if said else ""
            raise TypeError(f"{rule} has no option {name!r}{hint}")


def parts_of(state: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The vectors and the scalars of an optimizer's state. Raises ValueError for what is no such state."""
    if not isinstance(state, Mapping) or not {"vectors", "scalars"} <= state.keys():
        theirs = isinstance(state, Mapping) and "param_groups" in state
        hint = ": that of PyTorch's own optimizer goes into minidl.optim.torch.wrap(...)" if theirs else ""
        raise ValueError(f"load_state_dict takes what state_dict() of such an optimizer returned{hint}")
    return state["vectors"], state["scalars"]


def check_vectors(vectors: Mapping[str, Any], names: Iterable[str], w: Array) -> None:
    """Raise ValueError unless there is exactly one vector like w for each name."""
    if set(vectors) != set(names):
        raise ValueError(f"the state has the vectors {sorted(vectors)}, this optimizer needs {sorted(names)}")
    for name, vector in vectors.items():
        if vector.shape != w.shape or vector.dtype != w.dtype:
            raise ValueError(
                f"the state's vector '{name}' is {vector.dtype} of shape {vector.shape}, "
                f"these parameters need {w.dtype} of shape {w.shape}"
            )


def within(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The vectors whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): vector for name, vector in vectors.items() if name.startswith(prefix)}


def without(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The other vectors."""
    return {name: vector for name, vector in vectors.items() if not name.startswith(prefix)}


# ---- rules of your own ----


def is_own(rule: type) -> bool:
    """Whether the rule is of a user's own, and so is looked at in its first step."""
    return not rule.__module__.startswith("minidl.optim.")


TAKEN = (  # what Rule keeps in self, and hands to `rule`
    "g", "lr_or_schedule", "scale", "weight_decay", "max_norm", "t", "rate", "lr_factor", "decay_scale", "groups",
    "own_t", "whole", "name",
)  # fmt: skip


@cache
def check_rule(rule: type, base: type, vectors: Any = None) -> None:
    """Raise TypeError where a subclass of Rule (`base`) lacks its name, its rule, or has vectors that its rule does
    not take; else it would show only at the first step or the first record. Built-in rules are right."""
    if not is_own(rule):
        return
    kind, name = rule.__name__, getattr(rule, "name", None)
    if not isinstance(name, str) or not name:
        raise TypeError(f"the rule {kind} has no name: write name = {kind.lower()!r} in its class")
    if isinstance(vectors, str):  # None: not known yet
        raise TypeError(f"{kind}.vectors is the text {vectors!r}: write vectors = ({vectors!r},), a tuple of names")
    if isinstance(getattr(rule, "formula", None), (str, list, tuple)):
        raise TypeError(f"{kind}.formula must be a Formula: write formula = Formula(Line('p', '-lr * g'))")
    for vector in vectors or ():
        if vectors.count(vector) > 1:
            raise TypeError(f"{kind}.vectors names {vector!r} twice")
        if hasattr(base, vector) or vector in TAKEN:
            raise TypeError(f"{kind}.vectors names {vector!r}, which every rule has already: give it another name")
    own = getattr(rule, "rule") is not getattr(base, "rule")  # noqa: B009 (the attributes of any two classes)
    if not own and getattr(rule, "formula") is getattr(base, "formula"):  # noqa: B009
        raise NotImplementedError(f"{kind} needs a formula, or rule(self, g, p, lr, **state)")
    if not own or vectors is None:
        return
    takes = inspect.signature(rule.rule).parameters  # type: ignore[attr-defined]
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    args = [p for p in takes.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(args) < 4 and not any(p.kind is p.VAR_POSITIONAL for p in takes.values()):
        given = ", ".join(takes)
        raise TypeError(f"{kind}.rule must take self, g, p and lr, and each of its vectors by name, not {given}")
    if [p.name for p in args[1:3]] == ["p", "g"]:
        raise TypeError(
            f"{kind}.rule takes p before g: it is called with the gradient first, rule(self, g, p, lr, ...)"
        )
    for vector in vectors:
        if vector not in takes and not anything:
            raise TypeError(
                f"{kind}.vectors names {vector!r}, which its rule does not take: "
                f"write def rule(self, g, p, lr, {', '.join(vectors)})"
            )
    for word in [p.name for p in list(takes.values())[4:] if p.default is p.empty and p.kind is not p.VAR_KEYWORD]:
        if word not in vectors and takes[word].kind is not inspect.Parameter.VAR_POSITIONAL:
            named = ", ".join(map(repr, (*vectors, word)))
            raise TypeError(f"{kind}.rule takes {word!r}, which vectors does not name: write vectors = ({named},)")


def numbers_of(rule: Any) -> dict[str, Any]:
    """The numbers, texts and None that a rule of one's own keeps in self, beside what every rule has there."""
    if not is_own(type(rule)):
        return {}
    skip, kinds = {*TAKEN, "flat", "p", "_keeps_step"}, (int, float, str, type(None))
    return {name: value for name, value in vars(rule).items() if name not in skip and isinstance(value, kinds)}


def first_step_of_own(rule: Any) -> Callable[..., None]:
    """What takes the place of `rule.rule` in the first step of a rule of one's own."""
    rule.lines()  # compares its formula with it
    return partial(first_step, rule)


def first_step(rule: Any, g: Array, p: Array, lr: float, **state: Array) -> None:
    """rule.rule(g, p, lr, **state) once, with a look at what it did: into p, and into each of its vectors.

    Raises TypeError where it wrote no step, as where `p = ...` gives the name p another array. A step of zeros, a
    vector that stays as it is, what is kept in self, and what depends on the other weights are warnings: they may be
    meant.
    """
    xp, kind = xp_of(g), type(rule).__name__
    before = {name: vector.copy() for name, vector in state.items()}
    own, held = dict(vars(rule)), _held(rule)
    p[...] = math.nan
    rule.rule(g, p, lr, **state)
    if len(p) and bool(xp.isnan(p).all()) and bool(xp.isfinite(g).all()):
        p[...] = 0  # once more, to see whether the NaN was p's own
        rule.rule(g, p, lr, **state)
        if bool(xp.isnan(p).any()):
            raise ValueError(
                f"{kind}.rule made a first step of NaN from a gradient that has none, at the rate {lr:g}: "
                "look for 0 / 0, or a root or logarithm of a negative number"
            )
        if bool((p != 0).any()):
            raise TypeError(
                f"{kind}.rule works its step out from p, which holds nothing before: write p[...] = -lr * ..., "
                "the step alone, which is added to the weights afterwards"
            )
        raise TypeError(
            f"{kind}.rule left p as it was, so nothing would move: write p[...] = the step, in place; "
            "p = ... only gives the name p to another array"
        )

    def say(what: str, words: str) -> None:
        rule.flat.tell_once(what, f"{kind}.rule {words}")

    changed = {name for name, words in _held(rule).items() if held.get(name) != words}
    for name in sorted(changed | {name for name, value in vars(rule).items() if own.get(name, vars) is not value}):
        say(
            name,
            f"has set self.{name}: it is called for each block of {len(rule.flat.room):,} weights, for groups on a "
            "copy of self, and state_dict keeps only numbers and texts. Count with self.t; a number that a step "
            "needs once goes into advance, before the gradients are gathered",
        )
    if not bool((g != 0).any()):
        return
    if lr > 0 and not bool((p != 0).any()):
        say("zeros", f"made a first step of zeros from a gradient that is none, at the rate {lr:g}: is it meant?")
    by_formula = type(rule).rule.__module__ == "minidl.optim.rule"  # which writes each vector, if only a 0 at first
    for name in () if by_formula else rule.vectors:
        if bool((state[name] == before[name]).all()) and not bool((before[name] != 0).any()):
            say(
                name,
                f"left its vector {name} as it was in the first step: {name}[...] = ... writes into it, "
                f"{name} = ... only gives the name to another array",
            )
    if _sees_others(rule, g, p, lr, before):
        say(
            "others",
            "gives some weights another step when it sees them alone: it is called for one block of "
            f"{len(rule.flat.room):,} weights after the other, so a norm or a mean in it is one block's. "
            "(self.whole or self).flat.g is the whole gradient",
        )


def _held(rule: Any) -> dict[str, str]:
    """What the lists and dicts in self hold, which may change within."""
    return {name: repr(value) for name, value in vars(rule).items() if isinstance(value, (dict, list, set))}


def _sees_others(rule: Any, g: Array, p: Array, lr: float, before: Mapping[str, Array]) -> bool:
    """Whether half the block gets another step alone. Nobody can tell of a rule with noise, whose steps all differ."""
    kept, n = dict(vars(rule)), len(p)
    if n < 2 or any(isinstance(value, np.random.Generator) for value in kept.values()):
        return False

    def step(n: int) -> Array:
        found = p[:n].copy()
        rule.rule(g[:n].copy(), found, lr, **{name: vector[:n].copy() for name, vector in before.items()})
        vars(rule).update(kept)
        return found

    return _near(step(n), p) and not _near(step(n // 2), p[: n // 2])


def check_formula(rule: Any) -> None:
    """A warning where the formula and the `rule` of a class give different first steps, here of the first block."""
    if "formula" in rule.flat.told:
        return
    flat, kind, steps = rule.flat, type(rule).__name__, []
    first = flat.blocks[0]
    for way, more in ((rule.rule, {}), (rule._by_formula, {"w": flat.w[first]})):
        p, state = flat.w[first].copy(), {name: getattr(rule, name)[first].copy() for name in rule.vectors}
        way(flat.g[first].copy(), p, rule.rate, **state, **more)
        steps.append(p)
    if not _near(*steps):
        i = int(abs(steps[0] - steps[1]).argmax())
        flat.tell_once(
            "formula",
            f"{kind}.rule and {kind}.formula give different first steps: {steps[0][i]:.6g} and {steps[1][i]:.6g} for "
            "one weight. Plain NumPy takes the first, compiled loops and a GPU the second, so they must say the same",
        )


def _near(a: Array, b: Array) -> bool:
    """Whether two steps are the same but for rounding."""
    return bool((abs(a - b) <= 1e-3 * abs(b).max()).all())


def unready(rule: Any) -> Exception:
    """The error of a rule whose step was not counted, so that its rate would be 0 and move nothing; or that was given
    options, after it was built, for which it has no vectors."""
    kind = type(rule).__name__
    if not rule.t:
        return TypeError(f"{kind}.advance must call super().advance(), which counts the step and fixes its rate")
    return ValueError(f"this {kind} was built without what {rule} remembers: build it anew, with these options")
