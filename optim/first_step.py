"""The first step of a rule of your own: what would go wrong in silence, or on large networks alone, is told.

The rule is called again on copies, of its arrays and of all that it keeps in self, so that this changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any

import numpy as np

from minidl.backend import Array, xp_of
from minidl.optim.checks import NOISE

State = Mapping[str, Array]


def first_step_of_own(rule: Any) -> Callable[..., None]:
    """What takes the place of `rule.rule` in the first step of a rule of one's own."""
    rule.lines()  # compares its formula with it
    _check_vectors(rule)
    _check_decay(rule)
    return partial(first_step, rule)


def _check_vectors(rule: Any) -> None:
    """Raise TypeError where a vector is of another kind than the weights, so that no saved state could be loaded, or
    lies in the memory of another."""
    w, kind, seen = rule.flat.w, type(rule).__name__, {"the weights": rule.flat.w, "the gradient": rule.flat.g}
    for name in rule.vectors:
        vector = getattr(rule, name)
        if getattr(vector, "dtype", None) != w.dtype or vector.shape != w.shape:
            found = f"{vector.dtype} {vector.shape}" if hasattr(vector, "dtype") else f"a {type(vector).__name__}"
            raise TypeError(
                f"{kind}.{name} is {found}, but a vector is like the weights, {w.dtype} {w.shape}: write into the one "
                f"that is there, self.{name}[...] = ..."
            )
        for other, memory in seen.items():
            if rule.flat.xp is np and len(w) and np.shares_memory(vector, memory):
                raise TypeError(
                    f"{kind}.{name} and {other} are one array, so what is written into one is in the other: "
                    f"self.{name}[...] = ... copies"
                )
        seen[name] = vector


def _check_decay(rule: Any) -> None:
    """A warning where a `decayed` of one's own does nothing, or is not called. It is tried on copies."""
    kind, block, twin = type(rule), rule.flat.blocks[0], _twin(rule)
    if str(kind.decayed.__module__).startswith("minidl.optim."):
        return
    twin.weight_decay = 0.5 if rule.weight_decay else 0.0  # and a rate of 0.5: in a warm-up both may round to nothing
    old, g = rule.flat.w[block], rule.flat.g[block]
    w = old.copy()
    found = twin.decayed(w, g.copy(), 0.5)
    if found is None and not rule.weight_decay:
        return
    if found is None:
        raise TypeError(f"{kind.__name__}.decayed returns nothing, but the rule goes on with what it returns: return g")
    acts, name = _differ(old, w) or _differ(g, found), f"{kind.__name__}.decayed"
    in_update = not str(kind.update.__module__).startswith("minidl.optim.")  # as in LAMB, whose decay is in the step
    if rule.weight_decay and not acts and not in_update and bool((old != 0).any()):
        rule.flat.tell_once(
            (kind, "decay"),
            f"{name} changes neither the weights nor the gradient: w *= 1 - lr * self.weight_decay is in place, "
            "w = ... only gives the name to another array",
        )
    if acts and not rule.weight_decay:
        rule.flat.tell_once(
            (kind, "decay"),
            f"{name} is not called, for weight_decay is 0: give its number to super().__init__(params, lr, "
            "weight_decay=...), and read it as self.weight_decay",
        )


def first_step(rule: Any, g: Array, p: Array, lr: float, **state: Array) -> None:
    """rule.rule(g, p, lr, **state) once, with a look at what it did: into p, and into each of its vectors.

    Raises TypeError where it wrote no step, as where `p = ...` gives the name p another array. A step of zeros, a
    vector that stays as it is, a gradient or weights that do not, what is kept in self, and what depends on the other
    weights are warnings: they may be meant.
    """
    xp, kind, flat = xp_of(g), type(rule).__name__, (rule.whole or rule).flat
    if (looked := (type(rule), "looked at")) in flat.told:  # one block will do: the copies are of all weights
        return rule.rule(g, p, lr, **state)
    before, given, w = {name: vector.copy() for name, vector in state.items()}, g.copy(), flat.w.copy()
    twin, own = _twin(rule), dict(vars(rule))
    p[...] = math.nan
    _call(rule, g, p, lr, state)
    if len(p) and bool(xp.isnan(p).all()) and bool(xp.isfinite(given).all()):
        raise _no_step(rule, g, p, lr, state, given)

    def say(what: str, words: str) -> None:
        rule.flat.tell_once((type(rule), what), f"{kind}.rule {words}")

    changed = {
        name for name, value in vars(twin).items() if name not in (*rule.vectors, "p") and _differ(value, own[name])
    }
    for name in sorted(changed | {name for name, value in vars(rule).items() if own.get(name, vars) is not value}):
        say(
            name,
            f"has set self.{name}: it is called for each block of {len(rule.flat.room):,} weights, for groups on a "
            "copy of self, and state_dict keeps only numbers and texts. Count with self.t; a number that a step "
            "needs once goes into advance, before the gradients are gathered",
        )
    if _differ(w, flat.w):
        say("w", "writes into the weights: the step goes into p, which is added to them afterwards")
    if not bool((given != 0).any()):
        return
    flat.told.add(looked)
    if lr > 0 and not bool((p != 0).any()):
        say("zeros", f"made a first step of zeros from a gradient that is none, at the rate {lr:g}: is it meant?")
    by_formula = getattr(rule.rule, "by_formula", False)  # which writes each vector, if only a 0 at first
    for name in () if by_formula else rule.vectors:
        begun = bool((getattr(rule.whole or rule, name) != 0).any())
        same = bool((state[name] == before[name]).all()) and not begun
        if same and not _writes(twin, name, (given, p, lr, before)):
            say(
                name,
                f"left its vector {name} as it was in the first step: {name}[...] = ... writes into it, "
                f"{name} = ... only gives the name to another array",
            )
    if not by_formula and bool(xp.isfinite(p).all()):
        _call_again(rule, twin, (g, p, lr, before, given), state, say)


def _writes(twin: Any, name: str, args: tuple[Any, ...]) -> bool:
    """Whether a rule that has left a vector at 0 writes into it all the same, as Adan does, whose mean of differences
    begins with a 0. What is written would not stay a 1."""
    g, p, lr, before = args
    flat, state = (twin.whole or twin).flat, {other: vector.copy() for other, vector in before.items()}
    w, whole = flat.w.copy(), flat.g.copy()
    state[name][...] = 1
    try:
        _twin(twin).rule(g.copy(), p.copy(), lr, **state)
    except Exception:  # what it makes of a state that it would never have is no fault of its own
        return True
    finally:
        flat.w[...], flat.g[...] = w, whole
    return bool((state[name] != 1).any())


def _call(rule: Any, g: Array, p: Array, lr: float, state: State) -> None:
    """rule.rule, whose error says so where a block of the weights met an array of all of them."""
    try:
        rule.rule(g, p, lr, **state)
    except (ValueError, IndexError) as error:
        n = len((rule.whole or rule).flat.w)
        if len(g) == n or f"({n},)" not in str(error):
            raise
        some = f"{type(rule).__name__}.rule fails with {len(g):,} of the weights"
        raise ValueError(f"{some}: {error}. {BLOCKS}") from error


BLOCKS = "It is called for one block of weights after the other: take the arrays that it is given, m and not self.m"


def _no_step(rule: Any, g: Array, p: Array, lr: float, state: State, given: Array) -> Exception:
    """The error of a rule whose first step is NaN, all of it: the call once more shows whether the NaN was p's own."""
    xp, kind = xp_of(g), type(rule).__name__
    g[...], p[...] = given, 0
    rule.rule(g, p, lr, **state)
    into_g = bool((g != given).any())
    g[...] = given
    if bool(xp.isnan(p).any()):
        return ValueError(
            f"{kind}.rule made a first step of NaN from a gradient that has none, at the rate {lr:g}: "
            "look for 0 / 0, or a root or logarithm of a negative number"
        )
    if bool((p != 0).any()):
        return TypeError(
            f"{kind}.rule works its step out from p, which holds nothing before: write p[...] = -lr * ..., "
            "the step alone, which is added to the weights afterwards"
        )
    if into_g:
        return TypeError(
            f"{kind}.rule writes into its first array, which is the gradient, and leaves the second as it was, into "
            "which the step goes: rule(self, g, p, lr, ...), and p[...] = -lr * ..."
        )
    return TypeError(
        f"{kind}.rule left p as it was, so nothing would move: write p[...] = the step, in place; "
        "p = ... only gives the name p to another array"
    )


def _call_again(rule: Any, twin: Any, args: tuple[Any, ...], state: State, say: Callable[[str, str], None]) -> None:
    """Look at what the rule makes of its own state, of the same arrays again, and of half of them alone."""
    g, p, lr, before, given = args
    flat = (rule.whole or rule).flat
    w, whole, half = flat.w.copy(), flat.g.copy(), _twin(twin)

    def step(n: int, rule: Any, state: State) -> tuple[Array, Array]:
        g, found = given[:n].copy(), p[:n].copy()
        try:
            rule.rule(g, found, lr, **{name: vector[:n].copy() for name, vector in state.items()})
        finally:
            flat.w[...], flat.g[...] = w, whole
        return g, found

    if _differ(given, g) or _differ(given, step(len(p), _twin(rule), state)[0]):  # a momentum adds 0 at first
        say(
            "g",
            "changes g, which is the user's .grad: what is accumulated on it, a hybrid's projected rate and a replay "
            "have what it leaves there. g = 2 * g makes an array of its own, g *= 2 and out=g do not",
        )
    if any(isinstance(value, NOISE) for value in vars(rule).values()):
        return  # nobody can tell of a rule with noise, whose steps all differ
    if not _near(step(len(p), twin, before)[1], p):
        return say(
            "hidden",
            "gives another step for the same arrays when it is called again, as it was just now. What it keeps outside "
            "self is one for all blocks, groups and optimizers, and is not saved: name it in vectors. For noise, keep "
            "np.random.default_rng(seed) in self",
        )
    n, third, fourth = len(p) // 2, _twin(half), _twin(half)
    fourth.lr_or_schedule = 2 * lr + 1
    if not _near(step(len(p), fourth, before)[1], p):
        say("lr", "reads self.lr, the rate of the next step, which knows of no groups: take lr, which it is given")
    try:
        flat.w *= 0.5
        if not _near(step(len(p), third, before)[1], p):
            say(
                "weights",
                "reads the weights in flat.w, of which some have moved when it is called for the next block or group. "
                "A norm of them goes into one of its vectors, in update(), before super().update()",
            )
        alone = _near(step(n, half, before)[1], p[:n]) if n else True
    except Exception as error:
        return say("others", f"fails where it sees half of the weights alone: {error}. {BLOCKS}")
    if not alone:
        say(
            "others",
            "gives some weights another step when it sees them alone: it is called for one block of "
            f"{len(rule.flat.room):,} weights after the other, so a norm or a mean in it is one block's. "
            "(self.whole or self).flat.g is the whole gradient",
        )


def _twin(rule: Any) -> Any:
    """The same rule, with arrays, lists, dicts and a source of noise of its own."""
    twin = object.__new__(type(rule))
    vars(twin).update({name: _copied(value) for name, value in vars(rule).items() if name != "whole"})
    twin.whole = None if rule.whole is None else _twin(rule.whole)
    return twin


def _copied(value: Any) -> Any:
    """A copy, down through lists and dicts; what is neither that nor an array nor a generator stays the same."""
    if hasattr(value, "dtype") and hasattr(value, "copy"):
        return value.copy()
    if isinstance(value, NOISE):
        return deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        found = copy(value)
        found.update({key: _copied(each) for key, each in value.items()})
        return found
    return set(value) if isinstance(value, set) else value


def _differ(before: Any, now: Any) -> bool:
    """Whether an array, a list or a dict holds something else than its copy."""
    if hasattr(before, "dtype"):
        return before.shape != now.shape or not bool(((before == now) | (before != before)).all())
    if isinstance(before, dict):
        return before.keys() != now.keys() or any(_differ(before[key], now[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return len(before) != len(now) or any(map(_differ, before, now))
    return bool(before is not now and before != now) if isinstance(before, (set, int, float, str)) else False


def check_formula(rule: Any) -> None:
    """A warning where the formula and the `rule` of a class give different first steps, here of the first block."""
    flat, kind, steps, what = rule.flat, type(rule).__name__, [], (type(rule), "formula")
    if what in flat.told:
        return
    first = flat.blocks[0]
    for name, more in (("rule", {}), ("_by_formula", {"w": flat.w[first]})):
        twin = _twin(rule)
        p, state = flat.w[first].copy(), {name: getattr(rule, name)[first].copy() for name in rule.vectors}
        getattr(twin, name)(flat.g[first].copy(), p, rule.rate, **state, **more)
        steps.append(p)
    if not _near(*steps):
        i = int(abs(steps[0] - steps[1]).argmax())
        flat.tell_once(
            what,
            f"{kind}.rule and {kind}.formula give different first steps: {steps[0][i]:.6g} and {steps[1][i]:.6g} for "
            "one weight. Plain NumPy takes the first, compiled loops and a GPU the second, so they must say the same",
        )


def _near(a: Array, b: Array) -> bool:
    """Whether two steps are the same but for rounding."""
    return bool((abs(a - b) <= 1e-3 * abs(b).max()).all())
