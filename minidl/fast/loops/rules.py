"""The update rules in compiled loops, generated from their formulas: each takes its whole step in one pass.

Written with array operations, Adam makes a dozen passes over its vectors. Here its formula (optim/formula.py) is fused
into one: a function of one element, in a loop over one thread's part of the vectors. Nothing here knows any rule by
name, so a rule of your own is compiled too if it has a formula. `source` returns the code that is compiled:

    print(source(rule.lines(), rule.vectors, keeps_step=False, dtype="float32"))
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np

from minidl.backend import Array
from minidl.fast.formula import Parts, take_apart
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.team import ready, share
from minidl.fast.loops.words import entry, ignore_subnormals, restore
from minidl.fast.written import python_source

WORTH = 1 << 15  # weights in a part
DTYPES = {"f": "float32", "d": "float64"}
Lines: TypeAlias = "tuple[tuple[str, str, str], ...]"


class Rule(Protocol):
    """The attributes of an update rule (optim/rule.py) that are used here."""

    vectors: tuple[str, ...]
    rate: float
    p: Array | None
    flat: Any

    @property
    def flushes(self) -> bool: ...
    def lines(self) -> Lines | None: ...
    def given(self, lr: float) -> dict[str, Any]: ...


def step(rule: Rule) -> Any:
    """Add the step at rule.rate to all parameters, in one pass; NotImplemented for a rule without a formula."""
    lines, w = rule.lines(), rule.flat.w
    kept = () if rule.p is None else (rule.p,)
    arrays = (w, rule.flat.g, *[getattr(rule, name) for name in rule.vectors], *kept)
    if lines is None or w.dtype.char not in DTYPES or not all(fits(array, w) for array in arrays):
        return NotImplemented
    parts, update = made(lines, rule.vectors, rule.p is not None, DTYPES[w.dtype.char])
    numbers = parts.work_out(rule.given(rule.rate))
    team = ready() if len(w) >= 2 * WORTH else ready(0)  # a single part needs no help
    update(team, rule.flushes, np.array(numbers, w.dtype), *arrays)
    return None


def fits(array: Any, w: Array) -> bool:
    """Whether one loop can traverse both."""
    return type(array) is np.ndarray and array.dtype == w.dtype and array.shape == w.shape and array.flags.c_contiguous


@cache
def made(lines: Lines, vectors: tuple[str, ...], keeps_step: bool, dtype: str) -> tuple[Parts, Callable[..., None]]:
    """The parts of a formula, and its loop: update(team, flushes, numbers, w, g, *state, *p)."""
    written = lines, vectors, keeps_step, dtype
    # numba's cache identifies functions by name: those of another formula need another name
    name = f"rule_{hashlib.sha256(source(*written).encode()).hexdigest()[:16]}"
    exec(compile(source(*written, name), __file__, "exec"), scope := dict(_SCOPE))
    return apart(lines, vectors), scope[name]


def apart(lines: Lines, vectors: tuple[str, ...]) -> Parts:
    """What is computed once per step, and what for each weight."""
    pairs = tuple((symbol, expression) for symbol, expression, _ in lines)
    return take_apart(pairs, ("w_old", "g", *(f"{name}_old" for name in vectors)), (*vectors, "p"))


def source(lines: Lines, vectors: tuple[str, ...], keeps_step: bool, dtype: str, name: str = "update") -> str:
    """The loop in Python: for one weight, for a part of them, and for all. Arrays are named w_, g_, m_, ..., so that no
    name clashes with a symbol or with another name used here."""
    parts, stored = apart(lines, vectors), [*vectors, *(["p"] if keeps_step else []), "w"]
    arrays = [f"{vector}_" for vector in ("w", "g", *stored[:-1])]
    given = [f"{vector.removesuffix('_old')}_[i]" for vector in parts.vectors]
    given += [f"numbers[{i}]" for i in range(len(parts.numbers))]
    return f"""@part
{python_source(parts, stored, f"{name}_of_one", lambda value: f"{dtype}({value})")}

@part
def {name}_of_part(part, parts, flushes, numbers, {", ".join(arrays)}):
    before = ignore_subnormals() if flushes else 0
    here = stretch(len(w_), part, parts)
    {", ".join(arrays)} = {", ".join(f"{array}[here]" for array in arrays)}
    for i in range(len(w_)):
        {", ".join(f"{vector}_[i]" for vector in stored)} = {name}_of_one({", ".join(given)})
    if flushes:
        restore(before)


@loop
def {name}(team, flushes, numbers, {", ".join(arrays)}):
    parts = cuts(len(w_))
    share(team, parts, entry({name}_of_part, (parts, flushes, numbers, {", ".join(arrays)})))
"""


# ---- functions that the source uses ----


@part
def cuts(n):
    """How many parts this many weights are split into."""
    return max(1, min(16, n // WORTH))


@part
def stretch(n, i, parts):
    """The weights of part i: whole cache lines."""
    lines = (n + 15) // 16
    return slice(16 * (lines * i // parts), min(n, 16 * (lines * (i + 1) // parts)))


_SCOPE = {
    "__name__": __name__, "part": part, "loop": loop, "share": share, "entry": entry, "cuts": cuts, "stretch": stretch,
    "ignore_subnormals": ignore_subnormals, "restore": restore,
    "float32": np.float32, "float64": np.float64, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
}  # fmt: skip
