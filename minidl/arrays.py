"""Which array a Tensor holds: that of what a user gives, and that of what an operation has computed."""

from __future__ import annotations

from typing import Any

import numpy as np

import minidl
from minidl.backend import Array, backend_of
from minidl.grad_mode import recording
from minidl.operators import Operators


def as_array(data: Any, dtype: Any = np.float32) -> Array:
    """Floating-point numbers of a device as they are; whole numbers, a number or a (nested) list as `dtype`; a
    subclass's numbers, as of np.matrix; of what is read-only or of the other byte order a copy.
    """
    if isinstance(data, Operators):
        raise TypeError("this is a Tensor already: use it as it is, or t.detach() for one without history")
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError("a Tensor has no mask: write Tensor(a.filled(value))")
    try:
        backend_of(data)
    except TypeError:  # a number or a (nested) list
        if recording.get() and _any_learns(data):
            raise TypeError("a list of Tensors would lose their gradient: ops.stack(tensors) or ops.cat(tensors) makes "
                            "one of them; of numbers for a plot write t.item(), of a network's outputs take one by "
                            "one: logits, other = net(x)") from None  # fmt: skip
        if hasattr(data, "toarray"):
            raise TypeError("a Tensor of a sparse matrix: write X.toarray()") from None
        data = np.asarray(data)
        data = data.astype(dtype) if data.dtype.kind == "f" else data
    if isinstance(data, np.ndarray):
        data = np.asarray(data)
        if not (data.flags.writeable and data.dtype.isnative):
            data = data.astype(data.dtype.newbyteorder("="))  # weights are written to, and loops take no other
    if data.dtype.kind in "iub":
        data = data.astype(dtype)
    if data.dtype.kind != "f":
        raise TypeError(f"a Tensor holds real numbers; this has dtype {data.dtype}")
    return data


def _any_learns(data: Any) -> bool:
    """Whether there is a Tensor that needs a gradient in this (nested) list."""
    if isinstance(data, (list, tuple)):
        return any(map(_any_learns, data))
    return isinstance(data, Operators) and data.requires_grad


def array_of(name: str, value: Any) -> Array:
    """The value of an operation that is no NumPy array: one of a device as it is, one of NumPy's numbers as 0-d."""
    if isinstance(value, np.generic):  # NumPy makes a scalar of a 0-d result
        return np.asarray(value)
    if isinstance(value, (Operators, list, tuple, float, int)):
        if isinstance(value, Operators) and name in minidl.ops.__all__:
            raise TypeError(f"the .data of an input of '{name}' is a Tensor: write t.data[...] = u.data for t.data = u")
        raise TypeError(f"the value of '{name}' is a {type(value).__name__}, and must be an array, as x.data ** 2 is")
    return value
