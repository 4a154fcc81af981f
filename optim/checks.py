"""Checks of what an optimizer is given: errors that name the number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from minidl.backend import Array


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
    if not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be a whole number >= {low}, got {value}")
    return int(value)


def fraction(name: str, value: float) -> float:
    """`value` as a float, if it is in [0, 1): the factor of an exponential average."""
    if not 0 <= number(name, value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
    return float(value)


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


def refuse(rule: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for options that a rule does not have, unless they only say no to what is not there."""
    for name, value in options.items():
        if name not in _ELSEWHERE or value not in (None, False, 0):
            hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise TypeError(f"{rule} has no option {name!r}{hint}")


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
