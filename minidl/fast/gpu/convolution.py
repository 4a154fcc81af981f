"""Convolution on a GPU: a matrix product of the images' windows and the filters. See images.py first."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from minidl.backend import Array, xp_of
from minidl.fast.gpu.dense import before_activation, contiguous, once
from minidl.fast.gpu.images import MaxPool, Sizes, first, grid, last, pool_sizes, sizes_of
from minidl.fast.gpu.launch import MANY, Kernels, kernels_for, sum_rows
from minidl.fast.gpu.products import product
from minidl.fast.linear import into, plain
from minidl.ops_conv import Size, _pair
from minidl.tensor import Edge, Tensor, record

FEW = 96  # filters up to which a convolution needs no matrix of windows
FEW_PIXELS = 16384  # pixels below which such a kernel has too few active blocks, unless its windows are small
BLOCKS = 1056  # blocks among which a convolution's weight gradient is split: eight for each of 132 multiprocessors


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0, *, with_relu: bool = False) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW). with_relu: bias and ReLU are
    one pass, forward and backward."""
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


conv2d_relu = partial(conv2d, with_relu=True)


def conv2d_relu_max_pool2d(
    x: Tensor, w: Any, b: Any, stride: Size, padding: Size, k: Size, k_stride: Size, k_padding: Size
) -> Any:
    """The three fused: bias, ReLU and pooling are one pass, and so is their backward."""
    sizes = _conv_sizes(x, w, b, stride, padding)
    if sizes is None:
        return NotImplemented
    inner = (len(x.data), len(w.data), sizes.oh, sizes.ow)
    pooling = pool_sizes(inner, k, k_stride, k_padding)
    if pooling is None:
        return NotImplemented
    convolution = Convolution(x, w, sizes)
    pool = MaxPool(x.data, inner[0], pooling)
    bias = None if b is None else contiguous(b.data)
    y = pool.forward(convolution.forward(None, with_relu=False), bias, with_relu=True)
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

    There are three algorithms. For windows of one pixel the image itself is the matrix. For up to FEW filters over many
    pixels, kernels read the windows from the image as they need them (`direct`, an implicit im2col: see CONVOLVE in
    images.cu). For more filters cuBLAS is so much faster that it pays to copy the windows to memory (im2col); so it
    does for few pixels, since cuBLAS can split one sum among many blocks (split-K).
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
        """Whether a product (pixels, across) @ (across, columns) reads its windows from the image."""
        return not self.one_pixel and columns <= FEW and (pixels >= FEW_PIXELS or across <= 64)

    def empty(self, *shape: int) -> Array:
        return self.xp.empty(shape, self.x.dtype)

    def forward(self, b: Tensor | None, with_relu: bool) -> Array:
        """The output as a matrix (N*OH*OW, out)."""
        y = self.empty(self.n * self.sizes.oh * self.sizes.ow, self.filters)
        bias = None if b is None else contiguous(b.data)
        if self.direct:
            self._convolve(y, self.pixels, bias, with_relu, self.sizes, backwards=False)
            return y
        product(self._windows(), self._filters.T, y)
        if bias is not None:
            self.kernels("add_bias", y.size, y, bias, self.filters, with_relu, y.size)
        elif with_relu:
            self.kernels("relu", y.size, y, y, y.size)
        return y

    def edges(self, rows_of: Any) -> list[Edge]:
        """How the gradient reaches x and w; rows_of takes it back to the product, as a matrix (N*OH*OW, out)."""
        return [
            (self.x, lambda g: self._back_to_pixels(rows_of(g))),
            (self.w, into(self.w, lambda g, out: self._back_to_filters(rows_of(g), out))),
        ]

    def images(self, y: Array) -> Array:
        return first(y.reshape(self.n, self.sizes.oh, self.sizes.ow, self.filters))

    def _convolve(
        self, out: Array, x: Array, bias: Array | None, with_relu: bool, sizes: Sizes, backwards: bool
    ) -> None:
        """out (pixels, columns) = windows of x times the filters; see lay_filters in images.cu for `backwards`."""
        pixels, columns = out.shape
        tile = 32 if 0 < columns % 64 <= 32 else 64
        rows = 64 if pixels < 256 * BLOCKS // 8 else 256 if tile == 32 else 128
        padded = -(-columns // tile) * tile
        filters = self.empty(self.taps * sizes.c, padded)
        arguments = (self.filters, self.sizes.c, self.taps, backwards, padded, filters.size)
        self.kernels("lay_filters", filters.size, filters, contiguous(self.w.data), *arguments)
        launch = (-(-pixels // rows), padded // tile), (rows,)
        self.kernels(
            f"convolve_{rows}_{tile}", launch, out, x, filters, bias, with_relu, columns, padded, pixels, *sizes
        )

    def _back_to_pixels(self, g: Array) -> Array:
        s, dx = self.sizes, self.empty(*self.pixels.shape)
        if self.one_pixel:
            product(g, self._filters, dx.reshape(-1, s.c))
        elif s.sh == s.sw == 1 and self._is_direct(self.n * s.h * s.w, self.filters * self.taps, s.c):
            back = Sizes(self.filters, s.oh, s.ow, s.h, s.w, s.kh, s.kw, 1, 1, s.kh - 1 - s.ph, s.kw - 1 - s.pw)
            self._convolve(dx.reshape(-1, s.c), g, None, False, back, backwards=True)
        else:
            self.kernels("pixels", grid(self.n, s.h, s.w, s.c), dx, product(g, self._filters), *s)
        return first(dx)

    def _back_to_filters(self, g: Array, out: Array) -> None:
        s = self.sizes
        if not self.direct:
            if self._in_order():
                product(g.T, self._windows(), out.reshape(self.filters, self.across))
            else:
                dw = product(self._windows().T, g)  # (kh*kw*C, out)
                self.kernels("as_weights", out.size, out, dw, self.filters, s.c, self.taps, out.size)
            return
        tall = 32 if self.across <= 32 and self.filters <= 32 else 64
        wide = 32 if 0 < self.filters % 64 <= 32 else 64
        tiles, pixels = -(-self.across // tall) * -(-self.filters // wide), len(g)
        per_part = max(32, -(-pixels * tiles // BLOCKS))
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

    @cached_property
    def _filters(self) -> Array:
        """The filters as a matrix (out, kh*kw*C)."""
        w = contiguous(self.w.data)
        if self._in_order():
            return w.reshape(self.filters, self.across)
        out = self.empty(self.filters, self.across)
        self.kernels("swap_axes", w.size, out, w, self.sizes.c, self.taps, w.size)
        return out

    def _in_order(self) -> bool:
        """Whether (C, kh, kw) and (kh, kw, C) are the same order in memory."""
        return self.sizes.c == 1 or self.taps == 1


def _rows(g: Array) -> Array:
    """Images (N, C, H, W) as a matrix of pixels (N*H*W, C); no copy if they are stored channels last."""
    return last(g).reshape(-1, g.shape[1])
