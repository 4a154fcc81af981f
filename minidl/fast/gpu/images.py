"""Pooling and batch normalization on a GPU. They compute what the reference in ops*.py computes.

Images are stored as (N, H, W, C) behind the usual shape, so that a batch's pixels are the rows of a matrix and the
channels its columns: operations per channel (a bias, batch norm's statistics) read memory row by row, and each row of a
window is contiguous.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, xp_of
from minidl.fast import fuse
from minidl.fast.gpu.dense import contiguous, once
from minidl.fast.gpu.launch import BLOCK, MANY, cut, kernels_for, sum_rows
from minidl.fast.linear import channels_last, plain
from minidl.grad_mode import is_recording
from minidl.ops_conv import Size, _pair
from minidl.tensor import Edge, Tensor, record

NORM_PARTS = 132  # few, because each block of batch norm's second kernel sums all parts again


class Sizes(NamedTuple):
    """SIZES of images.cu: images (., h, w, c); windows (kh, kw), strides (sh, sw), paddings (ph, pw), (oh, ow)."""

    c: int
    h: int
    w: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int


def sizes_of(shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any) -> Sizes | None:
    """The sizes of a convolution or pooling; None where a window does not fit, or there are too many elements."""
    (n, c, h, w), (kh, kw), (sh, sw), (ph, pw) = shape, kernel, stride, padding
    if min(kh, kw, sh, sw) < 1 or min(ph, pw) < 0 or kh > h + 2 * ph or kw > w + 2 * pw:
        return None
    oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    return None if n * c * max(oh * ow, h * w) > MANY else Sizes(c, h, w, oh, ow, kh, kw, sh, sw, ph, pw)


def grid(n: int, height: int, width: int, across: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One block for each row of pixels; its threads: channels, pixels."""
    channels = min(32, across)
    return (n * height,), (channels, max(1, min(width, 256 // channels)))


def last(x: Array) -> Array:
    """Images (N, C, H, W) as (N, H, W, C), contiguous."""
    y = channels_last(x)
    if y.flags.c_contiguous or not x.flags.c_contiguous:
        return contiguous(y)
    xp, (n, c, h, w) = xp_of(x), x.shape
    out = xp.empty((n, h, w, c), x.dtype)
    kernels_for(xp, x.dtype)("swap_axes", x.size, out, x, c, h * w, x.size)
    return out


def first(y: Array) -> Array:
    """The (N, C, H, W) view of images (N, H, W, C)."""
    return y.transpose(0, 3, 1, 2)


# ---- pooling ----


class MaxPool:
    """A max pooling of images (n, h, w, c), optionally fused with a bias before it and a ReLU."""

    def __init__(self, like: Array, n: int, sizes: Sizes) -> None:
        self.xp, self.dtype, self.n, self.sizes = xp_of(like), like.dtype, n, sizes
        self.kernels = kernels_for(self.xp, like.dtype)

    def forward(self, x: Array, bias: Array | None = None, with_relu: bool = False) -> Array:
        s = self.sizes
        y = self.xp.empty((self.n, s.oh, s.ow, s.c), self.dtype)
        self.winner = self.xp.empty(y.shape, np.uint16)
        self.kernels("max_pool", grid(self.n, s.oh, s.ow, s.c), y, self.winner, x, bias, with_relu, *s)
        return y

    def backward(self, g: Array) -> Array:
        s = self.sizes
        dx = self.xp.empty((self.n, s.h, s.w, s.c), self.dtype)
        self.kernels("max_pool_back", grid(self.n, s.h, s.w, s.c), dx, g, self.winner, *s)
        return dx

    def winners_sums(self, g: Array, out: Array) -> None:
        """g summed by channel where a window had a winner: the gradient of the bias before the ReLU, into `out`."""
        rows, columns = g.size // self.sizes.c, self.sizes.c
        empty = lambda shape: self.xp.empty(shape, self.dtype)  # noqa: E731
        sum_rows("winners_sums", self.kernels, empty, rows, columns, g, self.winner, out=out)


def max_pool2d(x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    sizes = pool_sizes(x.shape, kernel_size, stride, padding) if plain(x) and x.ndim == 4 and x.size else None
    if sizes is None:
        return NotImplemented
    pool = MaxPool(x.data, len(x.data), sizes)
    y = pool.forward(last(x.data))
    return record("max_pool2d", first(y), (x, lambda g: first(pool.backward(last(g)))))


def avg_pool2d(x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.avg_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    s = pool_sizes(x.shape, kernel_size, stride, padding) if plain(x) and x.ndim == 4 and x.size else None
    if s is None:
        return NotImplemented
    xp, n, kernels = xp_of(x.data), len(x.data), kernels_for(xp_of(x.data), x.dtype)
    y = xp.empty((n, s.oh, s.ow, s.c), x.dtype)
    kernels("avg_pool", grid(n, s.oh, s.ow, s.c), y, last(x.data), *s)

    def vjp(g: Array) -> Array:
        dx = xp.empty((n, s.h, s.w, s.c), x.dtype)
        kernels("avg_pool_back", grid(n, s.h, s.w, s.c), dx, last(g), *s)
        return first(dx)

    return record("avg_pool2d", first(y), (x, vjp))


def pool_sizes(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> Sizes | None:
    """The sizes of a pooling; None where it does not fit."""
    size = _pair(k)
    pad = _pair(padding)
    if 2 * pad[0] > size[0] or 2 * pad[1] > size[1] or size[0] * size[1] >= 65535:
        return None
    return sizes_of(shape, size, _pair(size if stride is None else stride), pad)


# ---- batch normalization ----


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    with_relu: bool = False,
) -> Any:
    """See ops.batch_norm: two kernels forward, two backward: the first sums by channel, the second does the rest.

    with_relu  fused with a ReLU after it
    """
    if not plain(x, running_mean, running_var, weight, bias) or x.ndim not in (2, 4) or not 0 < x.size <= MANY:
        return NotImplemented
    xp, columns = xp_of(x.data), x.shape[1]
    rows, kernels = x.size // columns, kernels_for(xp, x.dtype)
    vectors = [None if t is None else t.data for t in (running_mean, running_var, weight, bias)]
    if any(v is not None and (v.shape != (columns,) or not v.flags.c_contiguous) for v in vectors):
        return NotImplemented
    mean_now, var_now, w, b = vectors
    a = last(x.data) if x.ndim == 4 else contiguous(x.data)
    y = xp.empty(a.shape, x.dtype)
    if not training:
        if is_recording() or with_relu or mean_now is None or var_now is None:
            return NotImplemented  # its gradient is rarely needed
        kernels("norm_known", a.size, y, a, mean_now, var_now, w, b, eps, columns, a.size)
        return record("batch_norm", first(y) if x.ndim == 4 else y)
    if rows < 2:
        return NotImplemented
    tiles, parts, per_part = cut(rows, columns, blocks=NORM_PARTS)
    launch = (tiles, parts), (BLOCK,)
    many_tiles, many, per_many = cut(rows, columns, blocks=1056)
    mean, inv_std = xp.empty(columns, x.dtype), xp.empty(columns, x.dtype)

    def sums(name: str, *args: Any) -> Array:
        out = xp.empty((parts, 2, columns), np.float64)
        kernels(name, launch, out, *args, rows, columns, per_part)
        return out

    of_x = sums("norm_sums", a)
    kept = (mean_now, var_now) if mean_now is not None and var_now is not None else (None, None)
    whole = (many_tiles, many), (BLOCK,)
    numbers = (with_relu, parts, momentum, eps, rows, columns, per_many)
    kernels("normalize", whole, y, mean, inv_std, *kept, a, of_x, w, b, *numbers)

    @once
    def backward(g: Array) -> tuple[Array, Array, Array]:
        at = last(g) if x.ndim == 4 else contiguous(g)
        dx, dw, db = xp.empty(a.shape, x.dtype), xp.empty(columns, x.dtype), xp.empty(columns, x.dtype)
        of_g = sums("norm_back_sums", at, a, mean, inv_std, w, b, with_relu)
        kernels(
            "norm_back", whole, dx, dw, db, at, a, of_g, mean, inv_std, w, b, with_relu, parts, rows, columns, per_many
        )
        return first(dx) if x.ndim == 4 else dx, dw, db

    edges: list[Edge] = [(x, lambda g: backward(g)[0])]
    if weight is not None:
        edges.append((weight, lambda g: backward(g)[1]))
    if bias is not None:
        edges.append((bias, lambda g: backward(g)[2]))
    return record("batch_norm_relu" if with_relu else "batch_norm", first(y) if x.ndim == 4 else y, *edges)


batch_norm_relu = partial(fuse.batch_norm, norm=partial(batch_norm, with_relu=True))
