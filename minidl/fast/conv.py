"""Convolution for the CPU's caches: a few images at a time, channels last.

A convolution is a matrix product once every window is copied to a row of a matrix (im2col). For a whole batch that
matrix is far larger than the cache, and writing it and reading it back takes longer than the product. So we build it
for a few images, use it at once, and overwrite it for the next; backward rebuilds it rather than load it from memory. A
ReLU and a pooling after the convolution also work on its output while it is in the cache: see pool.py.

Results are stored as (N, H, W, C), behind the usual shape (N, C, H, W). Then a row of a window is one contiguous run
of kw * C elements, copied at once, and the product's rows (one per pixel) are the image itself, with no transposing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import CPU, Array, reference_only
from minidl.fast.linear import channels_last, into, plain
from minidl.fast.pool import MaxPool, by_place, pixels, put, side_by_side, squares
from minidl.fast.threads import in_parts
from minidl.grad_mode import enable_grad
from minidl.ops_conv import Pair, Size, _pair
from minidl.ops_conv import conv2d as conv2d_of_reference
from minidl.tensor import Reading, Tensor, record

SHORT = 16  # elements in a row of a window, below which the rows are not worth copying one by one


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    if not _usual(x, w, b, stride, padding):
        return NotImplemented
    return _Convolution(x, w, b, _pair(stride), _pair(padding)).output("conv2d")


def conv2d_relu_max_pool2d(
    x: Tensor, w: Any, b: Any, stride: Size, padding: Size, k: Size, k_stride: Size | None, k_padding: Size
) -> Any:
    """The three fused (see fuse.py). The output of the convolution, the network's largest array, stays in the cache."""
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
    """Whether this kernel supports the convolution; anything else is left to the reference, errors included."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.data.size * w.data.size:
        return False
    (h, width), (kh, kw), (ph, pw) = x.shape[2:], w.shape[2:], _pair(padding)
    fits = 0 <= ph < kh <= h + 2 * ph and 0 <= pw < kw <= width + 2 * pw
    return fits and min(_pair(stride)) > 0 and (b is None or b.shape == w.shape[:1])


class _Convolution:
    """x (N, C, H, W) with w (out, C, kh, kw) and b (out,), some images at a time, and possibly a pooling after it.

    size    (OH, OW)
    order   (2, 2) where the results can be sorted by their places in squares of that size, as the usual pooling takes
            them, else (1, 1). They are sorted even without a pooling: a row's last bits may depend on its position in
            the matrix, and they must not depend on whether the pooling is fused
    found   gradients that were computed but not requested yet, for the output gradient `of`
    """

    pool: MaxPool | None = None

    def __init__(self, x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Pair) -> None:
        self.x, self.w, self.b, self.stride, self.padding = x, w, b, stride, padding
        self.images, (self.o, self.c, kh, kw) = channels_last(x.data), w.shape
        (h, width), self.kernel = x.shape[2:], (kh, kw)
        self.size = (h + 2 * padding[0] - kh) // stride[0] + 1, (width + 2 * padding[1] - kw) // stride[1] + 1
        self.order = (2, 2) if self.size[0] % 2 == self.size[1] % 2 == 0 else (1, 1)
        self.work = 2 * self.size[0] * self.size[1] * w.data.size  # of an image; doubled, because im2col counts too
        self.found: dict[str, Any] = {}
        self.of: Array | None = None

    def output(self, name: str) -> Tensor:
        n, (oh, ow), dtype = len(self.x), self.size, self.x.dtype
        self.y = CPU.empty((n, oh, ow, self.o), dtype) if self.pool is None else self.pool.y
        self.filters = as_matrix(self.w.data)
        self.bias = None if self.b is None else np.tile(self.b.data, oh * ow)  # long rows add fast
        in_parts(self.forward, n, oh * ow * self.filters.nbytes // self.o, self.work)
        edges: list[Reading] = [
            (self.x, lambda g: self.gradient("x", g).transpose(0, 3, 1, 2), self.w),
            (self.w, into(self.w, lambda g, out: from_matrix(self.gradient("w", g), self.turned(out))), self.x),
        ]
        if self.b is not None:
            edges.append((self.b, lambda g: self.gradient("b", g)))
        return record(name, self.y.transpose(0, 3, 1, 2), *edges)

    def forward(self, part: slice) -> None:
        """Fill the output of some images; a pooling, if there is one, fills its own."""
        rows = windows(self.images[part], self.kernel, self.stride, self.padding, self.size, order=self.order)
        (oh, ow), (sh, sw) = self.size, self.order
        y = CPU.empty((len(rows), sh * sw, oh // sh, ow // sw, self.o), rows.dtype)  # by place
        np.matmul(rows, self.filters, out=y.reshape(*rows.shape[:2], self.o))  # (m, OH*OW, out)
        if self.bias is not None:
            lines = y.reshape(len(y), -1)
            lines += self.bias
        if self.pool is None:
            put(self.y[part], y, self.order)
        else:
            self.pool.take(part, y)

    def gradient(self, name: str, g: Array) -> Any:
        """The gradient of x, w or b. The first request computes the others too, which are kept until requested."""
        if g is not self.of or name not in self.found:
            self.of, g, (h, w) = g, channels_last(g), self.x.shape[2:]
            dx = CPU.empty(self.images.shape, g.dtype) if self.x.requires_grad else None
            rows = h * w * self.o if self.x.requires_grad else self.size[0] * self.size[1] * self.c
            size = rows * self.kernel[0] * self.kernel[1] * g.itemsize
            self.filters = as_matrix(self.turned(self.w.data))
            sums = in_parts(lambda part: self.backward(part, g[part], dx), len(g), size, self.work)
            dws, dbs = zip(*sums, strict=True)
            self.found = {"x": dx, "w": sum(dws), "b": sum(dbs).astype(g.dtype)}
            if not (np.isfinite(self.found["w"]).all() and np.isfinite(self.filters).all()):
                self.found = self.with_infinities(g)
        return self.found.pop(name)

    def with_infinities(self, g: Array) -> dict[str, Any]:
        """The same by the reference: here g is padded with zeros, and infinity times zero would give NaN."""
        if self.pool is not None:
            dy = CPU.empty((len(g), *self.size, self.o), g.dtype)
            put(dy, self.pool.give(slice(None), g), self.order)
            g = dy
        x, w = Tensor(self.x.data, requires_grad=True), Tensor(self.w.data, requires_grad=True)
        with reference_only(), enable_grad():
            conv2d_of_reference(x, w, None, self.stride, self.padding).backward(g.transpose(0, 3, 1, 2))
        assert x.grad is not None
        assert w.grad is not None
        db = np.ones(g[..., 0].size, g.dtype) @ g.reshape(-1, self.o)
        return {"x": channels_last(x.grad), "w": as_matrix(self.turned(w.grad)), "b": db}

    def turned(self, w: Array) -> Array:
        """The filters for the windows of backward: w for those of x, or (C, out, kh, kw), rotated, for those of g."""
        return w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3) if self.x.requires_grad else w

    def backward(self, part: slice, g: Array, dx: Array | None) -> tuple[Array, Array]:
        """Fill dx, and return the gradients of the filters and of b, for some images; g is that of the output.

        x's gradient is a convolution too, of g with the filters rotated by 180 degrees. The filters' gradient is a
        product of x and g, one of them as windows (im2col): g, where its windows are needed anyway.
        """
        x, (kh, kw), (ph, pw) = self.images[part], self.kernel, self.padding
        dy = by_place(g, self.order) if self.pool is None else self.pool.give(part, g)
        db = np.ones(len(x), g.dtype) @ dy.reshape(len(x), -1)  # a sum over the images, by BLAS
        if dx is None:
            rows, other = windows(x, self.kernel, self.stride, self.padding, self.size, order=self.order), dy
        else:
            back, other = (kh - 1 - ph, kw - 1 - pw), np.ascontiguousarray(x)
            rows = windows(dy, self.kernel, (1, 1), back, x.shape[1:3], spread=self.stride, given=self.order)
            np.matmul(rows, self.filters, out=dx[part].reshape(len(x), -1, self.c))  # (m, H*W, C)
        dw = np.matmul(rows.transpose(0, 2, 1), other.reshape(*rows.shape[:2], -1)).sum(0)
        return dw, db.reshape(-1, self.o).sum(0, np.float64)


def windows(
    images: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair, *,
    order: Pair = (1, 1), given: Pair = (1, 1), spread: Pair = (1, 1),
) -> Array:  # fmt: skip
    """im2col: each window of some images (m, H, W, C) as a row of a matrix, (m, OH*OW, kh*kw*C).

    The windows are overlapping views of the image; im2col only copies these views. There is a matrix for each image,
    not one for all: NumPy then calls BLAS for each, and for these sizes BLAS has kernels that are a third faster, and
    that let two threads work concurrently.

    size    (OH, OW)
    order   the rows are sorted by place in squares of this size, as a pooling of such squares needs them: first the
            windows of all first pixels, then those of all second ones, ...
    given   the images' pixels are sorted in this way
    spread  the distance between neighbouring pixels, with zeros between them
    """
    m, h, w, c = len(images), images.shape[-3] * given[0], images.shape[-2] * given[1], images.shape[-1]
    (kh, kw), (sh, sw), (ph, pw), (oh, ow) = kernel, stride, padding, size
    down, right = ph + (h - 1) * spread[0] + 1, pw + (w - 1) * spread[1] + 1  # to one past the last pixel
    padded = CPU.empty((m, max(down, (oh - 1) * sh + kh), max(right, (ow - 1) * sw + kw), c), images.dtype)
    padded.fill(0)
    put(padded[:, ph : down : spread[0], pw : right : spread[1]], images, given)
    by_image, by_row, by_column, by_channel = padded.strides
    strides = (by_image, by_row * sh, by_column * sw, by_row, by_channel)
    every = np.ndarray((m, oh, ow, kh, kw * c), padded.dtype, padded, 0, strides)  # an overlapping view
    view = squares(every, order)  # (m, sh, sw, OH/sh, OW/sw, kh, kw*C)
    if kw * c >= SHORT:
        rows = CPU.empty(view.shape, images.dtype)
        pixels(rows)[...] = pixels(view)
        return rows.reshape(m, oh * ow, -1)
    view = view.transpose(5, 6, 0, 1, 2, 3, 4)  # one place of the window after another, for all windows
    rows = CPU.empty(view.shape, images.dtype)
    rows[...] = view
    return rows.reshape(-1, m, oh * ow).transpose(1, 2, 0)


def as_matrix(w: Array) -> Array:
    """Filters w (out, C, kh, kw) as a matrix (kh*kw*C, out), in the order of the windows' rows."""
    return np.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(-1, len(w))


def from_matrix(matrix: Array, w: Array) -> None:
    """The inverse: fill w."""
    filters = w.transpose(2, 3, 1, 0)
    filters[...] = matrix.reshape(filters.shape)


CPU.kernels["conv2d"] = conv2d
