"""Dense layers, activations, dropout and the loss on a GPU. They compute what the reference in ops*.py computes.

For a small batch a GPU runs kernels faster than Python can launch them: what the reference writes as ten array
operations is one kernel here (kernels.cu), and the matrix products are cuBLAS's (products.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, one, xp_of
from minidl.fast.gpu.launch import BLOCK, MANY, kernels_for, sum_rows
from minidl.fast.gpu.products import product
from minidl.fast.gpu.slip import number
from minidl.fast.linear import channels_last, into, plain
from minidl.ops_nn import _labels
from minidl.rng import CounterRng
from minidl.tensor import Edge, Tensor, record

CLASSES = 512  # from this many on the reference form of cross_entropy has more parallelism than a thread per row


def once(f: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """f with its last result cached: the edges of one operation, called with the same gradient in turn, share it."""
    kept: list[Any] = [None, None]

    def shared(g: Array) -> Any:
        if kept[0] is not g:
            kept[:] = g, f(g)
        return kept[1]

    return shared


def contiguous(x: Array) -> Array:
    """x in C order: itself if it is C-contiguous, else a copy."""
    return x if x.flags.c_contiguous else xp_of(x).ascontiguousarray(x)


# ---- dense layers ----


def linear(x: Tensor, w: Any, b: Any = None, *, with_relu: bool = False) -> Any:
    """See ops.linear. x (N, in), w (out, in), b (out,) -> (N, out). with_relu: bias and ReLU are one pass, forward and
    backward."""
    if not plain(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return NotImplemented
    if (b is not None and b.shape != w.shape[:1]) or max(x.size, w.size, len(x.data) * len(w.data)) > MANY:
        return NotImplemented
    kernels, a, columns = kernels_for(xp_of(x.data), x.dtype), contiguous(x.data), len(w.data)
    y = product(a, w.data.T)
    if b is not None:
        kernels("add_bias", y.size, y, contiguous(b.data), columns, with_relu, y.size)
    elif with_relu:
        kernels("relu", y.size, y, y, y.size)
    back, bias = before_activation(y, b, with_relu)
    edges: list[Edge] = [
        (x, lambda g: product(back(g), w.data)),  # (N, out) @ (out, in)
        (w, into(w, lambda g, out: product(back(g).T, a, out))),  # (out, N) @ (N, in)
    ]
    if b is not None:
        edges.append((b, into(b, bias)))
    return record("linear_relu" if with_relu else "linear", y, *edges)


linear_relu = partial(linear, with_relu=True)


def before_activation(
    y: Array, b: Tensor | None, with_relu: bool
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], Any]]:
    """Two functions of the gradient after bias and ReLU (rows, columns): one returns that before them, of the same
    shape, the other writes the bias's to `out`."""
    xp, (rows, columns) = xp_of(y), y.shape
    kernels = kernels_for(xp, y.dtype)

    def sums(name: str, out: Array | None, *args: Array) -> Array:
        return sum_rows(name, kernels, lambda shape: xp.empty(shape, y.dtype), rows, columns, *args, out=out)

    if not with_relu:
        return contiguous, lambda g, out: sums("sum_rows", out, contiguous(g))

    @once
    def both(g: Array) -> tuple[Array, Array | None]:
        dz = xp.empty(y.shape, y.dtype)
        if b is not None:
            return dz, sums("relu_back_sums", None, dz, contiguous(g), y)
        kernels("relu_back", y.size, dz, contiguous(g), y, y.size)
        return dz, None

    return lambda g: both(g)[0], lambda g, out: xp.copyto(out, both(g)[1])


# ---- activations and dropout ----


def elementwise(name: str, kernels_of: tuple[str, str], x: Tensor, *more: float, arrays: int = 1) -> Any:
    """An elementwise operation, of any shape; images stored channels last stay so.

    kernels_of  the forward and the backward kernel
    more        numbers that both take
    arrays      how many the forward kernel writes: the output and, if two, what the backward kernel needs instead of it
    """
    if not plain(x) or not 0 < x.size <= MANY:
        return NotImplemented
    there, back = kernels_of
    made = [like(x.data) for _ in range(arrays)]
    y, needed = made[0], made[-1]
    kernels, n = kernels_for(xp_of(y), x.dtype), y.size
    kernels(there, n, *map(in_order, (*made, x.data)), *more, n)

    def vjp(g: Array) -> Array:
        dx = like(y)
        kernels(back, n, in_order(dx), in_order(as_last(g, y)), in_order(needed), *more, n)
        return dx

    return record(name, y, (x, vjp))


def activation(kernel: str, x: Tensor, *more: float) -> Any:
    """relu, tanh, sigmoid or leaky_relu, by the kernel of that name."""
    name = kernel.strip("_")  # tanh_, since C has a tanh of its own
    return elementwise(name, (kernel, f"{name}_back"), x, *more)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Any:
    """See ops.leaky_relu. No slope below 0: the output would not show where x is above 0."""
    known = isinstance(negative_slope, (int, float)) and negative_slope >= 0
    return activation("leaky_relu", x, negative_slope) if known else NotImplemented


def gelu(x: Tensor, approximate: str = "none") -> Any:
    """See ops.gelu. Its slope is computed together with the output."""
    form = {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate)
    return elementwise("gelu", (form, "multiply"), x, arrays=2) if form else NotImplemented


def dropout(x: Tensor, p: float, rng: Any = None) -> Any:
    """See ops.dropout: the mask is drawn on the device, in forward and again in backward, by a counter-based RNG."""
    if not plain(x) or not 0 < x.size <= MANY or not isinstance(rng, CounterRng) or not 0 <= p < 1:
        return NotImplemented
    kernels, n, threads = kernels_for(xp_of(x.data), x.dtype), x.size, -(-x.size // 8)
    at, step = number(rng.next_step)

    def masked(a: Array) -> Array:
        out = xp_of(a).empty(a.shape, a.dtype)
        kernels("dropout", threads, out, contiguous(a), *rng.key, at, step, p, 1 / (1 - p), n)
        return out

    return record("dropout", masked(x.data), (x, masked))


# ---- the loss ----


def cross_entropy(logits: Tensor, labels: Any) -> Any:
    """See ops.cross_entropy. The gradient, softmax - one-hot labels, is computed together with the loss."""
    if not plain(logits) or logits.ndim != 2 or not 0 < logits.shape[1] < CLASSES or not logits.shape[0]:
        return NotImplemented
    labels = contiguous(_labels(logits, labels).astype(np.int64, copy=False))
    xp, kernels = xp_of(logits.data), kernels_for(xp_of(logits.data), logits.dtype)
    loss, d = xp.empty((), logits.dtype), xp.empty(logits.shape, logits.dtype)
    unit = one(backend_of(logits.data), logits.dtype, ())
    kernels("cross_entropy", ((1,), (BLOCK,)), loss, d, contiguous(logits.data), labels, *logits.shape)

    def vjp(g: Array) -> Array:
        if g is unit:  # backward() was called on the loss itself
            return d
        dx = xp.empty(d.shape, d.dtype)
        kernels("times", d.size, dx, d, g, d.size)
        return dx

    return record("cross_entropy", loss, (logits, vjp))


def count_right(logits: Tensor, labels: Any) -> Any:
    """See ops.count_right."""
    if not plain(logits) or logits.ndim != 2 or not logits.size or isinstance(labels, np.ndarray):
        return NotImplemented
    xp = xp_of(logits.data)
    right = xp.empty((), np.int64)
    known = contiguous(labels.astype(np.int64, copy=False))
    arguments = (right, contiguous(logits.data), known, *logits.shape)
    kernels_for(xp, logits.dtype)("count_right", ((1,), (BLOCK,)), *arguments)
    return right


# ---- the memory layout of images ----


def like(x: Array) -> Array:
    """Fresh memory for an array like x; images (N, C, H, W) that are stored channels last stay so."""
    if x.ndim == 4 and not x.flags.c_contiguous:
        n, c, h, w = x.shape
        return xp_of(x).empty((n, h, w, c), x.dtype).transpose(0, 3, 1, 2)
    return xp_of(x).empty(x.shape, x.dtype)


def in_order(x: Array) -> Array:
    """The elements of x in memory order: a contiguous view where `like` allocated x."""
    return contiguous(channels_last(x) if x.ndim == 4 and not x.flags.c_contiguous else x)


def as_last(g: Array, y: Array) -> Array:
    """g in the memory layout of y."""
    if g.strides == y.strides:
        return g
    if y.ndim == 4 and not y.flags.c_contiguous:
        return contiguous(channels_last(g)).transpose(0, 3, 1, 2)
    return contiguous(g)
