"""A rule of the user's own: what its class must have, and what it keeps in self, which is saved with its vectors.

Mistakes that show only in its steps are found in the first one: see first_step.py.
"""

from __future__ import annotations

import inspect
import pickle
from collections import deque
from collections.abc import Mapping
from functools import cache
from random import Random, SystemRandom
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from minidl.backend import to_numpy
from minidl.optim.checks import pythons


def is_own_rule(thing: Any) -> bool:
    """Whether a rule, and so it is checked at its first step, or a method of one is the user's own."""
    return not str(thing.__module__).startswith("minidl.optim.")


LONGEST = 100  # characters of a rule's name
NOISE = (np.random.Generator, np.random.RandomState, Random)
IN_SELF = (  # what Rule keeps in self or passes to `rule`
    "g", "w", "lr_or_schedule", "schedule_scale", "weight_decay", "max_norm", "t", "rate", "lr_factor", "decay_scale",
    "groups", "own_t", "whole", "name",
)  # fmt: skip


@cache
def check_rule(rule: type, base: type, vectors: Any = None) -> None:
    """Raise TypeError where a subclass of Rule (`base`) has no name or no rule, or vectors that its rule does not
    take: otherwise this would show only at the first step or in the first record. Built-in rules are not checked."""
    if not is_own_rule(rule):
        return
    kind, name = rule.__name__, getattr(rule, "name", None)
    if not isinstance(name, str) or not name:
        raise TypeError(f"the rule {kind} has no name: write name = {kind.lower()!r} in its class")
    if len(name) > LONGEST:
        raise TypeError(f"{kind}.name has {len(name)} characters, a run's record has room for {LONGEST}: shorten it")
    if isinstance(vectors, str):  # None: not known yet
        raise TypeError(f"{kind}.vectors is the string {vectors!r}: write vectors = ({vectors!r},), a tuple of names")
    if isinstance(getattr(rule, "formula", None), (str, list, tuple)):
        raise TypeError(f"{kind}.formula must be a Formula: write formula = Formula(Line('p', '-lr * g'))")
    inside = {*vars(rule), *(inspect.signature(rule).parameters if "__init__" in vars(rule) else ())}
    for taken in sorted(inside & {*IN_SELF, "p", "flat"} - {"g", "w", "weight_decay", "max_norm", "name"}):
        raise TypeError(f"{kind} has a {taken} of its own, but every rule has one already: give it another name")
    for vector in vectors or ():
        if vectors.count(vector) > 1:
            raise TypeError(f"{kind}.vectors names {vector!r} twice")
        if hasattr(base, vector) or vector in IN_SELF:
            raise TypeError(f"{kind}.vectors names {vector!r}, which every rule has already: give it another name")
    own = getattr(rule, "rule") is not getattr(base, "rule")  # noqa: B009 (the attributes of any two classes)
    if not own and getattr(rule, "formula") is getattr(base, "formula"):  # noqa: B009
        raise NotImplementedError(f"{kind} needs a formula, or rule(self, g, p, lr, **state)")
    if not own or vectors is None:
        return
    takes = inspect.signature(rule.rule).parameters  # type: ignore[attr-defined]
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    args = [p for p in takes.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    few = len(args) < 4 and not any(p.kind is p.VAR_POSITIONAL for p in takes.values())
    if few or {p.name for p in args[:4]} & set(vectors):  # in place of g, p or lr: they come by position
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
        if word == "w":
            raise TypeError(f"{kind}.rule takes 'w', but is not given the weights: a formula may read them, as w_old")
        if word not in vectors and takes[word].kind is not inspect.Parameter.VAR_POSITIONAL:
            named = ", ".join(map(repr, (*vectors, word)))
            raise TypeError(f"{kind}.rule takes {word!r}, which vectors does not name: write vectors = ({named},)")


OPTIONS = ("momentum", "nesterov", "betas", "alpha", "eps", "lr_decay", "weight_decay", "max_norm")


def options_of(rule: Any) -> dict[str, Any]:
    """The options that may be set while a rule is in use, without a decay that a switch has scaled. Of a custom rule,
    the two that every rule has: `numbers_of` has its own."""
    names = set(OPTIONS[-2:] if is_own_rule(type(rule)) else OPTIONS) & vars(rule).keys()
    return {name: _plain(vars(rule)[name]) for name in names if name != "weight_decay" or rule.decay_scale == 1.0}


def put_options(rule: Any, options: Mapping[str, Any], decay_scale: float) -> None:
    """Set what `options_of` returned, perhaps as JSON has kept it, and scale the decay, unless it is scaled so already:
    a rule that is built as a run's folder describes it has the scaled one."""
    scaled = decay_scale == rule.decay_scale != 1.0
    vars(rule).update({name: _plain(options[name]) for name in options if name != "weight_decay" or not scaled})
    if not scaled:
        rule.decay_scale = 1.0
        rule.scale_decay(decay_scale)


def _plain(value: Any) -> Any:
    """A number, or a tuple of them, as Python's."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(pythons, value)) if isinstance(value, (list, tuple)) else value


class Built(NamedTuple):
    """What a custom rule keeps in self before its first step."""

    numbers: dict[str, Any]
    sums: dict[str, int]  # checksums of arrays and lists


def built_of(rule: Any) -> Built:
    """What this rule keeps in self now. Raises TypeError where it has set `rate` or `p`, which each step overwrites."""
    for name, empty in (("rate", rule.rate == 0), ("p", rule.p is None or hasattr(rule.p, "dtype"))):
        if not empty:
            raise TypeError(f"{type(rule).__name__} sets self.{name}, which every rule has: give it another name")
    return Built(numbers_of(rule), sums_of(rule))


def _kept(rule: Any) -> dict[str, Any]:
    """What a custom rule keeps in self besides its vectors and what every rule has there."""
    if not is_own_rule(type(rule)):
        return {}
    skip = {*IN_SELF, *rule.vectors, "flat", "p", "_keeps_step", "_taken", "_built", "_given"}
    return {name: value for name, value in vars(rule).items() if name not in skip}


def numbers_of(rule: Any) -> dict[str, Any]:
    """The numbers, strings and None that it keeps, and the state of each generator made by default_rng."""
    found: dict[str, Any] = {}
    for name, value in _kept(rule).items():
        if isinstance(value, (int, float, str, type(None))):
            found[name] = value
        elif can_be_stored(value):
            found[name] = value.bit_generator.state
    return found


def can_be_stored(generator: Any) -> bool:
    """Whether it is a generator as np.random.default_rng makes it: its state is integers only, which JSON can store."""
    return isinstance(generator, np.random.Generator) and isinstance(generator.bit_generator, np.random.PCG64)


def check_generators(rule: Any, numbers: Mapping[str, Any]) -> None:
    """Raise ValueError where a state has a generator that the rule does not keep: its file has changed since."""
    for name in [name for name, value in numbers.items() if isinstance(value, dict)]:
        if not can_be_stored(vars(rule).get(name)):
            raise ValueError(
                f"the state has a random generator, self.{name}, which this {type(rule).__name__} does not keep: "
                "build the one that was saved"
            )


def put_numbers(rule: Any, numbers: Mapping[str, Any]) -> None:
    """Restore what `numbers_of` returned, and delete what was added since."""
    for name in numbers_of(rule).keys() - numbers.keys():
        delattr(rule, name)
    for name, value in numbers.items():
        if isinstance(value, dict):
            vars(rule)[name].bit_generator.state = value
        else:
            vars(rule)[name] = value


def sums_of(rule: Any) -> dict[str, int]:
    """A checksum of each array, list, dict and other generator that it keeps; these are not saved."""
    saved = numbers_of(rule)
    return {name: found for name, value in _kept(rule).items() if name not in saved and (found := sum_of(value))}


def sum_of(value: Any, crc: int = 0) -> int:
    """A checksum of the numbers, strings, arrays and generators in a value."""
    if isinstance(value, (list, tuple, deque, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            crc = sum_of(each, crc)
    elif isinstance(value, np.generic) or (hasattr(value, "dtype") and hasattr(value, "flags")):
        crc = crc32((value if isinstance(value, np.generic) else to_numpy(value)).tobytes(), crc + 1)
    elif isinstance(value, NOISE) and not isinstance(value, SystemRandom):  # which has no state
        crc = crc32(pickle.dumps(value), crc + 1)
    elif isinstance(value, (int, float, str, type(None))):
        crc = crc32(repr(value).encode(), crc + 1)
    return crc


def tell_what_is_lost(rule: Any, before: Mapping[str, int]) -> None:
    """Warn where a custom rule has changed something in self that its saved state does not include."""
    for name in sorted(name for name, found in sums_of(rule).items() if rule.t and before.get(name) != found):
        hint = "arrays as long as the weights belong in vectors; for others see state_dict in optim/average.py"
        if isinstance(getattr(rule, name), np.generic):
            hint = "a NumPy number is saved only as float(...)"
        if isinstance(getattr(rule, name), NOISE):
            hint = "np.random.default_rng(seed) is saved"
        rule.flat.tell_once(
            f"lost {name}",
            f"{type(rule).__name__} changes self.{name}, which its saved state does not include, so a resumed run "
            f"would start over with it: {hint}",
        )


def unready(rule: Any) -> Exception:
    """The error of a rule that can't take its step: the step was not counted, so its rate would be 0; or options set
    after it was built need vectors that it does not have."""
    kind = type(rule).__name__
    if not rule.t:
        return TypeError(f"{kind}.advance has not counted the step: start it with super().advance(), which does")
    return ValueError(f"this {kind} was built without the state that {rule} needs: build a new one with these options")
