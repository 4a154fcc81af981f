"""Argument checks for optimizers: the errors name the argument and its value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from minidl.backend import Array


def number(name: str, value: Any) -> float:
    """`value` as a float: a Python, NumPy or PyTorch number, and not a text such as "0.1", which float() takes too."""
    try:
        return float(None if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be one number, got {value!r}") from None


def pythons(value: Any) -> Any:
    """A NumPy or PyTorch scalar as a Python number, which a run's folder can store; anything else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


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
        raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
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


# Options that rules have in PyTorch but not here, and what to do instead.
_ELSEWHERE = {
    "maximize": "negate the loss",
    "dampening": "it is 0 here",
    "centered": "use RMSprop without it, or Adam",
    "foreach": "leave it out, a step is one pass over all parameters",
    "fused": "leave it out, a step is one pass over all parameters",
    "capturable": "leave it out, steps are captured by minidl.fast.gpu.graph",
    "differentiable": "leave it out, a step is not part of a graph",
    "decoupled_weight_decay": "use AdamW",
}


_CALLED = {  # Keras's names, and what they are called here
    "learning_rate": "here it is called lr",
    "beta1": "betas=(beta1, beta2)", "beta2": "betas=(beta1, beta2)",
    "beta_1": "betas=(beta1, beta2)", "beta_2": "betas=(beta1, beta2)",
    "epsilon": "here it is called eps", "rho": "here it is called alpha", "clipnorm": "here it is called max_norm",
    "clipvalue": "np.clip(p.grad, -c, c, out=p.grad) for each parameter, before step()",
}  # fmt: skip


def refuse(rule: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for options that a rule does not have, unless they only switch off what is not there."""
    for name, value in options.items():
        if name not in _ELSEWHERE or value not in (None, False, 0):
            said = _ELSEWHERE.get(name) or _CALLED.get(name)
            hint = f": {said}" if said else ""
            raise TypeError(f"{rule} has no option {name!r}{hint}")


def parts_of(state: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The vectors and the scalars of an optimizer's state. Raises ValueError for anything else."""
    if not isinstance(state, Mapping) or not {"vectors", "scalars"} <= state.keys():
        theirs = isinstance(state, Mapping) and "param_groups" in state
        hint = ": that of PyTorch's own optimizer goes into minidl.optim.torch.wrap(...)" if theirs else ""
        raise ValueError(f"load_state_dict takes what state_dict() of such an optimizer returned{hint}")
    return state["vectors"], state["scalars"]


def check_vectors(vectors: Mapping[str, Any], names: Iterable[str], w: Array) -> None:
    """Raise ValueError unless there is exactly one vector for each name, of w's shape and dtype."""
    if set(vectors) != set(names):
        raise ValueError(f"the state has the vectors {sorted(vectors)}, this optimizer needs {sorted(names)}: build it "
                         "with the options of the one that was saved")  # fmt: skip
    for name, vector in vectors.items():
        if vector.shape != w.shape or vector.dtype != w.dtype:
            raise ValueError(
                f"the state's vector '{name}' is {vector.dtype} of shape {vector.shape}, "
                f"these parameters need {w.dtype} of shape {w.shape}: build the network that it was saved with"
            )


def within(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The vectors whose names start with the prefix, with the prefix removed."""
    return {name.removeprefix(prefix): vector for name, vector in vectors.items() if name.startswith(prefix)}


def without(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The other vectors."""
    return {name: vector for name, vector in vectors.items() if not name.startswith(prefix)}
