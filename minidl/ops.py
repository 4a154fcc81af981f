"""The operations: each is one function in which the forward value and its derivatives stand side by side.

`record(name, value, (a, vjp_a), (b, vjp_b))` reads: this is the value, and a gradient g of the loss with respect
to it reaches `a` as vjp_a(g). Where an input was broadcast, backward() sums the gradient over the copies.
Arguments follow PyTorch: `dim` and `keepdim`, images as (N, C, H, W), weights as (out, in).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import Array, backend_of, xp_of
from minidl.conv import avg_pool2d, conv2d, max_pool2d
from minidl.tensor import Tensor, as_tensor, record

__all__ = [
    "add",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
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

Dims: TypeAlias = "int | Sequence[int] | None"

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


def relu(x: Any) -> Tensor:
    """max(x, 0). At 0 the gradient is 0, as in PyTorch."""
    x = as_tensor(x)
    y = xp_of(x.data).maximum(x.data, 0)
    return record("relu", y, (x, lambda g: g * (y > 0)))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), written with tanh, which can't overflow."""
    x = as_tensor(x)
    y = (xp_of(x.data).tanh(x.data / 2) + 1) / 2
    return record("sigmoid", y, (x, lambda g: g * y * (1 - y)))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    x = as_tensor(x)
    y = xp_of(x.data).tanh(x.data)
    return record("tanh", y, (x, lambda g: g * (1 - y * y)))


def softmax(x: Any, dim: int = -1) -> Tensor:
    """e^x / sum(e^x) along `dim`: positive numbers that sum to 1."""
    x = as_tensor(x)
    y = xp_of(x.data).exp(_log_softmax(x.data, dim))
    return record("softmax", y, (x, lambda g: y * (g - (g * y).sum(dim, keepdims=True))))


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """log(softmax(x)) along `dim`, without ever forming a softmax that could round to 0."""
    x = as_tensor(x)
    y = _log_softmax(x.data, dim)
    p = xp_of(y).exp(y)
    return record("log_softmax", y, (x, lambda g: g - p * g.sum(dim, keepdims=True)))


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


# ---- layers ----


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product: (..., n, k) @ (..., k, m) -> (..., n, m). A vector (k,) counts as a row on the left and as a
    column on the right; leading axes broadcast."""
    a, b = as_tensor(a), as_tensor(b)
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


def linear(x: Any, w: Any, b: Any = None) -> Tensor:
    """x @ w.T + b, a fully connected layer. x (N, in), w (out, in), b (out,) or None -> (N, out)."""
    x, w = as_tensor(x), as_tensor(w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"linear: x {x.shape} and w {w.shape} must be (N, in) and (out, in)")
    edges = [
        (x, lambda g: g @ w.data),  # (N, out) @ (out, in)
        (w, lambda g: g.T @ x.data),  # (out, N) @ (N, in)
    ]
    y = x.data @ w.data.T
    if b is not None:
        b = as_tensor(b)
        if b.shape != w.shape[:1]:
            raise ValueError(f"linear: b {b.shape} must be ({w.shape[0]},), one number for each row of w {w.shape}")
        y += b.data
        edges.append((b, lambda g: g.sum(0)))
    return record("linear", y, *edges)


def batch_norm(
    x: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015, Alg. 1): weight * (x - mean) / sqrt(var + eps) + bias, by channel.

    x is (N, C) or (N, C, H, W); weight, bias and the running statistics are (C,). In training the statistics are
    the batch's (with the biased variance), and the running ones move towards them by `momentum` (towards the
    unbiased variance, as in PyTorch); otherwise the running ones are used.
    """
    x = as_tensor(x)
    if x.ndim not in (2, 4):
        raise ValueError(f"batch_norm: x {x.shape} must be (N, C) or (N, C, H, W)")
    xp, channels = xp_of(x.data), x.shape[1]
    dims = (0,) if x.ndim == 2 else (0, 2, 3)  # all axes but the channels'
    column = (1, channels) + (1,) * (x.ndim - 2)  # a (C,) vector in the shape that broadcasts against x
    n = x.size // channels
    if training:
        if n < 2:
            raise ValueError(f"batch_norm: training needs more than one value per channel, x is {x.shape}")
        mu, var = x.data.mean(dims, keepdims=True), x.data.var(dims, keepdims=True)
        if running_mean is not None and running_var is not None:
            running_mean.data += momentum * (mu.reshape(-1) - running_mean.data)
            running_var.data += momentum * (var.reshape(-1) * (n / (n - 1)) - running_var.data)
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var")
    else:
        mu, var = running_mean.data.reshape(column), running_var.data.reshape(column)
    inv_std = 1 / xp.sqrt(var + eps)
    x_hat = (x.data - mu) * inv_std

    def vjp_x(g: Array) -> Array:
        dx_hat = g if weight is None else g * as_tensor(weight).data.reshape(column)
        if training:  # mean and variance depend on x too: take out what moves all values alike, and what scales them
            dx_hat = dx_hat - dx_hat.mean(dims, keepdims=True) - x_hat * (dx_hat * x_hat).mean(dims, keepdims=True)
        return dx_hat * inv_std

    y, edges = x_hat, [(x, vjp_x)]
    if weight is not None:
        weight = as_tensor(weight)
        y = y * weight.data.reshape(column)
        edges.append((weight, lambda g: (g * x_hat).sum(dims)))
    if bias is not None:
        bias = as_tensor(bias)
        y = y + bias.data.reshape(column)
        edges.append((bias, lambda g: g.sum(dims)))
    return record("batch_norm", y, *edges)


def dropout(x: Any, p: float, rng: np.random.Generator) -> Tensor:
    """Each value set to 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014).

    The mask is drawn by NumPy on the host, so that a seed gives the same one on every device.
    """
    x = as_tensor(x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), got {p}")
    keep = rng.random(x.shape, dtype=np.float32) >= p
    mask = backend_of(x.data).from_host((keep / (1 - p)).astype(x.dtype))
    return record("dropout", x.data * mask, (x, lambda g: g * mask))


# ---- losses ----


def cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Mean of -log softmax(logits)[label] over the batch, a scalar.

    logits (N, classes); labels (N,) integers in [0, classes): a NumPy array, a list, or an array on the device.
    Labels on the host are checked. Those on the device are not, which would have to wait for it: check them
    before they are sent there, as `data.batches` does.
    """
    logits = as_tensor(logits)
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits {logits.shape} must be (N, classes)")
    labels = _labels(logits, labels)
    xp = xp_of(logits.data)
    n = len(labels)
    rows = xp.arange(n)
    log_p = _log_softmax(logits.data, -1)

    def vjp(g: Array) -> Array:
        d = xp.exp(log_p)  # the softmax p ...
        d[rows, labels] -= 1  # ... minus the one-hot truth
        d *= g / n
        return d

    return record("cross_entropy", -log_p[rows, labels].mean(), (logits, vjp))


def mse_loss(prediction: Any, target: Any) -> Tensor:
    """Mean of (prediction - target)^2 over all elements, a scalar. The shapes must be equal."""
    prediction = as_tensor(prediction)
    target = as_tensor(target, like=prediction)
    if prediction.shape != target.shape:
        raise ValueError(f"mse_loss: prediction {prediction.shape} and target {target.shape} must have one shape")
    difference = sub(prediction, target)
    return mean(mul(difference, difference))


# ---- helpers ----


def _operands(op: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both operands as Tensors that broadcast together."""
    a = as_tensor(a, like=b if isinstance(b, Tensor) else None)
    b = as_tensor(b, like=a)
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


def _log_softmax(x: Array, dim: int) -> Array:
    shifted = x - x.max(dim, keepdims=True)  # the largest exponent is 0: nothing overflows
    xp = xp_of(x)
    return shifted - xp.log(xp.exp(shifted).sum(dim, keepdims=True))


def _labels(logits: Tensor, labels: Any) -> Array:
    """Checked integer labels on the device of the logits."""
    if isinstance(labels, (list, tuple)):
        labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, these have dtype {labels.dtype}")
    n, classes = logits.shape
    if labels.shape != (n,):
        raise ValueError(f"cross_entropy: logits {logits.shape} need labels of shape ({n},), got {labels.shape}")
    if not isinstance(labels, np.ndarray):
        return labels
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"cross_entropy: label {labels[i]} at position {i} is not in [0, {classes})")
    return backend_of(logits.data).from_host(labels)


def _unpack(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from either f(2, 3) or f((2, 3))."""
    return tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes


# ---- Tensor's operators ----

_OPERATORS: dict[str, Any] = {
    "__add__": add, "__radd__": add, "__mul__": mul, "__rmul__": mul, "__neg__": neg, "__sub__": sub,
    "__truediv__": div, "__pow__": pow, "__matmul__": matmul, "__getitem__": getitem,
    "__rsub__": lambda b, a: sub(a, b), "__rtruediv__": lambda b, a: div(a, b),
    "__rpow__": lambda b, a: pow(a, b), "__rmatmul__": lambda b, a: matmul(a, b),
    "sum": sum, "mean": mean, "max": max, "exp": exp, "log": log, "relu": relu, "sigmoid": sigmoid, "tanh": tanh,
    "softmax": softmax, "log_softmax": log_softmax, "reshape": reshape, "flatten": flatten, "permute": permute,
    "transpose": transpose, "T": property(lambda x: transpose(x, 0, 1)),
}  # fmt: skip
for _name, _function in _OPERATORS.items():
    setattr(Tensor, _name, _function)
