"""Small kernels around a training step on a GPU: batches, clipping, dot products, keeping the last good weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array, xp_of
from minidl.fast.gpu.launch import MANY, kernels_for, sum_rows


def take(images: Array, labels: Array, order: Array, dtype: Any) -> Any:
    """Images (n, 1, H, W) scaled to [0, 1] and labels (n,) int64 of the examples at `order` (n,)."""
    small = images.dtype == labels.dtype == np.uint8 and np.dtype(dtype) in (np.float32, np.float64)
    whole = images.flags.c_contiguous and labels.flags.c_contiguous and order.flags.c_contiguous
    if not (small and whole and images.ndim == 3 and order.dtype == np.int64):
        return NotImplemented
    xp, (_, height, width) = xp_of(images), images.shape
    x, y = xp.empty((len(order), 1, height, width), dtype), xp.empty(len(order), np.int64)
    grid = (len(order),), (min(512, -(-height * width // 32) * 32),)
    kernels_for(xp, np.dtype(dtype))("take", grid, x, y, images, labels, order, height * width)
    return x, y


def dots64(*pairs: tuple[Array, Array], out: Array | None = None) -> Any:
    """The dot products of two pairs of vectors, in float64: an array (2,) on their device, `out` if that fits."""
    (a, b), (c, d) = pairs
    if a.size > MANY or a.dtype not in (np.float32, np.float64):
        return NotImplemented
    xp = xp_of(a)
    if not isinstance(out, type(a)):
        out = xp.empty(2, np.float64)
    kernels = kernels_for(xp, a.dtype)
    return sum_rows("dots", kernels, lambda s: xp.empty(s, np.float64), a.size, 1, a, b, c, d, count=2, out=out)


def clip(g: Array, max_norm: float) -> Any:
    """g <- g min(1, max_norm / (|g| + 1e-6)), in place: see optim/rule.py."""
    square = dots64((g, g), (g, g))
    if square is NotImplemented:
        return NotImplemented
    kernels_for(xp_of(g), g.dtype)("clip", g.size, g, square, max_norm, g.size)
    return None


def keep_if(kept: Array, w: Array, good: Array, loss: Array) -> Any:
    """Keep the weights w while `good` is true, then make it false where the loss is not finite."""
    if w.size > MANY or w.dtype not in (np.float32, np.float64) or loss.dtype != w.dtype:
        return NotImplemented
    kernels = kernels_for(xp_of(w), w.dtype)
    kernels("keep_if", w.size, kept, w, good.view(np.uint8), w.size)
    kernels("judge", ((1,), (1,)), good.view(np.uint8), loss)
    return None
