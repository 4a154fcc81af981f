"""When is a number right? When it is as close to the exact one as rounding allows, whatever the order of summation.

Each rounding has a relative error of at most u (2^-24 in float32, 2^-53 in float64). A sum of n terms, in any order,
has an error of at most about n u times the sum of the absolute values of the terms (Higham 2002, sec. 4.2). So each
reference formula in hidden.py gives two things: the value, computed in float64, and its `slack`: the number of
roundings times the size, from the same formula on absolute values. An answer passes if it is within slack * u; a wrong
formula is off by many times that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Wrong(Exception):
    """The submission fails an item; the message is the feedback.

    slip  the known mistake behind it, "" if none
    """

    def __init__(self, message: str, slip: str = "") -> None:
        super().__init__(message)
        self.slip = slip


class Raised(Wrong):
    """The student's code has raised an exception."""


@dataclass
class Ledger:
    """Keeps track of mistakes, so that each one costs marks only once.

    charged  mistakes that have cost an item its marks
    notes    the charged mistakes found and forgiven in the current item
    """

    charged: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def forgives(self, slip: str) -> bool:
        """Whether this mistake has already been charged."""
        if slip in self.charged and slip not in self.notes:
            self.notes.append(slip)
        return slip in self.charged


class Exact(NamedTuple):
    """The right answer: the value in float64, and for each element the error allowed, in units of rounding u."""

    value: Array
    slack: Array

    def of_shape(self, *shape: int) -> Exact:
        """The same values in another shape."""
        return Exact(np.reshape(self.value, shape), np.reshape(self.slack, shape))


DTYPE = "The result must have the dtype of the input."  # a slip that any item may have
Mistakes = Mapping[str, Callable[[], Any]]  # the feedback for a mistake -> the value that it gives


def normal(rng: np.random.Generator, shape: Any, dtype: Any = np.float64) -> Array:
    """An array of normally distributed random numbers."""
    return np.asarray(rng.normal(size=shape), dtype)


def require(condition: bool, message: str) -> None:
    """Raise Wrong with the message unless the condition holds."""
    if not condition:
        raise Wrong(message)


def expect(
    got: Any, exact: Exact, dtype: Any, given: str, mistakes: Mistakes | None = None, ledger: Ledger | None = None
) -> None:
    """Raise Wrong, with the element that is furthest off and the most likely mistake, unless `got` is right.

    given     a description of the input
    mistakes  known mistakes and what they would give
    ledger    mistakes already charged: an answer that is right except for one of them passes
    """
    dtype, value = np.dtype(dtype), np.asarray(exact.value, np.float64)
    if not isinstance(got, np.ndarray):
        raise Wrong(f"{given}\n  expected an array of shape {value.shape}, got {got!r:.200}")
    if got.shape != value.shape:
        slip, _ = _likeliest(got, dtype, exact, mistakes)
        raise Wrong(f"{given}\n  expected shape {value.shape}, got {got.shape}{_hint(slip)}", slip)
    if got.dtype != dtype:
        slip = DTYPE if got.dtype.kind == "f" and close(got, exact, dtype) else ""
        if ledger and slip and ledger.forgives(slip):
            return
        raise Wrong(
            f"{given}\n  expected dtype {dtype}, as in the input, got {got.dtype}: which step changes it?", slip
        )
    if close(got, exact, dtype):
        return
    slip, sure = _likeliest(got, dtype, exact, mistakes, ledger.charged if ledger else ())
    if ledger and slip and sure and ledger.forgives(slip):
        return
    error = np.abs(got.astype(np.float64) - value) / (bound(exact, dtype) + np.finfo(dtype).tiny)
    index = np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), value.shape)
    at = f" at index {tuple(int(i) for i in index)}" if value.ndim else ""
    hint = _hint(slip)
    if not slip and not np.isfinite(got).all():
        hint = (
            "\n  There is a NaN or an infinity: does exp overflow (above 88 in float32)? "
            "Is there a 1/0, a log(0) or the root of a negative number?"
        )
    if (
        not hint
        and dtype == np.float64
        and np.allclose(got, value, rtol=1e-5, atol=1e-6 * np.abs(value).max(initial=0))
    ):
        hint = "\n  Right to about seven digits: do you use float32 somewhere, or add a small number such as 1e-8?"
    raise Wrong(f"{given}\n  {_told_apart(value[index], got[index], at)}{hint}", slip)


def close(got: Array, exact: Exact, dtype: Any) -> bool:
    """Whether every element is within its bound. NaN never is."""
    value = np.asarray(exact.value, np.float64)
    return got.shape == value.shape and bool((np.abs(got.astype(np.float64) - value) <= bound(exact, dtype)).all())


def bound(exact: Exact, dtype: Any) -> Array:
    """The error allowed for each element: slack * u, plus u for rounding the result itself."""
    info = np.finfo(dtype)
    u = float(info.eps) / 2
    size = np.abs(exact.value) + np.asarray(exact.slack, np.float64)
    return np.asarray(u * size + float(info.tiny))


def exact(value: Any, roundings: int, size: Any = None) -> Exact:
    """The value after `roundings` roundings of numbers of that size (default: the size of the value)."""
    value = np.asarray(value, np.float64)
    return Exact(value, roundings * np.abs(value if size is None else np.broadcast_to(size, value.shape)))


def _likeliest(
    got: Array, dtype: Any, right: Exact, mistakes: Mistakes | None, charged: Collection[str] = ()
) -> tuple[str, bool]:
    """The known mistake whose value is nearest to `got`, and whether the two agree to within rounding.

    It is "" if the nearest is more than a thousand times a right answer's bound away, or gives about the right answer
    here. A mistake that has been charged before takes precedence over another that gives the same value here.
    """
    nearest, least = "", min(1000.0, _off(got, right.value, dtype, right) / 2)
    for message, wrong in (mistakes or {}).items():
        with np.errstate(all="ignore"):
            value = np.asarray(wrong(), np.float64)
        if value.shape == got.shape != np.shape(right.value):
            return message, False
        off = _off(got, value, dtype, right)
        if off < 30 and message in charged:
            return message, True
        if off < least:
            nearest, least = message, off
    return nearest, bool(nearest) and least < 30


def _off(got: Array, value: Array, dtype: Any, right: Exact) -> float:
    """The distance of `got` from a value, in units of a right answer's bound; infinite if the shapes differ."""
    if not got.shape == value.shape == np.shape(right.value):
        return np.inf
    own = bound(Exact(np.abs(right.value) + np.abs(value), right.slack), dtype)
    with np.errstate(all="ignore"):
        off = float(np.max(np.abs(got.astype(np.float64) - value) / own, initial=0.0))
    return 0.0 if np.array_equal(got, value, equal_nan=True) else off


def _hint(slip: str) -> str:
    return f"\n  {slip}" if slip else ""


def _told_apart(right: Any, got: Any, at: str) -> str:
    """Both numbers, with enough digits to show the difference."""
    digits = next((n for n in (7, 10, 17) if f"{float(right):.{n}g}" != f"{float(got):.{n}g}"), 17)
    return f"expected {float(right):.{digits}g}{at}, got {float(got):.{digits}g}"
