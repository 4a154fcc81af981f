"""The array that a Tensor holds: made from a user's data, or from the result of an operation."""

from __future__ import annotations

from typing import Any

import numpy as np

import minidl
from minidl.backend import Array, backend_of
from minidl.grad_mode import recording
from minidl.operators import Operators


def as_array(data: Any, dtype: Any = np.float32) -> Array:
    """Float arrays on any device as they are; integer arrays, numbers and (nested) lists as `dtype`. A subclass such as
    np.matrix becomes a plain array; an array that is read-only or not in native byte order is copied.
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
                            "one Tensor; for numbers to plot write t.item(), and unpack a network's several outputs: "
                            "logits, other = net(x)") from None  # fmt: skip
        if hasattr(data, "toarray"):
            raise TypeError("a Tensor of a sparse matrix: write X.toarray()") from None
        data = np.asarray(data)
        data = data.astype(dtype) if data.dtype.kind == "f" else data
    if isinstance(data, np.ndarray):
        data = np.asarray(data)
        if not (data.flags.writeable and data.dtype.isnative):
            data = data.astype(data.dtype.newbyteorder("="))  # weights are written to, and loops need native order
    if data.dtype.kind in "iub":
        data = data.astype(dtype)
    if data.dtype.kind != "f":
        if data.dtype.kind == "O" and not data.ndim:
            raise TypeError(f"a Tensor holds real numbers; this is a {type(data[()]).__name__}")
        remedy = ": array.astype(np.float32), if each is a number" if data.dtype.kind == "O" else ""
        raise TypeError(f"a Tensor holds real numbers; this has dtype {data.dtype}{remedy}")
    return data


def _any_learns(data: Any) -> bool:
    """Whether there is a Tensor that needs a gradient in this (nested) list."""
    if isinstance(data, (list, tuple)):
        return any(map(_any_learns, data))
    return isinstance(data, Operators) and data.requires_grad


def array_of(name: str, value: Any) -> Array:
    """An operation's value that is not a NumPy array of floats: a device's array as it is, a NumPy scalar as a 0-d
    array. Integers and booleans are refused: a number that they meet would be cut to their dtype, 2.5 to True."""
    value = np.asarray(value) if isinstance(value, np.generic) else value  # NumPy makes a scalar of a 0-d result
    dtype = None if isinstance(value, Operators) else getattr(value, "dtype", None)
    if dtype is not None and dtype.kind == "f":
        return value
    ours = name in minidl.ops.__all__
    if isinstance(value, Operators) and ours:
        raise TypeError(f"the .data of an input of '{name}' is a Tensor: t.data[...] = u.data, not t.data = u")
    if dtype is None:
        raise TypeError(f"the value of '{name}' is a {type(value).__name__}: give an array, such as x.data ** 2")
    if ours:
        raise TypeError(f"the .data of an input of '{name}' was replaced by {dtype}, and the result would be cut to "
                        "that: t.data[...] = values sets the values and keeps the float dtype")  # fmt: skip
    raise TypeError(f"the value of '{name}' has dtype {dtype}: give floats, (x.data > 0).astype(x.dtype)")
