"""Values for a network by name, as load_state_dict takes them: all are checked before the first is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, to_numpy
from minidl.tensor import Tensor


def fitted(state: Mapping[str, Any], own: Mapping[str, Tensor | Array], kind: str) -> dict[str, Array]:
    """A copy of the value in `state` for each name in `own`, with the dtype and device of what it will replace.

    kind  the class of the network, for messages

    Raises KeyError for missing or unexpected names, ValueError for a wrong shape and TypeError for values that are not
    real numbers.
    """
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise KeyError(
            f"load_state_dict: these {len(state)} values are not the {len(own)} of this {kind}: "
            f"missing {_some(missing)}, unexpected {_some(unexpected)}"
        )
    return {name: _fitting(name, state[name], target) for name, target in own.items()}  # copies: it may alias own


def _some(names: list[str]) -> str:
    """The first few names."""
    return f"{names[:4]}" + f" and {len(names) - 4} more" * (len(names) > 4) if names else "nothing"


def _fitting(name: str, value: Any, target: Tensor | Array) -> Array:
    value, array = _host_array(value), target.data if isinstance(target, Tensor) else target
    if value.shape != array.shape:
        raise ValueError(f"load_state_dict: {name} has shape {value.shape}, this model needs {array.shape}")
    if value.dtype.kind not in "fiub":
        raise TypeError(f"load_state_dict: {name} must be real numbers, these have dtype {value.dtype}")
    return backend_of(array).from_host(value.astype(array.dtype))


def _host_array(value: Any) -> Array:
    """The NumPy array of a Tensor, an array on any device, or a PyTorch CPU tensor or parameter."""
    if isinstance(value, Tensor):
        return value.numpy()
    try:
        return to_numpy(value)
    except TypeError:
        return np.asarray(value.detach() if hasattr(value, "detach") else value)
