"""The fast forms of the layers' operations on the CPU. They compute what the reference in ops*.py computes.

What makes them fast is little, and each has its place: results go into buffers that were used before (buffers.py),
weight gradients are written straight to where the optimizer reads them (tensor.Into), and large arrays are worked on
in parts, one for each core (fast_threads.py), each part small enough to stay in the cache (fast_conv.py).

A kernel has the name and the arguments of its reference. It answers NotImplemented to anything unusual (mixed or
half-precision dtypes, wrong shapes, arrays that are not Tensors), and the reference takes over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import CPU, Array
from minidl.fast_threads import split
from minidl.tensor import Edge, Into, Tensor, record

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LARGE = 1 << 18  # elements from which handing half of an element-wise pass to another thread pays


def plain(*tensors: Any) -> bool:
    """Whether all are CPU Tensors of one dtype, float32 or float64. None, a bias left out, passes."""
    dtype = tensors[0].data.dtype
    return dtype in FLOATS and all(
        t is None or (type(t) is Tensor and type(t.data) is np.ndarray and t.data.dtype == dtype) for t in tensors
    )


# ---- memory order: images are (N, C, H, W) by name, but may lie in memory as (N, H, W, C), "channels last" ----


def channels_last(x: Array) -> Array:
    """The (N, H, W, C) view of images (N, C, H, W)."""
    return x.transpose(0, 2, 3, 1)


def in_memory_order(x: Array) -> Array | None:
    """A view of x whose memory order is C order: x itself, or its channels_last view; None if neither is."""
    if x.flags.c_contiguous:
        return x
    if x.ndim == 4 and channels_last(x).flags.c_contiguous:
        return channels_last(x)
    return None


def empty_like(x: Array, dtype: Any = None) -> Array:
    """A buffer of the shape and memory order of x, and its dtype unless another is given."""
    if x.ndim == 4 and not x.flags.c_contiguous:
        return buffers.empty(channels_last(x).shape, dtype or x.dtype).transpose(0, 3, 1, 2)
    return buffers.empty(x.shape, dtype or x.dtype)


# ---- kernels ----


def linear(x: Tensor, w: Any, b: Any = None) -> Any:
    """See ops.linear. x (N, in), w (out, in), b (out,) -> (N, out)."""
    if not plain(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        return NotImplemented
    y = np.matmul(x.data, w.data.T, out=buffers.empty((len(x.data), len(w.data)), x.dtype))
    edges: list[Edge] = [
        (x, lambda g: np.matmul(g, w.data, out=buffers.empty(x.shape, x.dtype))),  # (N, out) @ (out, in)
        (w, Into(lambda g, out: np.matmul(g.T, x.data, out=out))),  # (out, N) @ (N, in)
    ]
    if b is not None:
        if b.shape != w.shape[:1]:
            return NotImplemented
        y += b.data
        edges.append((b, Into(lambda g, out: np.add.reduce(g, 0, out=out))))
    return record("linear", y, *edges)


def relu(x: Tensor) -> Any:
    """See ops.relu."""
    ordered = in_memory_order(x.data) if plain(x) and x.ndim > 1 else None
    if ordered is None or not x.size:
        return NotImplemented
    y, n = empty_like(x.data), len(ordered)
    rows, out = ordered.reshape(n, -1), in_memory_order(y).reshape(n, -1)  # type: ignore[union-attr]
    zeros = _zeros(rows.shape[1], x.dtype)  # two arrays take NumPy's vector loop, an array and a number do not
    split(lambda i, j: np.maximum(rows[i:j], zeros, out=out[i:j]), n, x.size > LARGE)

    def vjp(g: Array) -> Array:
        dx = empty_like(y)

        def part(i: int, j: int) -> None:
            positive = np.greater(y[i:j], 0, out=empty_like(y[i:j], np.dtype(np.bool_)))
            np.multiply(g[i:j], positive, out=dx[i:j])

        split(part, n, x.size > LARGE)
        return dx

    return record("relu", y, (x, vjp))


@lru_cache(maxsize=16)
def _zeros(n: int, dtype: Any) -> Array:
    zeros = np.zeros(n, dtype)
    zeros.flags.writeable = False
    return zeros


CPU.kernels.update(linear=linear, relu=relu)
