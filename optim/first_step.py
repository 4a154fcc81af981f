"""Checks at the first step of a custom rule, for mistakes that would stay silent or show only on large networks.

The rule is called again on copies of its arrays and of everything it keeps in self, so the checks change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any

import numpy as np

from minidl.backend import Array, xp_of
from minidl.optim.custom import NOISE, is_own_rule

Vectors = Mapping[str, Array]


def first_step_of_own(rule: Any) -> Callable[..., None]:
    """What replaces `rule.rule` in the first step of a custom rule."""
    rule.lines()  # compares its formula with it
    _check_vectors(rule)
    _check_decay(rule)
    return partial(first_step, rule)


def _check_vectors(rule: Any) -> None:
    """Raise TypeError where a vector has another shape or dtype than the weights, so its saved state could not be
    loaded, or shares memory with another array."""
    w, kind, seen = rule.flat.w, type(rule).__name__, {"the weights": rule.flat.w, "the gradient": rule.flat.g}
    for name in rule.vectors:
        vector = getattr(rule, name)
        if getattr(vector, "dtype", None) != w.dtype or vector.shape != w.shape:
            found = f"{vector.dtype} {vector.shape}" if hasattr(vector, "dtype") else f"a {type(vector).__name__}"
            raise TypeError(
                f"{kind}.{name} is {found}, but a vector must match the weights, {w.dtype} {w.shape}: write into the "
                f"existing one, self.{name}[...] = ..."
            )
        for other, memory in seen.items():
            if rule.flat.xp is np and len(w) and np.shares_memory(vector, memory):
                raise TypeError(
                    f"{kind}.{name} and {other} share memory, so writing to one changes the other: "
                    f"self.{name}[...] = ... copies"
                )
        seen[name] = vector


def _check_decay(rule: Any) -> None:
    """Warn where a custom `decayed` does nothing, or is never called. It is tried on copies."""
    kind, block, twin = type(rule), rule.flat.blocks[0], _twin(rule)
    if not is_own_rule(kind.decayed):
        return
    twin.weight_decay = 0.5 if rule.weight_decay else 0.0  # and lr 0.5: in a warm-up the effect may round to nothing
    old, g = rule.flat.w[block], rule.flat.g[block]
    w = old.copy()
    found = twin.decayed(w, g.copy(), 0.5)
    if found is None and not rule.weight_decay:
        return
    if found is None:
        raise TypeError(f"{kind.__name__}.decayed returns None, but the rule continues with what it returns: return g")
    acts, name = _differ(old, w) or _differ(g, found), f"{kind.__name__}.decayed"
    in_update = is_own_rule(kind.update)  # as in LAMB, whose decay is in the step
    if rule.weight_decay and not acts and not in_update and bool((old != 0).any()):
        rule.flat.tell_once(
            (kind, "decay"),
            f"{name} changes neither the weights nor the gradient: w *= 1 - lr * self.weight_decay is in place, "
            "w = ... only rebinds the name",
        )
    if acts and not rule.weight_decay:
        rule.flat.tell_once(
            (kind, "decay"),
            f"{name} is not called, because weight_decay is 0: pass its value to super().__init__(params, lr, "
            "weight_decay=...), and read it as self.weight_decay",
        )


def first_step(rule: Any, g: Array, p: Array, lr: float, **state: Array) -> None:
    """Call rule.rule(g, p, lr, **state) once, and check what it wrote into p and into each of its vectors.

    Raises TypeError where it wrote no step, for example because `p = ...` only rebinds the name p. It only warns, since
    these may be intended, about a step of zeros, an unchanged vector, a changed gradient or changed weights, values
    kept in self, and a step that depends on other weights.
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
            "copy of self, and state_dict keeps only numbers, strings and generators. Count with self.t; compute what "
            "a step needs once in advance(), before the gradients are gathered",
        )
    if _differ(w, flat.w):
        say("w", "writes into the weights: the step goes into p, which is added to them afterwards")
    if not bool((given != 0).any()):
        return
    flat.told.add(looked)
    if lr > 0 and not bool((p != 0).any()):
        say("zeros", f"made a first step of zeros from a nonzero gradient, at learning rate {lr:g}: is this intended?")
    by_formula = getattr(rule.rule, "by_formula", False)  # which writes each vector, if only a 0 at first
    for name in () if by_formula else rule.vectors:
        begun = bool((getattr(rule.whole or rule, name) != 0).any())
        same = bool((state[name] == before[name]).all()) and not begun
        if same and not _updates(type(rule), name) and not _writes(twin, name, (given, p, lr, before)):
            say(
                name,
                f"left its vector {name} unchanged in the first step: {name}[...] = ... writes into it, "
                f"{name} = ... only rebinds the name",
            )
    if not by_formula and bool(xp.isfinite(p).all()):
        _call_again(rule, twin, (g, p, lr, before, given), state, say)


def _updates(kind: Any, name: str) -> bool:
    """Whether an `update` of the class's own names the vector: it may fill it, in this step or later."""
    return is_own_rule(kind.update) and name in getattr(getattr(kind.update, "__code__", None), "co_names", ())


def _writes(twin: Any, name: str, args: tuple[Any, ...]) -> bool:
    """Whether a rule that left a vector at 0 does write into it, as Adan does, whose mean of differences starts with
    a 0. Here the vector is filled with 1 first: a 0 written into it shows."""
    g, p, lr, before = args
    flat, state = (twin.whole or twin).flat, {other: vector.copy() for other, vector in before.items()}
    w, whole = flat.w.copy(), flat.g.copy()
    state[name][...] = 1
    try:
        _twin(twin).rule(g.copy(), p.copy(), lr, **state)
    except Exception:  # no fault of the rule: it would never have this state
        return True
    finally:
        flat.w[...], flat.g[...] = w, whole
    return bool((state[name] != 1).any())


def _call(rule: Any, g: Array, p: Array, lr: float, state: Vectors) -> None:
    """Call rule.rule; its error says so where a block of the weights met an array of all of them."""
    try:
        rule.rule(g, p, lr, **state)
    except (ValueError, IndexError) as error:
        n = len((rule.whole or rule).flat.w)
        if len(g) == n or f"({n},)" not in str(error):
            raise
        some = f"{type(rule).__name__}.rule fails with {len(g):,} of the weights"
        raise ValueError(f"{some}: {error}. {BLOCKS}") from error


BLOCKS = "It is called for one block of weights after the other: use the arrays that it is given, m and not self.m"


def _no_step(rule: Any, g: Array, p: Array, lr: float, state: Vectors, given: Array) -> Exception:
    """The error of a rule whose first step is all NaN: a second call, with p = 0, shows whether the NaN came from p."""
    xp, kind = xp_of(g), type(rule).__name__
    g[...], p[...] = given, 0
    rule.rule(g, p, lr, **state)
    into_g = bool((g != given).any())
    g[...] = given
    if bool(xp.isnan(p).any()):
        return ValueError(
            f"{kind}.rule made a first step of NaN from a finite gradient, at learning rate {lr:g}: "
            "look for 0 / 0, or a square root or logarithm of a negative number"
        )
    if bool((p != 0).any()):
        return TypeError(
            f"{kind}.rule computes its step from p, which has no value yet: write p[...] = -lr * ..., "
            "the step alone, which is added to the weights afterwards"
        )
    if into_g:
        return TypeError(
            f"{kind}.rule writes into its first array, the gradient, and leaves the second unchanged, where the step "
            "belongs: rule(self, g, p, lr, ...), and p[...] = -lr * ..."
        )
    return TypeError(
        f"{kind}.rule left p unchanged, so no weight would move: write p[...] = the step, in place; "
        "p = ... only rebinds the name p"
    )


def _call_again(rule: Any, twin: Any, args: tuple[Any, ...], state: Vectors, say: Callable[[str, str], None]) -> None:
    """Check the rule's step from its new state, from the same arrays again, and from half of them alone."""
    g, p, lr, before, given = args
    flat = (rule.whole or rule).flat
    w, whole, half = flat.w.copy(), flat.g.copy(), _twin(twin)

    def step(n: int, rule: Any, state: Vectors) -> tuple[Array, Array]:
        g, found = given[:n].copy(), p[:n].copy()
        try:
            rule.rule(g, found, lr, **{name: vector[:n].copy() for name, vector in state.items()})
        finally:
            flat.w[...], flat.g[...] = w, whole
        return g, found

    if _differ(given, g) or _differ(given, step(len(p), _twin(rule), state)[0]):  # a momentum adds 0 at first
        say(
            "g",
            "changes g, which is the user's .grad: gradient accumulation, a hybrid's projected rate and a replay "
            "would use the changed values. g = 2 * g makes a new array, g *= 2 and out=g do not",
        )
    if any(isinstance(value, NOISE) for value in vars(rule).values()):
        return  # the steps of a rule with noise all differ: no way to tell
    if not _near(step(len(p), twin, before)[1], p):
        return say(
            "hidden",
            "gives a different step when it is called again with the same arrays. What it keeps outside self is shared "
            "by all blocks, groups and optimizers, and is not saved: name it in vectors. For noise, keep "
            "np.random.default_rng(seed) in self",
        )
    n, third, fourth = len(p) // 2, _twin(half), _twin(half)
    fourth.lr_or_schedule = 2 * lr + 1
    if not _near(step(len(p), fourth, before)[1], p):
        say("lr", "reads self.lr, the rate of the next step, which ignores groups: use lr, which it is given")
    try:
        flat.w *= 0.5
        if not _near(step(len(p), third, before)[1], p):
            say(
                "weights",
                "reads the weights in flat.w, some of which have moved when it is called for the next block or group. "
                "Store a norm of them in one of its vectors, in update(), before super().update()",
            )
        alone = _near(step(n, half, before)[1], p[:n]) if n else True
    except Exception as error:
        return say("others", f"fails when it is given only half of the weights: {error}. {BLOCKS}")
    if not alone:
        say(
            "others",
            "gives some weights a different step when it is given only those: it is called for one block of "
            f"{len(rule.flat.room):,} weights after the other, so a norm or a mean in it covers one block. "
            "(self.whole or self).flat.g is the whole gradient",
        )


def _twin(rule: Any) -> Any:
    """A copy of the rule, with its own arrays, lists, dicts and random generators."""
    twin = object.__new__(type(rule))
    vars(twin).update({name: _copied(value) for name, value in vars(rule).items() if name != "whole"})
    twin.whole = None if rule.whole is None else _twin(rule.whole)
    return twin


def _copied(value: Any) -> Any:
    """A deep copy of arrays, generators and containers; anything else is returned as it is."""
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
    """Whether a value differs from its earlier copy."""
    if hasattr(before, "dtype"):
        return before.shape != now.shape or not bool(((before == now) | (before != before)).all())
    if isinstance(before, dict):
        return before.keys() != now.keys() or any(_differ(before[key], now[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return len(before) != len(now) or any(map(_differ, before, now))
    return bool(before is not now and before != now) if isinstance(before, (set, int, float, str)) else False


def check_formula(rule: Any) -> None:
    """Warn where the formula and the `rule` of a class give different first steps, compared on the first block."""
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
            "one weight. Plain NumPy uses the first, compiled loops and a GPU the second, so they must agree",
        )


def _near(a: Array, b: Array) -> bool:
    """Whether two steps are the same up to rounding."""
    return bool((abs(a - b) <= 1e-3 * abs(b).max()).all())
