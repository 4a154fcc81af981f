"""Operations that the networks here do not need, but other programs do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from numbers import Integral
from typing import Any

import numpy as np

from minidl.backend import Array, accelerated, erf, xp_of
from minidl.operands import operands, reduced, tell_column, together
from minidl.refuse import refuse
from minidl.tensor import Dims, Edge, Tensor, alike, as_tensor, axes, record, total

# ---- element by element ----


def sqrt(x: Any) -> Tensor:
    """Square root of x, element by element. At 0 the gradient is infinite."""
    x = as_tensor(x)
    y = xp_of(x.data).sqrt(x.data)
    return record("sqrt", y, (x, lambda g: g / (2 * y)))


def abs(x: Any) -> Tensor:
    """|x|. At 0 the gradient is 0, as in PyTorch."""
    x = as_tensor(x)
    xp = xp_of(x.data)
    y = xp.abs(x.data)

    def vjp_x(g: Array) -> Array:
        d = xp.asarray(g * xp.sign(x.data))
        d[~(y > 0)] = 0  # 0 * inf is NaN; `where`, over all elements, takes longer
        return d

    return record("abs", y, (x, vjp_x, x))


def clamp(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to the range from `min` to `max`, numbers or None for no limit. Outside it the gradient is 0."""
    x = as_tensor(x)
    for name, limit in (("min", min), ("max", max)):
        if limit is not None and not isinstance(limit, (int, float, np.number)):
            raise TypeError(f"clamp: {name} must be a number; ops.where takes arrays")
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given")
    xp, number = xp_of(x.data), x.dtype.type
    low, high = number(-math.inf if min is None else min), number(math.inf if max is None else max)
    y = xp.minimum(xp.maximum(x.data, low), high)
    return record("clamp", y, (x, lambda g: xp.where((x.data >= low) & (x.data <= high), g, 0), x))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition`, a boolean array, is True, else b. Shapes broadcast."""
    a, b = operands("where", a, b)
    xp = xp_of(a.data)
    chosen = xp.array(condition.data if isinstance(condition, Tensor) else condition)  # a copy: the original may change
    if chosen.dtype != bool:
        raise TypeError(f"where: the condition must be booleans, such as x > 0; it has dtype {chosen.dtype}")
    for x in (a, b):
        tell_column("where", x, chosen)
    together("where (condition, a, b)", chosen.shape, a.shape, b.shape)
    return record(
        "where",
        xp.where(chosen, a.data, b.data),
        (a, lambda g: xp.where(chosen, g, 0)),
        (b, lambda g: xp.where(chosen, 0, g)),
    )


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, element by element; NaN if either is. At a tie each gets half the gradient, as in PyTorch.
    Shapes broadcast."""
    return _chosen("maximum", a, b, lambda x, y: x < y)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, element by element; NaN and ties as for maximum. Shapes broadcast."""
    return _chosen("minimum", a, b, lambda x, y: x > y)


def _chosen(op: str, a: Any, b: Any, loses: Callable[[Array, Array], Array]) -> Tensor:
    a, b = operands(op, a, b)
    xp = xp_of(a.data)

    def share(g: Array, x: Array, other: Array) -> Array:
        return xp.where(x == other, g / 2, xp.where(loses(x, other), 0, g))

    y = getattr(xp, op)(a.data, b.data)
    return record(op, y, (a, lambda g: share(g, a.data, b.data), a, b), (b, lambda g: share(g, b.data, a.data), a, b))


# ---- activations ----


@accelerated
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x (Maas et al. 2013). At 0 the gradient is negative_slope."""
    x = as_tensor(x)
    xp, slope = xp_of(x.data), x.dtype.type(negative_slope)
    up = x.data > 0
    y = xp.where(up, x.data, slope * x.data)
    return record("leaky_relu", y, (x, lambda g: xp.where(up, g, slope * g)))


@accelerated
def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x Phi(x), with Phi the standard normal CDF (Hendrycks & Gimpel 2016).

    approximate  "none": by erf, SciPy's if it is installed, else Python's own, which is slow;
                 "tanh": Phi approximated by (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2
    """
    check_approximate(approximate)
    x = as_tensor(x)
    xp, a = xp_of(x.data), x.data
    if approximate == "none":
        phi = (1 + erf(a * a.dtype.type(math.sqrt(0.5)))) * a.dtype.type(0.5)
        slope = xp.exp(-(a * a) * a.dtype.type(0.5)) * a.dtype.type(1 / math.sqrt(2 * math.pi))
    else:
        c, k = a.dtype.type(math.sqrt(2 / math.pi)), a.dtype.type(0.044715)
        t = xp.tanh(c * (a + k * a * a * a))
        phi = (1 + t) * a.dtype.type(0.5)
        slope = a.dtype.type(0.5) * (1 - t * t) * c * (1 + 3 * k * a * a)
    return record("gelu", a * phi, (x, lambda g: g * (phi + a * slope), x))


def check_approximate(word: str) -> None:
    """Raise ValueError for a name that gelu does not know."""
    if word not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {word!r}")


# ---- reductions ----


def var(x: Any, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False, **other: Any) -> Tensor:
    """Variance of x over `dim` (an axis, several, or None for all), with keepdim as for sum.

    correction  the sum of squared deviations is divided by n - correction; 0 gives the biased variance
    """
    refuse("var", other)
    x = as_tensor(x)
    dims = reduced("var", dim, x.ndim, keepdim)
    n = math.prod(x.shape[d] for d in dims)
    m = max(n - (1 if correction is None else correction), 0)
    distance = x.data - total(x.data, dims, True, n)
    kept = tuple(1 if d in dims else size for d, size in enumerate(x.shape))
    y = total(distance * distance, dims, keepdim, m)
    return record("var", y, (x, lambda g: g.reshape(kept) * distance * (2 / m if m else math.nan)))


def std(x: Any, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False, **other: Any) -> Tensor:
    """Standard deviation of x, the square root of var, with the same arguments: dim, correction, keepdim.

    Where it is 0 the gradient is 0, as in PyTorch.
    """
    refuse("std", other)
    squared = var(x, dim, correction=correction, keepdim=keepdim)
    xp = xp_of(squared.data)
    y = xp.sqrt(squared.data)
    return record("std", y, (squared, lambda g: g / xp.where(y == 0, math.inf, 2 * y)))


def norm(x: Any, p: Any = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Euclidean norm of x over `dim`: sqrt of the sum of squares. Where it is 0 the gradient is 0, as in PyTorch.

    p  2, or "fro", the same; no other
    """
    if p not in (2, "fro"):
        raise ValueError(f"norm: p must be 2, got {p!r}; an axis is dim=..., and ops.abs(x).sum(dim) is the 1-norm")
    x = as_tensor(x)
    dims = reduced("norm", dim, x.ndim, keepdim)
    kept = tuple(1 if d in dims else size for d, size in enumerate(x.shape))
    xp = xp_of(x.data)
    y = xp.sqrt(total(x.data * x.data, dims, keepdim))
    return record("norm", y, (x, lambda g: (g / xp.where(y == 0, math.inf, y)).reshape(kept) * x.data, x))


class Extremes(Tensor):
    """The result of max(dim) or min(dim): using it as PyTorch's pair (values, indices) raises TypeError."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Tensor]:
        raise TypeError(NO_PAIR)

    def __getitem__(self, index: Any) -> Tensor:
        if type(index) is int and index in (0, 1):
            raise TypeError(NO_PAIR)
        return super().__getitem__(index)


Extremes.__name__ = "Tensor"  # its name in messages
NO_PAIR = (
    "max(dim) and min(dim) give only the values, not PyTorch's pair (values, indices): x.argmax(dim) gives the "
    "indices; a single value is .numpy()[i]"
)


def values_alone(t: Tensor, dim: Dims) -> Tensor:
    """t, marked as such a result if `dim` is one axis: for several, PyTorch gives no pair either."""
    if isinstance(dim, Integral):
        t.__class__ = Extremes
    return t


def argmax(x: Any, dim: int | None = None, keepdim: bool = False, **other: Any) -> Array:
    """Index of the largest value of x, the first at a tie: int64, along `dim`, or (None) into the flattened x.

    keepdim keeps the axis, with size 1. The result is an array, since it has no gradient.
    """
    refuse("argmax", other)
    x = as_tensor(x)
    found = reduced("argmax", dim, x.ndim, keepdim)
    if any(x.shape[d] == 0 for d in found):
        raise ValueError(f"argmax: x {x.shape} has no elements over dim {dim}, and so no largest")
    if dim is None:
        return xp_of(x.data).asarray(x.data.argmax(keepdims=keepdim))
    return xp_of(x.data).asarray(x.data.argmax(*found, keepdims=keepdim))


# ---- shape ----


def squeeze(x: Any, dim: Dims = None) -> Tensor:
    """x without its axes of size 1: all of them, or those in `dim`."""
    x = as_tensor(x)
    gone = {d for d in axes("squeeze", dim, x.ndim) if x.shape[d] == 1}
    y = x.data.reshape([n for d, n in enumerate(x.shape) if d not in gone])
    return record("squeeze", y, (x, lambda g: g.reshape(x.shape)))


def unsqueeze(x: Any, dim: int) -> Tensor:
    """x with a new axis of size 1 at `dim`."""
    x = as_tensor(x)
    (at,) = axes("unsqueeze", dim, x.ndim + 1)
    y = x.data.reshape(*x.shape[:at], 1, *x.shape[at:])
    return record("unsqueeze", y, (x, lambda g: g.reshape(x.shape)))


def cat(tensors: Sequence[Any], dim: int = 0, **other: Any) -> Tensor:
    """The tensors joined along the axis `dim`; their other sizes must be equal.

    tensors  a list, at least one
    """
    refuse("cat", other)
    parts = _several("cat", tensors)
    if any(p.ndim == 0 for p in parts):
        raise ValueError("cat: a scalar has no axis to join along: ops.stack makes a vector of scalars")
    (at,) = axes("cat", dim, parts[0].ndim)
    rest = {(*p.shape[:at], *p.shape[at + 1 :]) for p in parts}
    if len({p.ndim for p in parts}) > 1 or len(rest) > 1:
        raise ValueError(f"cat: shapes {[p.shape for p in parts]} differ in more than dim {dim}")
    xp = xp_of(parts[0].data)
    ends = list(accumulate(p.shape[at] for p in parts))  # along dim

    def stretch(i: int) -> Edge:
        place = (slice(None),) * at + (slice(ends[i] - parts[i].shape[at], ends[i]),)
        return parts[i], lambda g: g[place]

    return record("cat", xp.concatenate([p.data for p in parts], at), *map(stretch, range(len(parts))))


def stack(tensors: Sequence[Any], dim: int = 0, **other: Any) -> Tensor:
    """Tensors of the same shape stacked along a new axis at `dim`: n of shape (a, b) give (n, a, b) for dim=0.

    tensors  a list, at least one
    """
    refuse("stack", other)
    parts = _several("stack", tensors)
    if len({p.shape for p in parts}) > 1:
        raise ValueError(f"stack: shapes {[p.shape for p in parts]} must be the same")
    (at,) = axes("stack", dim, parts[0].ndim + 1)

    def layer(i: int) -> Edge:
        index = (*(slice(None),) * at, i)
        return parts[i], lambda g: g[index]

    return record("stack", xp_of(parts[0].data).stack([p.data for p in parts], at), *map(layer, range(len(parts))))


def _several(op: str, tensors: Sequence[Any]) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence):
        raise TypeError(f"{op}: give a list of Tensors, as in {op}([a, b])")
    if not tensors:
        raise ValueError(f"{op}: the list of Tensors is empty")
    first = next((t for t in tensors if isinstance(t, Tensor)), None)
    parts = [as_tensor(t, like=first) for t in tensors]
    alike(op, *parts, dtype=False)
    return parts
