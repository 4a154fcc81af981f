"""NumPy's functions on Tensors: those behind operators are operations; others use the values, and warn if a gradient is
lost."""

from __future__ import annotations

import dis
import linecache
import re
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

import minidl
from minidl.backend import Array
from minidl.elsewhere import ELSEWHERE
from minidl.grad_mode import is_recording
from minidl.telling import tell

NAMES = {
    np.add: "add", np.subtract: "sub", np.multiply: "mul", np.divide: "div", np.power: "pow", np.matmul: "matmul"
}  # fmt: skip # NumPy's functions behind the operators: `array * tensor` calls np.multiply
STEPS = ("around", "ceil", "fix", "floor", "rint", "round", "sign", "trunc")  # their gradient is 0: none is lost


class NumPyFunctions:
    """NumPy's protocol for objects that are passed to its functions."""

    __slots__ = ()
    data: Array
    node: Any
    requires_grad: bool

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The values, for NumPy's functions; not from the GPU, where that would hide a wait for the device."""
        if self.requires_grad and is_recording():
            _tell_lost(sys._getframe(1), dtype, copy, self.node is not None)
        return np.array(_host(self), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc in NAMES and method == "__call__" and not kwargs:
            return getattr(minidl.ops, NAMES[ufunc])(*inputs)
        return _of_values(getattr(ufunc, method), ufunc.__name__, inputs, kwargs)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return _of_values(function, function.__name__, args, kwargs)


def _of_values(function: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
    """A NumPy function of the values. Warns if a gradient is lost."""
    learning: list[NumPyFunctions] = []
    result = function(*_values(args, learning), **_values(kwargs, learning))
    parts = result if isinstance(result, (tuple, list)) else [result]
    floats = any(getattr(part, "dtype", np.dtype(bool)).kind in "fc" for part in parts)
    if learning and floats and is_recording() and not name.endswith("_like") and name not in STEPS:
        remedy = ELSEWHERE.get(name, "np.")  # for np.median there is none with a gradient
        other = "what minidl.ops has" if remedy.startswith("np.") else remedy
        ours = f"minidl.ops.{name}" if name in minidl.ops.__all__ else other
        ours = "a = a + t instead of a += t" if kwargs.get("out") else ours
        inside = "linalg." if getattr(function, "__module__", None) == "numpy.linalg" else ""
        warnings.warn(
            f"np.{inside}{name} of a Tensor that needs a gradient gives only the values: {ours} keeps the gradient; "
            "t.detach() says that none is wanted",
            stacklevel=3,
        )
    return result


def _tell_lost(user: FrameType, dtype: Any, copy: bool | None, computed: bool) -> None:
    """For array.dot(t) and array[i] = t NumPy takes the values without asking. The calling function's bytecode shows
    which of the two it is. Copying a weight is no mistake, nor is p.data[...] = p - lr * p.grad, but any other
    `computed` result would lose its gradient unnoticed."""
    code = user.f_code
    if dis.opname[code.co_code[user.f_lasti]] in ("STORE_SUBSCR", "STORE_SLICE"):  # copy=True before NumPy 2.3
        if computed and not re.match(r"[^=]*\.data\[", linecache.getline(code.co_filename, user.f_lineno)):
            tell("array[i] = t of a Tensor that needs a gradient keeps only the values: ops.stack([t, ...]) of a list "
                 "keeps the gradient; t.detach() says that none is wanted")  # fmt: skip
    elif copy is None and dtype is None:
        _tell_table(user)
    elif copy is None and "dot" in code.co_names:
        tell("array.dot(t) of a Tensor that needs a gradient gives only the values: array @ t keeps the gradient")


def _tell_table(caller: FrameType) -> None:
    """The same for SciPy's functions, for X @ t of its sparse matrices and for df @ t of pandas. A starting point for
    scipy.optimize, and what scipy.io writes, need no gradient."""
    library = caller.f_globals.get("__name__", "").partition(".")[0]
    if library in ("pandas", "scipy") and caller.f_code.co_name in ("dot", "_matmul_dispatch"):
        tell(f"a {library} product with a Tensor that needs a gradient gives only the values: df.to_numpy() @ t, "
             "or X.toarray() @ t for a sparse matrix, keeps the gradient")  # fmt: skip
        return
    through, frame = "", caller  # the modules between NumPy and the user
    while frame.f_back is not None and (module := frame.f_globals.get("__name__", "")).startswith(("numpy.", "scipy.")):
        through, frame = f"{through} {module}", frame.f_back
    if " scipy." in through and " scipy.optimize." not in through and " scipy.io." not in through:
        tell("a function of SciPy gives only the values of a Tensor that needs a gradient: what minidl.ops has keeps "
             "the gradient; t.detach() says that none is wanted")  # fmt: skip


def _values(thing: Any, learning: list[NumPyFunctions]) -> Any:
    """The arguments of a NumPy function, with arrays for Tensors; those that need a gradient go to `learning`."""
    if isinstance(thing, NumPyFunctions):
        if thing.requires_grad:
            learning.append(thing)
        return _host(thing)
    if isinstance(thing, dict):
        return {key: _values(value, learning) for key, value in thing.items()}
    return type(thing)(_values(each, learning) for each in thing) if type(thing) in (tuple, list) else thing


def _host(tensor: NumPyFunctions) -> Array:
    if not isinstance(tensor.data, np.ndarray):
        raise TypeError("this Tensor is on the GPU: write .numpy(), which copies its values from there")
    return tensor.data
