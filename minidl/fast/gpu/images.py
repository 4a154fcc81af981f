"""Convolution, pooling and batch normalization on a GPU. They compute what the reference in ops*.py computes.

Images lie in memory as (N, H, W, C) behind the usual shape, so that a batch's pixels are the rows of a matrix and the
channels its columns: what is done to each channel (a bias, batch norm's statistics) goes along the rows, and a window's
rows are pieces of memory in one run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, xp_of
from minidl.fast.linear import into, plain
from minidl.fast.gpu.dense import before_activation, contiguous, once
from minidl.fast.gpu.launch import BLOCK, MANY, Kernels, cut, kernels_for, sum_rows
from minidl.fast.gpu.products import product
from minidl.grad_mode import is_recording
from minidl.ops_conv import Size, _pair
from minidl.tensor import Edge, Tensor, record

NORM_PARTS = 132  # each block of batch norm's second kernel adds up all parts once more, so there are few
FEW = 96  # filters up to which a convolution needs no matrix of windows
FEW_PIXELS = 4096  # pixels below which such a kernel has too few blocks at work, unless its windows are small
BLOCKS = 1056  # blocks among which a convolution's weight gradient is shared out: eight for each of 132 multiprocessors


class Sizes(NamedTuple):
    """SIZES of kernels.cu: images (., h, w, c), windows kh x kw at strides sh, sw and paddings ph, pw, (oh, ow) of them."""

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
    """The numbers of a convolution or pooling; None where a window does not fit, or there are too many elements."""
    (n, c, h, w), (kh, kw), (sh, sw), (ph, pw) = shape, kernel, stride, padding
    if min(kh, kw, sh, sw) < 1 or min(ph, pw) < 0 or kh > h + 2 * ph or kw > w + 2 * pw:
        return None
    oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    return None if n * c * max(oh * ow, h * w) > MANY else Sizes(c, h, w, oh, ow, kh, kw, sh, sw, ph, pw)


def grid(n: int, height: int, width: int, across: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """A block for each row of pixels; its threads: channels, pixels."""
    channels = min(32, across)
    return (n * height,), (channels, max(1, min(width, 256 // channels)))


def last(x: Array) -> Array:
    """Images (N, C, H, W) as (N, H, W, C) in one piece of memory."""
    y = x.transpose(0, 2, 3, 1)
    if y.flags.c_contiguous or not x.flags.c_contiguous:
        return contiguous(y)
    xp, (n, c, h, w) = xp_of(x), x.shape
    out = xp.empty((n, h, w, c), x.dtype)
    kernels_for(xp, x.dtype)("swap_axes", x.size, out, x, c, h * w, x.size)
    return out


def first(y: Array) -> Array:
    """The (N, C, H, W) view of images (N, H, W, C)."""
    return y.transpose(0, 3, 1, 2)


# ---- convolution ----


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    return _conv2d(x, w, b, stride, padding, with_relu=False)


def conv2d_relu(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """relu(conv2d(...)): bias and ReLU in one pass, there and back."""
    return _conv2d(x, w, b, stride, padding, with_relu=True)


def _conv2d(x: Tensor, w: Any, b: Any, stride: Size, padding: Size, with_relu: bool) -> Any:
    sizes = _conv_sizes(x, w, b, stride, padding)
    if sizes is None:
        return NotImplemented
    convolution = Convolution(x, w, sizes)
    y = convolution.forward(b, with_relu)  # (N*OH*OW, out)
    rows = once(_rows)
    back, bias = before_activation(y, b, with_relu)
    edges = convolution.edges(lambda g: back(rows(g)))
    if b is not None:
        edges.append((b, into(b, lambda g, out: bias(rows(g), out))))
    return record("conv2d_relu" if with_relu else "conv2d", convolution.images(y), *edges)


def conv2d_relu_max_pool2d(
    x: Tensor, w: Any, b: Any, stride: Size, padding: Size, k: Size, k_stride: Size, k_padding: Size
) -> Any:
    """The three in a row: bias, ReLU and pooling are one pass, and so is their way back."""
    sizes = _conv_sizes(x, w, b, stride, padding)
    if sizes is None:
        return NotImplemented
    inner = (len(x.data), len(w.data), sizes.oh, sizes.ow)
    pooling = _pool_sizes(inner, k, k_stride, k_padding)
    if pooling is None:
        return NotImplemented
    convolution = Convolution(x, w, sizes)
    pool = MaxPool(x.data, inner[0], pooling)
    y = pool.forward(convolution.forward(None, with_relu=False), None if b is None else b.data, with_relu=True)
    in_line = once(last)
    edges = convolution.edges(once(lambda g: pool.backward(in_line(g)).reshape(-1, inner[1])))
    if b is not None:
        edges.append((b, into(b, lambda g, out: pool.winners_sums(in_line(g), out))))
    return record("conv2d_relu_max_pool2d", first(y), *edges)


def _conv_sizes(x: Tensor, w: Any, b: Any, stride: Size, padding: Size) -> Sizes | None:
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return None
    if b is not None and b.shape != w.shape[:1]:
        return None
    sizes = sizes_of(x.shape, w.shape[2:], _pair(stride), _pair(padding))
    pixels = 0 if sizes is None else len(x.data) * sizes.oh * sizes.ow
    return None if pixels * len(w.data) > MANY else sizes


class Convolution:
    """The products of one convolution: its windows (N*OH*OW, kh*kw*C) times its filters (kh*kw*C, out).

    There are three ways. Windows of one pixel are the image's rows themselves. For up to FEW filters over many pixels,
    kernels fetch the windows from the image where they need them (`direct`, see CONVOLVE in kernels.cu). For more
    filters cuBLAS is so much better at products that it pays to lay the windows out in memory; and for few pixels,
    since it can share one sum out among many blocks.
    """

    def __init__(self, x: Tensor, w: Tensor, sizes: Sizes) -> None:
        self.x, self.w, self.sizes = x, w, sizes
        self.xp, self.n, self.filters = xp_of(x.data), len(x.data), len(w.data)
        self.kernels: Kernels = kernels_for(self.xp, x.dtype)
        s = sizes
        self.across, self.taps = w.data[0].size, s.kh * s.kw
        self.pixels = last(x.data)  # (N, H, W, C)
        self.one_pixel = (s.kh, s.kw, s.sh, s.sw, s.ph, s.pw) == (1, 1, 1, 1, 0, 0)
        self.rows: Array | None = None
        self.direct = self._is_direct(self.n * s.oh * s.ow, self.across, self.filters)

    def _is_direct(self, pixels: int, across: int, columns: int) -> bool:
        """Whether a product (pixels, across) @ (across, columns) fetches its windows itself."""
        return not self.one_pixel and columns <= FEW and (pixels >= FEW_PIXELS or across <= 64)

    def empty(self, *shape: int) -> Array:
        return self.xp.empty(shape, self.x.dtype)

    def forward(self, b: Tensor | None, with_relu: bool) -> Array:
        """The result as a matrix (N*OH*OW, out)."""
        y = self.empty(self.n * self.sizes.oh * self.sizes.ow, self.filters)
        bias = None if b is None else b.data
        if self.direct:
            self._convolve(y, self.pixels, bias, with_relu, self.sizes, backwards=False)
            return y
        product(self._windows(), self._filters().T, y)
        if bias is not None:
            self.kernels("add_bias", y.size, y, bias, self.filters, with_relu, y.size)
        elif with_relu:
            self.kernels("relu", y.size, y, y, y.size)
        return y

    def edges(self, rows_of: Any) -> list[Edge]:
        """How the gradient of the result reaches x and w; rows_of makes of it a matrix (N*OH*OW, out)."""
        return [
            (self.x, lambda g: self._back_to_pixels(rows_of(g))),
            (self.w, into(self.w, lambda g, out: self._back_to_filters(rows_of(g), out))),
        ]

    def images(self, y: Array) -> Array:
        return first(y.reshape(self.n, self.sizes.oh, self.sizes.ow, self.filters))

    def _convolve(
        self, out: Array, x: Array, bias: Array | None, with_relu: bool, sizes: Sizes, backwards: bool
    ) -> None:
        """out (pixels, columns) = windows of x times the filters; see lay_filters in kernels.cu for `backwards`."""
        pixels, columns = out.shape
        tile = 32 if 0 < columns % 64 <= 32 else 64
        rows = 64 if pixels < 256 * BLOCKS // 8 else 256 if tile == 32 else 128
        padded = -(-columns // tile) * tile
        filters = self.empty(self.taps * sizes.c, padded)
        arguments = (self.filters, self.sizes.c, self.taps, backwards, padded, filters.size)
        self.kernels("lay_filters", filters.size, filters, self.w.data, *arguments)
        launch = (-(-pixels // rows), padded // tile), (rows,)
        self.kernels(f"convolve_{rows}_{tile}", launch, out, x, filters, bias, with_relu, columns, padded, pixels, *sizes)

    def _back_to_pixels(self, g: Array) -> Array:
        s, dx = self.sizes, self.empty(*self.pixels.shape)
        if self.one_pixel:
            product(g, self._filters(), dx.reshape(-1, s.c))
        elif s.sh == s.sw == 1 and self._is_direct(self.n * s.h * s.w, self.filters * self.taps, s.c):
            back = Sizes(self.filters, s.oh, s.ow, s.h, s.w, s.kh, s.kw, 1, 1, s.kh - 1 - s.ph, s.kw - 1 - s.pw)
            self._convolve(dx.reshape(-1, s.c), g, None, False, back, backwards=True)
        else:
            self.kernels("pixels", grid(self.n, s.h, s.w, s.c), dx, product(g, self._filters()), *s)
        return first(dx)

    def _back_to_filters(self, g: Array, out: Array) -> None:
        s = self.sizes
        if not self.direct:
            dw = product(g.T, self._windows(), out.reshape(self.filters, self.across) if self._in_order() else None)
            if not self._in_order():
                self.kernels("swap_axes", out.size, out, dw, self.taps, s.c, out.size)
            return
        tall = 32 if self.across <= 32 and self.filters <= 32 else 64
        wide = 32 if 0 < self.filters % 64 <= 32 else 64
        tiles, pixels = -(-self.across // tall) * -(-self.filters // wide), len(g)
        per_part = max(64, -(-pixels * tiles // BLOCKS))
        parts = self.empty(-(-pixels // per_part), out.size)
        launch = (len(parts), tiles), (tall * wide // 32,)
        arguments = (parts, g, self.pixels, self.filters, pixels, per_part, *s)
        self.kernels(f"convolve_back_{tall}_{wide}", launch, *arguments)
        whole = sum_rows("sum_rows", self.kernels, lambda shape: self.xp.empty(shape, parts.dtype), *parts.shape, parts)
        self.kernels("as_weights", out.size, out, whole, self.filters, s.c, self.taps, out.size)

    def _windows(self) -> Array:
        """The windows as a matrix (N*OH*OW, kh*kw*C)."""
        if self.one_pixel:
            return self.pixels.reshape(-1, self.sizes.c)
        if self.rows is None:
            s = self.sizes
            self.rows = self.empty(self.n * s.oh * s.ow, self.across)
            self.kernels("windows", grid(self.n, s.oh, s.ow, s.kw * s.c), self.rows, self.pixels, *s)
        return self.rows

    def _filters(self) -> Array:
        """The filters as a matrix (out, kh*kw*C)."""
        w = self.w.data
        if self._in_order():
            return w.reshape(self.filters, self.across)
        out = self.empty(self.filters, self.across)
        self.kernels("swap_axes", w.size, out, w, self.sizes.c, self.taps, w.size)
        return out

    def _in_order(self) -> bool:
        """Whether (C, kh, kw) and (kh, kw, C) are one order."""
        return self.sizes.c == 1 or self.taps == 1


def _rows(g: Array) -> Array:
    """Images (N, C, H, W) as a matrix of pixels (N*H*W, C); no copy where they lie channels last."""
    return last(g).reshape(-1, g.shape[1])


# ---- pooling ----


class MaxPool:
    """A max pooling of images (n, h, w, c), with a bias and a ReLU on its way."""

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


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    sizes = _pool_sizes(x.shape, k, stride, padding) if plain(x) and x.ndim == 4 and x.size else None
    if sizes is None:
        return NotImplemented
    pool = MaxPool(x.data, len(x.data), sizes)
    y = pool.forward(last(x.data))
    return record("max_pool2d", first(y), (x, lambda g: first(pool.backward(last(g)))))


def avg_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.avg_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    s = _pool_sizes(x.shape, k, stride, padding) if plain(x) and x.ndim == 4 and x.size else None
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


def _pool_sizes(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> Sizes | None:
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
    """See ops.batch_norm: two kernels there and two back. The first of each sums by channel, the second does the rest.

    with_relu  a ReLU behind it, in the same passes
    """
    if not plain(x, running_mean, running_var, weight, bias) or x.ndim not in (2, 4) or not 0 < x.size <= MANY:
        return NotImplemented
    xp, columns = xp_of(x.data), x.shape[1]
    rows, kernels = x.size // columns, kernels_for(xp, x.dtype)
    vectors = [None if t is None else t.data for t in (running_mean, running_var, weight, bias)]
    if any(v is not None and v.shape != (columns,) for v in vectors):
        return NotImplemented
    mean_now, var_now, w, b = vectors
    a = last(x.data) if x.ndim == 4 else contiguous(x.data)
    y = xp.empty(a.shape, x.dtype)
    if not training:
        if is_recording() or with_relu or mean_now is None or var_now is None:
            return NotImplemented  # its gradient is rarely asked for
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
    kernels("normalize", whole, y, mean, inv_std, *kept, a, of_x, w, b, with_relu, parts, momentum, eps, rows, columns, per_many)

    @once
    def backward(g: Array) -> tuple[Array, Array, Array]:
        at = last(g) if x.ndim == 4 else contiguous(g)
        dx, dw, db = xp.empty(a.shape, x.dtype), xp.empty(columns, x.dtype), xp.empty(columns, x.dtype)
        of_g = sums("norm_back_sums", at, a, mean, inv_std, w, b, with_relu)
        kernels("norm_back", whole, dx, dw, db, at, a, of_g, mean, inv_std, w, b, with_relu, parts, rows, columns, per_many)
        return first(dx) if x.ndim == 4 else dx, dw, db

    edges: list[Edge] = [(x, lambda g: backward(g)[0])]
    if weight is not None:
        edges.append((weight, lambda g: backward(g)[1]))
    if bias is not None:
        edges.append((bias, lambda g: backward(g)[2]))
    return record("batch_norm_relu" if with_relu else "batch_norm", first(y) if x.ndim == 4 else y, *edges)


