"""The operations: each is one function in which the forward value and its derivatives stand side by side.

`record(name, value, (a, vjp_a), (b, vjp_b))` reads: this is the value, and a gradient g of the loss with respect
to it reaches `a` as vjp_a(g). Where an input was broadcast, backward() sums the gradient over the copies.
Arguments follow PyTorch: `dim` and `keepdim`. What layers and losses are made of is in ops_nn.py and ops_conv.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array, accelerated, xp_of
from minidl.ops_conv import avg_pool2d, conv2d, max_pool2d
from minidl.ops_nn import batch_norm, count_right, cross_entropy, dropout, linear, log_softmax, mse_loss, softmax
from minidl.tensor import Dims, Tensor, as_tensor, record, same_device

__all__ = [
    "add",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "count_right",
    "cross_entropy",
    "div",
    "dropout",
    "exp",
    "flatten",
    "getitem",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "max_pool2d",
    "mean",
    "mse_loss",
    "mul",
    "neg",
    "permute",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "sub",
    "sum",
    "tanh",
    "transpose",
]  # fmt: skip

# ---- arithmetic, element by element ----


def add(a: Any, b: Any) -> Tensor:
    """a + b. Shapes broadcast."""
    a, b = _operands("add", a, b)
    return record("add", a.data + b.data, (a, lambda g: g), (b, lambda g: g))


def sub(a: Any, b: Any) -> Tensor:
    """a - b. Shapes broadcast."""
    a, b = _operands("sub", a, b)
    return record("sub", a.data - b.data, (a, lambda g: g), (b, lambda g: -g))


def mul(a: Any, b: Any) -> Tensor:
    """a * b, element by element. Shapes broadcast."""
    a, b = _operands("mul", a, b)
    return record("mul", a.data * b.data, (a, lambda g: g * b.data), (b, lambda g: g * a.data))


def div(a: Any, b: Any) -> Tensor:
    """a / b. Shapes broadcast."""
    a, b = _operands("div", a, b)
    y = a.data / b.data
    return record("div", y, (a, lambda g: g / b.data), (b, lambda g: -g * y / b.data))


def neg(a: Any) -> Tensor:
    """-a."""
    a = as_tensor(a)
    return record("neg", -a.data, (a, lambda g: -g))


def pow(a: Any, b: Any) -> Tensor:
    """a ** b. Shapes broadcast. The gradient of b needs a > 0."""
    a, b = _operands("pow", a, b)
    xp, y = xp_of(a.data), a.data**b.data
    return record(
        "pow",
        y,
        (a, lambda g: g * b.data * a.data ** (b.data - 1)),
        (b, lambda g: g * y * xp.log(a.data)),
    )


def exp(x: Any) -> Tensor:
    """e ** x."""
    x = as_tensor(x)
    y = xp_of(x.data).exp(x.data)
    return record("exp", y, (x, lambda g: g * y))


def log(x: Any) -> Tensor:
    """Natural logarithm."""
    x = as_tensor(x)
    return record("log", xp_of(x.data).log(x.data), (x, lambda g: g / x.data))


# ---- activations ----


@accelerated
def relu(x: Any) -> Tensor:
    """max(x, 0). At 0 the gradient is 0, as in PyTorch."""
    x = as_tensor(x)
    y = xp_of(x.data).maximum(x.data, 0)
    return record("relu", y, (x, lambda g: g * (y > 0)))


@accelerated
def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), written with tanh, which can't overflow."""
    x = as_tensor(x)
    y = (xp_of(x.data).tanh(x.data / 2) + 1) / 2
    return record("sigmoid", y, (x, lambda g: g * y * (1 - y)))


@accelerated
def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    x = as_tensor(x)
    y = xp_of(x.data).tanh(x.data)
    return record("tanh", y, (x, lambda g: g * (1 - y * y)))


# ---- reductions ----


def sum(x: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim` (an axis, several, or None for all)."""
    x, dims = _reduction("sum", x, dim)
    spread = _spread(x, dims)
    return record("sum", x.data.sum(dims, keepdims=keepdim), (x, spread))


def mean(x: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Mean over `dim` (an axis, several, or None for all)."""
    x, dims = _reduction("mean", x, dim)
    spread = _spread(x, dims)
    y = x.data.mean(dims, keepdims=keepdim)
    n = x.size // y.size if y.size else 1  # how many values each mean is of
    return record("mean", y, (x, lambda g: spread(g / n)))


def max(x: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Largest value over `dim`; values only, like torch.amax. Equal maxima share the gradient evenly."""
    x, dims = _reduction("max", x, dim)
    spread = _spread(x, dims)
    y = x.data.max(dims, keepdims=True)

    def vjp(g: Array) -> Array:
        winners = x.data == y
        return spread(g) * winners / winners.sum(dims, keepdims=True)

    return record("max", y if keepdim else y.squeeze(dims), (x, vjp))


# ---- shape ----


@accelerated
def reshape(x: Any, *shape: int) -> Tensor:
    """The same values in another shape: reshape(x, 3, -1) or reshape(x, (3, -1)). One -1 is worked out."""
    x = as_tensor(x)
    new = _unpack(shape)
    try:
        y = x.data.reshape(new)
    except ValueError as error:
        raise ValueError(f"reshape: {x.size} values of shape {x.shape} do not fit shape {new}") from error
    return record("reshape", y, (x, lambda g: g.reshape(x.shape)))


def flatten(x: Any, start_dim: int = 0) -> Tensor:
    """All axes from `start_dim` on as one. start_dim=1 keeps the batch: (N, C, H, W) -> (N, C*H*W)."""
    x = as_tensor(x)
    return reshape(x, *x.shape[:start_dim], int(np.prod(x.shape[start_dim:])))


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    x = as_tensor(x)
    return record("transpose", x.data.swapaxes(dim0, dim1), (x, lambda g: g.swapaxes(dim0, dim1)))


def permute(x: Any, *dims: int) -> Tensor:
    """Axes in another order: axis i of the result is axis dims[i] of x."""
    x = as_tensor(x)
    order = _unpack(dims)
    back = tuple(int(i) for i in np.argsort(order))
    return record("permute", x.data.transpose(order), (x, lambda g: g.transpose(back)))


def getitem(x: Any, index: Any) -> Tensor:
    """x[index]: numbers, slices, None, integer or boolean arrays. An element taken twice gets both gradients."""
    x = as_tensor(x)

    def vjp(g: Array) -> Array:
        xp = xp_of(x.data)
        dx = xp.zeros_like(x.data)
        xp.add.at(dx, index, g)  # not dx[index] += g, which would count a repeated index once
        return dx

    return record("getitem", xp_of(x.data).asarray(x.data[index]), (x, vjp))


# ---- products ----


@accelerated
def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product: (..., n, k) @ (..., k, m) -> (..., n, m). A vector (k,) counts as a row on the left and as a
    column on the right; leading axes broadcast."""
    a, b = as_tensor(a), as_tensor(b)
    same_device("matmul", a, b)
    xp = xp_of(a.data)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: the inner sizes of {a.shape} @ {b.shape} differ")
    if b.ndim == 1:
        y = matmul(a, reshape(b, -1, 1))
        return reshape(y, *y.shape[:-1])
    if a.ndim == 1:
        y = matmul(reshape(a, 1, -1), b)
        return reshape(y, *y.shape[:-2], *y.shape[-1:])
    return record(
        "matmul",
        xp.matmul(a.data, b.data),
        (a, lambda g: xp.matmul(g, b.data.swapaxes(-1, -2))),  # (..., n, m) @ (..., m, k)
        (b, lambda g: xp.matmul(a.data.swapaxes(-1, -2), g)),  # (..., k, n) @ (..., n, m)
    )


# ---- helpers ----


def _operands(op: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both operands as Tensors that broadcast together."""
    a = as_tensor(a, like=b if isinstance(b, Tensor) else None)
    b = as_tensor(b, like=a)
    same_device(op, a, b)
    if a.shape != b.shape:
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError as error:
            raise ValueError(f"{op}: shapes {a.shape} and {b.shape} do not broadcast together") from error
    return a, b


def _reduction(op: str, x: Any, dim: Dims) -> tuple[Tensor, tuple[int, ...]]:
    """x as a Tensor, and the axes to reduce as a tuple of non-negative numbers."""
    x = as_tensor(x)
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    for d in dims:
        if not -x.ndim <= d < x.ndim:
            raise ValueError(f"{op}: dim {d} is out of range for shape {x.shape}")
    return x, tuple(d % x.ndim for d in dims)


def _spread(x: Tensor, dims: tuple[int, ...]) -> Any:
    """The vjp of a sum over `dims`: each summand gets the gradient of its sum."""
    xp, kept = xp_of(x.data), tuple(1 if i in dims else n for i, n in enumerate(x.shape))
    return lambda g: xp.broadcast_to(g.reshape(kept), x.shape)


def _unpack(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from either f(2, 3) or f((2, 3))."""
    return tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
