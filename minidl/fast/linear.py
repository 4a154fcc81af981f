"""Fast kernels of the layers' operations on the CPU. They compute what the reference in ops*.py computes.

Three things make them fast: results go into memory that was used before (malloc.py), weight gradients are written
directly to where the optimizer reads them (`into`), and large arrays are split into parts that threads share
(threads.py), each small enough to stay in the cache (conv.py).

A kernel has the name and the arguments of its reference. It returns NotImplemented for anything unusual (mixed or
half-precision dtypes, wrong shapes, arrays that are not Tensors), and the reference takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

from minidl.backend import CPU, Array, backend_of
from minidl.fast.threads import parts_for, split
from minidl.tensor import ALONE, FLOATS, Reading, Tensor, Vjp, record

BOOL = np.dtype(np.bool_)
MANY = 512  # rows up to which a sum stays in the array's own precision
WORTH = 1 << 24  # multiplications in a part, some 200 microseconds: its matrices move to another core's cache and back


def plain(*tensors: Any) -> bool:
    """Whether all are Tensors of one dtype, float32 or float64, on one device. None (no bias) passes."""
    first = tensors[0].data
    kind, dtype = type(first), first.dtype
    for t in tensors:  # a plain loop: this runs for every operation
        if t is not None and (type(t) is not Tensor or type(t.data) is not kind or t.data.dtype != dtype):
            return False
    return dtype in FLOATS


def into(w: Tensor, f: Callable[[Array, Array], Any]) -> Vjp:
    """The vjp of a weight w, where f(g, out) writes the gradient to `out`."""

    def vjp(g: Array) -> Array:
        out = place(w)
        f(g, out)
        return out

    return vjp


def place(w: Tensor) -> Array:
    """The memory for a weight's gradient: its place in the optimizer's vector.

    If that is taken, as by the other use of a weight that is used twice, it is fresh memory. The place is released when
    backward() reaches w (Home.fill).
    """
    home = w.home if w.grad is None else None
    if home is not None and home.free and home.grad.shape == w.shape and home.grad.dtype == w.dtype:
        home.free = False
        if getrefcount(home.grad) > ALONE or getrefcount(home.owner.memory) > home.owner.views:  # see Home.fill
            home.owner.renew()
        return home.grad
    return backend_of(w.data).empty(w.shape, w.dtype)


def channels_last(x: Array) -> Array:
    """The (N, H, W, C) view of images (N, C, H, W): the memory layout that the kernels use."""
    return x.transpose(0, 2, 3, 1)


# ---- kernels ----


def linear(x: Tensor, w: Any, b: Any = None) -> Any:
    """See ops.linear. x (N, in), w (out, in), b (out,) -> (N, out)."""
    if not plain(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        return NotImplemented
    y = product(x.data, w.data.T, CPU.empty((len(x.data), len(w.data)), x.dtype))
    edges: list[Reading] = [
        (x, lambda g: product(g, w.data, CPU.empty(x.shape, x.dtype)), w),  # (N, out) @ (out, in)
        (w, into(w, lambda g, out: product(g.T, x.data, out)), x),  # (out, N) @ (N, in)
    ]
    if b is not None:
        if b.shape != w.shape[:1]:
            return NotImplemented
        y += b.data
        edges.append((b, into(b, sum_rows)))
    return record("linear", y, *edges)


def matmul(a: Tensor, b: Any) -> Any:
    """See ops.matmul. Two matrices, a (n, k) and b (k, m) -> (n, m)."""
    if not plain(a, b) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return NotImplemented
    y = product(a.data, b.data, CPU.empty((len(a.data), b.shape[1]), a.dtype))
    return record(
        "matmul",
        y,
        (a, lambda g: product(g, b.data.T, CPU.empty(a.shape, a.dtype)), b),  # (n, m) @ (m, k)
        (b, lambda g: product(a.data.T, g, CPU.empty(b.shape, b.dtype)), a),  # (k, n) @ (n, m)
    )


def product(a: Array, b: Array, out: Array) -> Array:
    """a @ b, written to out, in parts that threads share (threads.py). a (n, k), b (k, m), out (n, m)."""
    work = a.size * b.shape[1]
    parts = max(parts_for(work, WORTH), 2 if work >= WORTH else 1)  # halves pay off before quarters do: less is packed
    if parts == 1:
        return np.matmul(a, b, out=out)
    if len(a) > 2 * b.shape[1]:  # every part needs all of the other matrix, and packing a costs BLAS less
        _by_rows(a, b, out, parts)
    else:
        _by_rows(b.T, a.T, out.T, parts)  # the same product, split by columns
    return out


def _by_rows(a: Array, b: Array, out: Array, parts: int) -> None:
    """The parts of one thread are one call: a stack (parts, n/parts, k) @ b; NumPy calls BLAS for each matrix in it."""
    n = -(-len(a) // parts)  # rows of a part
    whole = len(a) // n  # full parts; the remainder is one more
    stack, outs = a[: whole * n].reshape(whole, n, -1), out[: whole * n].reshape(whole, n, -1)  # views

    def work(start: int, stop: int) -> None:
        np.matmul(stack[start:stop], b, out=outs[start:stop])
        if stop > whole:
            np.matmul(a[whole * n :], b, out=out[whole * n :])

    split(work, -(-len(a) // n))


def relu(x: Tensor) -> Any:
    """See ops.relu. Any shape."""
    if not plain(x):
        return NotImplemented
    y = np.maximum(x.data, 0, out=_empty_like(x.data, x.dtype))

    def vjp(g: Array) -> Array:
        passes = np.less_equal(y, 0, out=_empty_like(y, BOOL))
        return chosen(g, np.logical_not(passes, out=passes), _empty_like(y, g.dtype))

    return record("relu", y, (x, vjp))


def sum_rows(g: Array, out: Array) -> None:
    """The sum of the rows of g (N, out), in double precision where there are many: float32 would lose small terms."""
    if len(g) > MANY:
        np.copyto(out, np.add.reduceat(g, range(0, len(g), MANY), 0).sum(0, np.float64), "same_kind")
    else:
        np.add.reduce(g, 0, out=out)


def chosen(g: Array, mask: Array, out: Array) -> Array:
    """g where the mask is true, else 0. Multiplies the bits of g as integers: 0 times infinity would be NaN."""
    bits = f"u{g.itemsize}"
    np.multiply(g.view(bits), mask, out=out.view(bits))
    return out


def _empty_like(a: Array, dtype: Any) -> Array:
    """An array with the shape and memory layout of a, so NumPy traverses both contiguously."""
    if a.ndim != 4 or a.flags.c_contiguous:
        return CPU.empty(a.shape, dtype)
    return CPU.empty(channels_last(a).shape, dtype).transpose(0, 3, 1, 2)


CPU.kernels.update(linear=linear, matmul=matmul, relu=relu)
