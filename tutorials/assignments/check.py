"""When is a number right? When it is as near to the exact one as rounding allows, in whatever order it was summed.

Each of a computation's roundings is off by at most u of its result (u = 2^-24 in float32, 2^-53 in float64). A sum of
n terms, in any order, is off by at most about n u times the sum of the terms' sizes (Higham 2002, sec. 4.2). So each
oracle in hidden.py returns two things: the value, computed in float64, and its `slack`: roundings times size, worked
out by the same formula on absolute values. An answer passes within slack * u; a wrong formula is off by many times
that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Wrong(Exception):
    """The submission fails an item; the message is the feedback."""


class Exact(NamedTuple):
    """What the answer should be: the value in float64, and how many units of rounding it may be off, by element."""

    value: Array
    slack: Array


Mistakes = Mapping[str, Callable[[], Any]]  # what to say -> the value that this mistake gives


def normal(rng: np.random.Generator, shape: Any, dtype: Any = np.float64) -> Array:
    """Random numbers, normally distributed, as an array."""
    return np.asarray(rng.normal(size=shape), dtype)


def require(condition: bool, message: str) -> None:
    """Raise Wrong with the message unless the condition holds."""
    if not condition:
        raise Wrong(message)


def expect(got: Any, exact: Exact, dtype: Any, given: str, mistakes: Mistakes | None = None) -> None:
    """Raise Wrong, with the first number that is off and the likeliest mistake, unless `got` is right.

    given     the input, in words
    mistakes  known mistakes and what they would give
    """
    dtype, value = np.dtype(dtype), np.asarray(exact.value, np.float64)
    if not isinstance(got, np.ndarray):
        raise Wrong(f"{given}\n  expected an array of shape {value.shape}, got {got!r:.200}")
    if got.shape != value.shape:
        raise Wrong(
            f"{given}\n  expected shape {value.shape}, got {got.shape}" + _likeliest(got, dtype, exact, mistakes)
        )
    if got.dtype != dtype:
        raise Wrong(f"{given}\n  expected dtype {dtype} as the input has, got {got.dtype}: what changes it?")
    if not close(got, exact, dtype):
        error = np.abs(got.astype(np.float64) - value) / (bound(exact, dtype) + np.finfo(dtype).tiny)
        index = np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), value.shape)
        at = f" at index {tuple(int(i) for i in index)}" if value.ndim else ""
        raise Wrong(
            f"{given}\n  expected {_show(value[index])}{at}, got {_show(got[index])}"
            + _likeliest(got, dtype, exact, mistakes)
        )


def close(got: Array, exact: Exact, dtype: Any) -> bool:
    """Whether every element is within its bound. NaN is not."""
    value = np.asarray(exact.value, np.float64)
    return got.shape == value.shape and bool((np.abs(got.astype(np.float64) - value) <= bound(exact, dtype)).all())


def bound(exact: Exact, dtype: Any) -> Array:
    """How far off an element may be: slack * u, and u more for the rounding of the result itself."""
    info = np.finfo(dtype)
    u = float(info.eps) / 2
    size = np.abs(exact.value) + np.asarray(exact.slack, np.float64)
    return np.asarray(u * size + float(info.tiny))


def exact(value: Any, roundings: int, size: Any = None) -> Exact:
    """`roundings` operations on numbers of that size; by default the value's own."""
    value = np.asarray(value, np.float64)
    return Exact(value, roundings * np.abs(value if size is None else np.broadcast_to(size, value.shape)))


def _likeliest(got: Array, dtype: Any, right: Exact, mistakes: Mistakes | None) -> str:
    """The known mistake that gives what was got, to a thousand times the bound of a right answer."""
    loose = Exact(right.value, 1000 * np.asarray(right.slack) + 1000 * np.abs(right.value))
    for message, wrong in (mistakes or {}).items():
        with np.errstate(all="ignore"):
            value = np.asarray(wrong(), np.float64)
        near = value.shape == loose.slack.shape and close(got, loose._replace(value=value), dtype)
        if near or value.shape == got.shape != right.value.shape:
            return f"\n  {message}"
    if not np.isfinite(got).all():
        return "\n  A NaN or an infinity: does exp overflow (beyond 88 in float32)? A division by zero, a log of 0?"
    return ""


def _show(number: Any) -> str:
    return f"{float(number):.7g}"
