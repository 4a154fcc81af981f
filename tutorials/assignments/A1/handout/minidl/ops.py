"""The operations. Each is one function, with the forward value and its derivatives side by side.

`record(name, value, (a, vjp_a), (b, vjp_b))` means: this is the value, and a gradient g of the loss with respect
to it reaches `a` as vjp_a(g). If an input was broadcast, backward() sums its gradient over the copies.
Arguments follow PyTorch: `dim` and `keepdim`. The operations behind layers and losses are in ops_nn.py and ops_conv.py.

`x`, `a`, `b` and the like are Tensors, or arrays and numbers that Tensor() accepts; the result has their float dtype
and device. Every operation raises ValueError for shapes or numbers that do not fit, and TypeError for mixed devices.
With two float dtypes arithmetic gives the wider, as in NumPy; matmul, linear, conv2d and batch_norm raise TypeError.
Each message names both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.backend import Array, accelerated, kernel_for, same_bits, xp_of
from minidl.operands import operands, reduced, together
from minidl.operators import Operators
from minidl.ops_conv import avg_pool2d, conv2d, max_pool2d
from minidl.ops_more import (
    abs,
    argmax,
    cat,
    clamp,
    gelu,
    leaky_relu,
    maximum,
    minimum,
    norm,
    sqrt,
    squeeze,
    stack,
    std,
    unsqueeze,
    values_alone,
    var,
    where,
)
from minidl.ops_nn import (
    batch_norm,
    binary_cross_entropy_with_logits,
    count_right,
    cross_entropy,
    dropout,
    linear,
    log_softmax,
    mse_loss,
    softmax,
)
from minidl.refuse import listed, missing, refuse
from minidl.tensor import Dims, Tensor, alike, as_tensor, axes, record, total

__all__ = [
    "abs", "add", "argmax", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "cat", "clamp", "conv2d",
    "count_right", "cross_entropy", "div", "dropout", "exp", "flatten", "gelu", "getitem", "leaky_relu", "linear",
    "log", "log_softmax", "matmul", "max", "max_pool2d", "maximum", "mean", "min", "minimum", "mse_loss", "mul", "neg",
    "norm", "permute", "pow", "relu", "reshape", "sigmoid", "softmax", "sqrt", "squeeze", "stack", "std", "sub", "sum",
    "tanh", "transpose", "unsqueeze", "var", "where",
]  # fmt: skip

# ---- arithmetic, element by element ----


def add(a: Any, b: Any) -> Tensor:
    """a + b. Shapes broadcast."""
    a, b = operands("add", a, b)
    return record("add", a.data + b.data, (a, lambda g: g), (b, lambda g: g))


def sub(a: Any, b: Any) -> Tensor:
    """a - b. Shapes broadcast."""
    a, b = operands("sub", a, b)
    return record("sub", a.data - b.data, (a, lambda g: g), (b, lambda g: -g))


def mul(a: Any, b: Any) -> Tensor:
    """a * b, element by element. Shapes broadcast."""
    raise NotImplementedError("A1: mul is yours to write")


def div(a: Any, b: Any) -> Tensor:
    """a / b. Shapes broadcast."""
    raise NotImplementedError("A1: div is yours to write")


def neg(a: Any) -> Tensor:
    """-a, element by element."""
    a = as_tensor(a)
    return record("neg", -a.data, (a, lambda g: -g))


def pow(a: Any, b: Any) -> Tensor:
    """a ** b. Shapes broadcast. The gradient of a**0 is 0, also at 0; that of b needs a > 0, or a = 0 and b >= 0."""
    a, b = operands("pow", a, b)
    xp, y = xp_of(a.data), _power(a.data, b.data)

    def vjp_a(g: Array) -> Array:
        if isinstance(b.data, np.ndarray) and b.ndim == 0 and b.data != 0:  # as below, without passes over all of a
            return g * b.data * _power(a.data, b.data - 1)
        power = _power(a.data, xp.where(b.data == 0, 1, b.data - 1))  # x**0 must not need x**-1, undefined at 0
        return xp.where(b.data == 0, 0, g * b.data * power)

    def vjp_b(g: Array) -> Array:
        zero = (a.data == 0) & (b.data >= 0)
        return xp.where(zero, 0, g * y * xp.log(xp.where(zero, 1, a.data)))

    return record("pow", y, (a, vjp_a, a, b), (b, vjp_b, a, b))


def _power(a: Array, b: Any) -> Array:
    """a ** b. NumPy is fast for a square, a root and a reciprocal if b is a Python number; for a cube it never is."""
    if isinstance(b, (np.ndarray, np.generic)) and b.ndim == 0 and b.dtype == a.dtype:
        b = b.item()
    return a * a * a if isinstance(b, float) and b == 3 else a**b


def exp(x: Any) -> Tensor:
    """e ** x, element by element."""
    x = as_tensor(x)
    y = xp_of(x.data).exp(x.data)
    return record("exp", y, (x, lambda g: g * y))


def log(x: Any) -> Tensor:
    """Natural logarithm of x, element by element."""
    raise NotImplementedError("A1: log is yours to write")


# ---- activations ----


@accelerated
def relu(x: Any) -> Tensor:
    """max(x, 0). At 0 the gradient is 0, as in PyTorch."""
    raise NotImplementedError("A1: relu is yours to write")


@accelerated
def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), computed from e^-|x|, which can't overflow."""
    raise NotImplementedError("A1: sigmoid is yours to write")


@accelerated
def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent of x, element by element."""
    x = as_tensor(x)
    y = xp_of(x.data).tanh(x.data)
    return record("tanh", y, (x, lambda g: g * (1 - y * y)))


# ---- reductions ----


def sum(x: Any, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
    """Sum of x over `dim` (an axis, several, or None for all); keepdim keeps these axes, with size 1."""
    raise NotImplementedError("A1: sum is yours to write")


def mean(x: Any, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
    """Mean of x over `dim` (an axis, several, or None for all); keepdim keeps these axes, with size 1."""
    raise NotImplementedError("A1: mean is yours to write")


def max(x: Any, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
    """Largest value of x over `dim`, with keepdim as for sum; values only, like torch.amax.

    Equal maxima share the gradient evenly. Raises ValueError for an axis of size 0.
    """
    raise NotImplementedError("A1: max is yours to write")


def min(x: Any, dim: Dims = None, keepdim: bool = False, **other: Any) -> Tensor:
    """Smallest value of x over `dim`, with keepdim as for sum; values only, like torch.amin.

    Equal minima share the gradient evenly. Raises ValueError for an axis of size 0.
    """
    refuse("min", other)
    x = as_tensor(x)
    return values_alone(neg(max(neg(x), _axes_with_elements("min", x, dim, keepdim) or None, keepdim)), dim)


# ---- shape ----


@accelerated
def reshape(x: Any, *shape: int | Sequence[int]) -> Tensor:
    """The values of x in another `shape`: reshape(x, 3, -1) or reshape(x, (3, -1)). One -1 is inferred."""
    x = as_tensor(x)
    new = _unpack(shape)
    try:
        y = x.data.reshape(new)
    except (TypeError, ValueError) as error:
        raise ValueError(f"reshape: {x.size} values of shape {x.shape} do not fit shape {new}") from error
    return record("reshape", y, (x, lambda g: g.reshape(x.shape)))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes of x from `start_dim` to `end_dim` as one. start_dim=1 keeps the batch: (N, C, H, W) -> (N, C*H*W)."""
    x = as_tensor(x)
    (start,), (end,) = axes("flatten", start_dim, x.ndim or 1), axes("flatten", end_dim, x.ndim or 1)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {x.shape}")
    return reshape(x, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def transpose(x: Any, dim0: int, dim1: int, *more: int) -> Tensor:
    """x with the axes `dim0` and `dim1` swapped."""
    if more:
        raise TypeError(f"transpose swaps two axes: permute{(dim0, dim1, *more)} reorders them all")
    x = as_tensor(x)
    (i,), (j,) = axes("transpose", dim0, x.ndim or 1), axes("transpose", dim1, x.ndim or 1)
    order = [{i: j, j: i}.get(d, d) for d in range(x.ndim)]
    return record("transpose", x.data.transpose(order), (x, lambda g: g.transpose(order)))


def permute(x: Any, *dims: int | Sequence[int]) -> Tensor:
    """x with its axes reordered: axis i of the result is axis dims[i] of x."""
    x = as_tensor(x)
    named = _unpack(dims)
    order = axes("permute", named, x.ndim) if named else ()
    if len(order) != x.ndim:
        raise ValueError(f"permute: dims {named} must name each axis of shape {x.shape} once")
    back = [order.index(d) for d in range(x.ndim)]
    return record("permute", x.data.transpose(order), (x, lambda g: g.transpose(back)))


def getitem(x: Any, index: Any) -> Tensor:
    """x[index]: integers, slices, None, integer or boolean arrays. An element taken twice gets both gradients.

    Raises IndexError for an index that is out of range or of another type.
    """
    raise NotImplementedError("A1: getitem is yours to write")


def add_at(x: Array, index: Any, g: Array) -> None:
    """x[index] += g, but an element that `index` names twice is added to twice; NumPy would do it once."""
    kernel = kernel_for(x, "add_at")
    if kernel is None or kernel(x, index, g) is NotImplemented:
        xp_of(x).add.at(x, index, g)


# ---- products ----


@same_bits
@accelerated
def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product of a and b: (..., n, k) @ (..., k, m) -> (..., n, m). A vector (k,) counts as a row on the left
    and as a column on the right; leading axes broadcast.
    """
    raise NotImplementedError("A1: matmul is yours to write")


# ---- helpers ----


def _axes_with_elements(op: str, x: Tensor, dim: Dims, keepdim: bool) -> tuple[int, ...]:
    """The axes that `dim` names, none of them of size 0."""
    dims = reduced(op, dim, x.ndim, keepdim)
    if any(x.shape[d] == 0 for d in dims):
        raise ValueError(f"{op}: x {x.shape} has no elements over dim {dim}, and so no {op}")
    return dims


def _spread(x: Tensor, dims: tuple[int, ...]) -> Any:
    """The vjp of a sum over `dims`: each summand gets the gradient of its sum."""
    raise NotImplementedError("A1: _spread is yours to write")


def _unpack(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from either f(2, 3) or f((2, 3))."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Iterable) else sizes


for _name, _method in vars(Operators).items():  # so that help(Tensor.sum) shows the docstring of ops.sum
    if _name in __all__ and not _method.__doc__:
        _method.__doc__ = globals()[_name].__doc__


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing("minidl.ops", name, known=__all__)


def __dir__() -> list[str]:
    return listed(__name__)
