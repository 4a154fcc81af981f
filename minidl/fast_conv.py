"""Convolution for the CPU's caches: a few images at a time, with the channels of a pixel side by side.

A convolution is a matrix product once every window is laid out as a row of a matrix. For a whole batch that matrix is
far larger than the cache, and writing and reading it back takes longer than the product. So we make it for a few
images, use it at once, and overwrite it for the next; backward makes it again rather than fetch it from memory. A
ReLU and a pooling behind the convolution take its results while they are in the cache, too: see fast_pool.py.

Results lie in memory as (N, H, W, C), behind the usual shape (N, C, H, W). Then a row of a window is one stretch of
kw * C numbers, copied in one go, and the product's rows (one per pixel) are the image as it is, with no transposing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import CPU, Array
from minidl.fast import PRODUCT, channels_last, plain
from minidl.fast_pool import MaxPool, pixels, side_by_side
from minidl.fast_threads import parts, split
from minidl.fast_windows import Windows, as_matrix, by_place, from_matrix
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Edge, Into, Tensor, record


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    if not _usual(x, w, b, stride, padding):
        return NotImplemented
    return _Convolution(x, w, b, _pair(stride), _pair(padding)).output("conv2d")


def conv2d_relu_max_pool2d(
    x: Tensor, w: Any, b: Any, stride: Size, padding: Size, k: Size, k_stride: Size | None, k_padding: Size
) -> Any:
    """See ops.conv2d_relu_max_pool2d. What the convolution gives, the network's largest array, stays in the cache."""
    if not _usual(x, w, b, stride, padding):
        return NotImplemented
    convolution = _Convolution(x, w, b, _pair(stride), _pair(padding))
    shape = (len(x), len(w), *convolution.size)
    if _pair(k) != convolution.order or not side_by_side(shape, k, k_stride, k_padding):
        return NotImplemented
    learns = any(t is not None and t.requires_grad for t in (x, w, b))
    convolution.pool = MaxPool(shape, _pair(k), x.dtype, learns, relu=True)
    return convolution.output("conv2d_relu_max_pool2d")


def _usual(x: Tensor, w: Any, b: Any, stride: Size, padding: Size) -> bool:
    """Whether this is a convolution that we compute; with anything else, the reference says what is wrong."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return False
    (h, width), (kh, kw), (ph, pw) = x.shape[2:], w.shape[2:], _pair(padding)
    fits = 0 <= ph < kh <= h + 2 * ph and 0 <= pw < kw <= width + 2 * pw
    return fits and min(_pair(stride)) > 0 and (b is None or b.shape == w.shape[:1])


class _Convolution:
    """x (N, C, H, W) with w (out, C, kh, kw) and b (out,), for some images at a time; perhaps a pooling behind it.

    size    (OH, OW)
    order   (2, 2) where the results can be sorted by their places in squares of that size, as the usual pooling takes
            them, else (1, 1). Backward sorts them so in any case: then the sums have the same last bits, with a
            pooling done in one piece or by itself
    sorted  the shape of an image's results, sorted: (places, OH/2, OW/2, out)
    found   gradients that were computed, but not asked for yet
    """

    pool: MaxPool | None = None

    def __init__(self, x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Pair) -> None:
        self.x, self.w, self.b, self.stride, self.padding = x, w, b, stride, padding
        self.images = channels_last(x.data)
        (_, h, width, self.c), (self.o, _, kh, kw) = self.images.shape, w.shape
        self.size = (h + 2 * padding[0] - kh) // stride[0] + 1, (width + 2 * padding[1] - kw) // stride[1] + 1
        self.kernel = (kh, kw)
        self.order = (2, 2) if self.size[0] % 2 == self.size[1] % 2 == 0 else (1, 1)
        places = self.order[0] * self.order[1]
        self.sorted = (places, self.size[0] // self.order[0], self.size[1] // self.order[1], self.o)
        self.worthwhile = len(x) * self.size[0] * self.size[1] * w.size > PRODUCT
        self.found: dict[str, Any] = {}

    def output(self, name: str) -> Tensor:
        n = len(self.x)
        y = buffers.empty((n, *self.size, self.o), self.x.dtype) if self.pool is None else self.pool.y
        split(lambda i, j: self.forward(i, j, y), n, self.worthwhile)
        edges: list[Edge] = [
            (self.x, lambda g: self.gradient("x", g).transpose(0, 3, 1, 2)),
            (self.w, Into(lambda g, out: from_matrix(self.gradient("w", g), self.turned(out)))),
        ]
        if self.b is not None:
            edges.append((self.b, lambda g: self.gradient("b", g)))
        return record(name, y.transpose(0, 3, 1, 2), *edges)

    def forward(self, start: int, stop: int, results: Array) -> None:
        """Fill the results (N, OH, OW, out) for some images; the pooling, if there is one, fills its own."""
        filters, pool, n = as_matrix(self.w.data), self.pool, stop - start
        sizes = self.images.shape[1:], self.kernel, self.stride, self.padding, self.size
        see = Windows(n, *sizes, self.x.dtype, order=(1, 1) if pool is None else self.order)
        memory = None if pool is None else buffers.empty((see.most, *self.sorted), self.x.dtype)
        bias = None if self.b is None else np.tile(self.b.data, self.size[0] * self.size[1])  # long rows add fast
        for part in parts(start, stop, see.most):
            windows = see(self.images[part])
            y = results[part] if memory is None else memory[: len(windows)]
            np.matmul(windows, filters, out=y.reshape(*windows.shape[:2], self.o))  # (m, OH*OW, out)
            if bias is not None:
                rows = y.reshape(len(y), -1)
                rows += bias
            if pool is not None:
                pool.take(part, y)

    def gradient(self, name: str, g: Array) -> Any:
        """The gradient of x, w or b. The first that is asked for brings the others, kept till they are asked for."""
        if name not in self.found:
            dx = buffers.empty(self.images.shape, g.dtype) if self.x.requires_grad else None
            sums = split(lambda i, j: self.backward(i, j, channels_last(g), dx), len(g), self.worthwhile)
            dws, dbs = zip(*sums, strict=True)
            self.found = {"x": dx, "w": sum(dws), "b": sum(dbs)}
        return self.found.pop(name)

    def turned(self, w: Array) -> Array:
        """The filters that belong to the windows of backward: w itself, or for those of g (C, out, kh, kw), rotated."""
        return w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3) if self.x.requires_grad else w

    def backward(self, start: int, stop: int, g: Array, dx: Array | None) -> tuple[Array, Array]:
        """Fill dx, and return the gradients of the filters and of b, for some images; g is that of the output.

        x's gradient is a convolution too, of g with the filters rotated by 180 degrees. The filters' gradient is a
        product of x and g, one of them laid out as windows: g, where that is done anyway.
        """
        filters, n, image, order = as_matrix(self.turned(self.w.data)), stop - start, self.images.shape[1:], self.order
        if dx is None:
            see = Windows(n, image, self.kernel, self.stride, self.padding, self.size, g.dtype, order=order)
        else:
            back = self.kernel[0] - 1 - self.padding[0], self.kernel[1] - 1 - self.padding[1]
            size = (*self.size, self.o)
            see = Windows(n, size, self.kernel, (1, 1), back, image[:2], g.dtype, spread=self.stride, given=order)
        memory = buffers.empty((see.most, *self.sorted), g.dtype)
        dw, db = np.zeros_like(filters), np.zeros(math.prod(self.sorted), g.dtype)
        for part in parts(start, stop, see.most):
            x = np.ascontiguousarray(self.images[part])
            if self.pool is None:
                dy = memory[: len(x)]
                view = by_place(pixels(np.ascontiguousarray(g[part])), order)
                pixels(dy).reshape(view.shape)[...] = view
            else:
                dy = self.pool.give(part, g[part], memory)
            db += np.ones(len(x), g.dtype) @ dy.reshape(len(x), -1)  # a sum over the images, but BLAS's
            windows, other = (see(x), dy) if dx is None else (see(dy), x)
            if dx is not None:
                np.matmul(windows, filters, out=dx[part].reshape(len(x), -1, self.c))  # (m, H*W, C)
            dw += np.matmul(windows.transpose(0, 2, 1), other.reshape(*windows.shape[:2], -1)).sum(0)
        return dw, db.reshape(-1, self.o).sum(0)


CPU.kernels.update(conv2d=conv2d, conv2d_relu_max_pool2d=conv2d_relu_max_pool2d)
