"""The kind and size that each value read from a file must have, as a table:

    RECORD = {"step": whole(), "accuracy": real(0, 1), "phase": text(40), "switch": maybe(table(SWITCH))}
    table(RECORD)(value, "record")

A kind is a function of a value and its place; it raises WrongKind, in one line, where the value does not fit. Python's
own checks come too late: a string in place of a number fails hours later, and a size of 10^12 not at all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Kind: TypeAlias = Callable[[Any, str], None]
EXACT = 2**53  # integers up to here are exact in JSON, whatever reads it


class WrongKind(ValueError):
    """A value of another kind or size than belongs there."""


def wrong(where: str, wanted: str, value: Any) -> WrongKind:
    """The error for this place."""
    shown = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)
    return WrongKind(f"{where or 'it'} must be {wanted}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")


def whole(low: int = 0, high: int = EXACT) -> Kind:
    """A whole number from low to high."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise wrong(where, f"a whole number from {low:,} to {high:,}", value)

    return check


def real(low: float = -math.inf, high: float = math.inf, finite: bool = True) -> Kind:
    """A number from low to high, int or float. finite=False: NaN and the infinities pass."""

    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float):
            raise wrong(where, "a number", value)
        if finite and not abs(value) <= sys.float_info.max:  # NaN is no number to compare
            raise wrong(where, "a finite number", value)
        if not low <= value <= high and (finite or value == value):
            raise wrong(where, f"a number from {low:g} to {high:g}", value)

    return check


def text(longest: int = 10_000) -> Kind:
    """A string of at most this many characters."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            raise wrong(where, f"a text of at most {longest:,} characters", value)

    return check


def flag(value: Any, where: str) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)


def anything(value: Any, where: str) -> None:
    """Any value; it is checked elsewhere."""


def maybe(kind: Kind) -> Kind:
    """None, or a value of this kind."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            kind(value, where)

    return check


def either(*kinds: Kind) -> Kind:
    """A value of one of these kinds; the error is the last one's."""

    def check(value: Any, where: str) -> None:
        for kind in kinds[:-1]:
            try:
                return kind(value, where)
            except WrongKind:
                continue
        kinds[-1](value, where)

    return check


def listed(kind: Kind, shortest: int = 0, longest: int = EXACT) -> Kind:
    """A list of values of this kind."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            span = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
            raise wrong(where, f"a list of {span} values" if longest < EXACT else "a list", value)
        for i, item in enumerate(value):
            kind(item, f"{where}[{i}]")

    return check


def mapping(kind: Kind) -> Kind:
    """A JSON object whose values are all of this kind."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong(where, "a JSON object", value)
        for key, item in value.items():
            kind(item, f"{where}.{key}" if where else key)

    return check


def table(kinds: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None, others: Kind | None = None) -> Kind:
    """A JSON object with exactly these keys, each with its kind.

    optional  keys that may be missing, with their kinds
    others    kind of all other keys; None: no others are allowed
    """
    known = {**kinds, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong(where, "a JSON object", value)
        inside = f" in {where}" if where else ""
        if missing := sorted(kinds.keys() - value.keys()):
            raise WrongKind(f"it has no {missing[0]!r}{inside}")
        if others is None and (unknown := sorted(value.keys() - known.keys())):
            raise WrongKind(f"{unknown[0]!r:.60} is unexpected{inside}")
        for key, item in value.items():
            known.get(key, others or anything)(item, f"{where}.{key}" if where else key)

    return check
