"""Convolution and pooling for the CPU's caches: a few images at a time, with the channels of a pixel side by side.

A convolution is a matrix product once every window is laid out as a row of a matrix. For a whole batch that matrix is
far larger than the cache, and writing and reading it back takes longer than the product. So we make it for a few
images, use it at once, and overwrite it for the next; backward makes it again rather than fetch it from memory.

Results lie in memory as (N, H, W, C), behind the usual shape (N, C, H, W). Then a row of a window is one stretch of
kw * C numbers, copied in one go, and the product's rows (one per pixel) are the image as it is, with no transposing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import CPU, Array
from minidl.fast import BOOL, LARGE, PRODUCT, channels_last, plain
from minidl.fast_threads import split
from minidl.grad_mode import is_recording
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Edge, Into, Tensor, record

CHUNK = 1 << 20  # bytes of windows and results that are worked on at a time: most of the cache of one core


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return NotImplemented
    (n, c, h, width), (o, _, kh, kw) = x.shape, w.shape
    (sh, sw), (ph, pw) = step, pad = _pair(stride), _pair(padding)
    if min(sh, sw) < 1 or not (0 <= ph < kh <= h + 2 * ph and 0 <= pw < kw <= width + 2 * pw):
        return NotImplemented
    if b is not None and b.shape != (o,):
        return NotImplemented
    kernel, size = (kh, kw), ((h + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1)
    images = channels_last(x.data)  # (N, H, W, C)
    worthwhile = n * size[0] * size[1] * w.size > PRODUCT
    chunk = max(1, CHUNK // (size[0] * size[1] * (kh * kw * c + o) * x.dtype.itemsize))  # images

    def columns(n: int) -> _Columns:
        return _Columns(min(chunk, n), images.shape[1:], x.dtype, kernel, step, pad, size)

    def rows(g: Array) -> Array:
        return np.ascontiguousarray(channels_last(g)).reshape(len(g), -1, o)  # (n, OH*OW, out), as it lies in memory

    y = buffers.empty((n, *size, o), x.dtype)
    filters = _filters(w.data)
    bias = None if b is None else np.tile(b.data, size[1])  # for a whole row of pixels: long rows add fast

    def forward(start: int, stop: int) -> None:
        lay_out = columns(stop - start)
        for part in _chunks(start, stop, chunk):
            np.matmul(lay_out(images[part]), filters, out=y[part].reshape(-1, size[0] * size[1], o))
            if bias is not None:
                lines = y[part].reshape(-1, len(bias))
                lines += bias

    def vjp_x(g: Array) -> Array:
        """A convolution too: of the gradients, spread out by the stride, with the filters turned by 180 degrees."""
        dx, turned = buffers.empty((n, h, width, c), x.dtype), _filters(w.data.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        around, per_image = (kh - 1 - ph, kw - 1 - pw), h * width * kh * kw * o * x.dtype.itemsize
        at_once = max(1, CHUNK // per_image)

        def backward(start: int, stop: int) -> None:
            lay_out = _Columns(
                min(at_once, stop - start), y.shape[1:], x.dtype, kernel, (1, 1), around, (h, width), step
            )
            for part in _chunks(start, stop, at_once):
                np.matmul(lay_out(channels_last(g[part])), turned, out=dx[part].reshape(-1, h * width, c))

        split(backward, n, worthwhile)
        return dx.transpose(0, 3, 1, 2)

    def vjp_w(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Array:
            total, lay_out = np.zeros(filters.shape, x.dtype), columns(stop - start)
            for part in _chunks(start, stop, chunk):
                total += np.matmul(lay_out(images[part]).transpose(0, 2, 1), rows(g[part])).sum(0)  # (n, kh*kw*C, out)
            return total

        total = sum(split(backward, n, worthwhile))
        out[...] = total.reshape(*_order(w.data).shape).transpose(np.argsort(_axes(w.data)))

    def vjp_b(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Array:
            return np.ones(stop - start, x.dtype) @ rows(g[start:stop]).reshape(-1, y[0].size)  # a sum, but BLAS's

        out[...] = sum(split(backward, n, worthwhile)).reshape(-1, o).sum(0)

    split(forward, n, worthwhile)
    edges: list[Edge] = [(x, vjp_x), (w, Into(vjp_w))]
    if b is not None:
        edges.append((b, Into(vjp_b)))
    return record("conv2d", y.transpose(0, 3, 1, 2), *edges)


def _few(c: int, kw: int) -> bool:
    """Whether a window's rows of kw * C numbers are too short to be copied one by one."""
    return c * kw < 16


def _axes(w: Array) -> tuple[int, ...]:
    """The order of w's axes (out, C, kh, kw) in which a window is laid out, `out` last."""
    return (1, 2, 3, 0) if _few(w.shape[1], w.shape[3]) else (2, 3, 1, 0)


def _order(w: Array) -> Array:
    """w as (C, kh, kw, out) or (kh, kw, C, out)."""
    return w.transpose(_axes(w))


def _filters(w: Array) -> Array:
    """w (out, C, kh, kw) as a matrix (kh*kw*C, out), in the order of the rows of _Columns."""
    return np.ascontiguousarray(_order(w)).reshape(-1, len(w))


class _Columns:
    """Lays out the windows of some images (n, H, W, C), each as a row: (n, OH*OW, kh*kw*C), size = (OH, OW).

    A matrix for each image, not one for all: NumPy then calls BLAS for each, and for these sizes BLAS has kernels
    that are a third faster, and that let two threads work side by side. The memory is made once and used for one
    chunk after the other; the border of zeros stays.

    n       images at the most;  shape, dtype  (H, W, C) and type of one
    spread  the distance between neighbouring pixels; there are zeros between them
    With few channels the matrix is laid out the other way round, and its transpose returned: one place of the
    window after the other, for each the line of pixels that it sees. The order of a row's numbers is then (C, kh, kw).
    """

    def __init__(
        self, n: int, shape: tuple[int, ...], dtype: Any, kernel: Pair, stride: Pair, padding: Pair, size: Pair,
        spread: Pair = (1, 1),
    ) -> None:  # fmt: skip
        (h, w, c), (kh, kw), (sh, sw), (ph, pw), (oh, ow) = shape, kernel, stride, padding, size
        down, right = (h - 1) * spread[0] + 1, (w - 1) * spread[1] + 1  # from the first pixel to behind the last
        height, width = max((oh - 1) * sh + kh, ph + down), max((ow - 1) * sw + kw, pw + right)
        inside = (slice(None), slice(ph, ph + down, spread[0]), slice(pw, pw + right, spread[1]))
        self.few = _few(c, kw)
        if self.few:
            padded = _zeros((c, n, height, width), dtype).transpose(1, 2, 3, 0)
        else:
            padded = _zeros((n, height, width, c), dtype)
        self.inside = padded[inside]
        by_image, by_row, by_column, by_channel = padded.strides
        strides = (by_image, by_row * sh, by_column * sw, by_row, by_column, by_channel)
        base = padded.transpose(3, 0, 1, 2) if self.few else padded  # in memory order, as np.ndarray wants it
        windows = np.ndarray((n, oh, ow, kh, kw, c), dtype, base, strides=strides)  # a view: windows overlap
        self.windows = windows.transpose(5, 3, 4, 0, 1, 2) if self.few else windows
        self.columns = buffers.empty(self.windows.shape, dtype)

    def __call__(self, images: Array) -> Array:
        m = len(images)
        self.inside[:m] = images
        if not self.few:
            self.columns[:m] = self.windows[:m]
            return self.columns[:m].reshape(m, -1, self.columns[0, 0, 0].size)
        self.columns[:, :, :, :m] = self.windows[:, :, :, :m]
        places, pixels = self.columns[:, :, :, 0, 0, 0].size, self.columns[0, 0, 0, 0].size
        return self.columns.reshape(places, -1, pixels)[:, :m].transpose(1, 2, 0)


def _chunks(start: int, stop: int, chunk: int) -> Iterator[slice]:
    """range(start, stop) in slices of at most `chunk`."""
    return (slice(i, min(i + chunk, stop)) for i in range(start, stop, chunk))


def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    zeros = buffers.empty(shape, dtype)
    zeros[...] = 0
    return zeros


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Windows side by side, that leave no rest: (N, C, H, W) -> (N, C, H/kh, W/kw).

    The pixels are sorted by their place in the window: all first ones, then all second ones, ... Then the maximum is
    a few passes over long arrays. Backward goes the other way: a place that beat all before it takes the gradient.
    """
    (kh, kw), pad = kernel, _ = _pair(k), _pair(padding)
    if (
        not plain(x)
        or x.ndim != 4
        or not x.size
        or pad != (0, 0)
        or _pair(kernel if stride is None else stride) != kernel
    ):
        return NotImplemented
    n, c, h, w = x.shape
    if min(kernel) < 1 or h % kh or w % kw:
        return NotImplemented
    images, learns = channels_last(x.data), x.requires_grad and is_recording()
    y = buffers.empty((n, h // kh, w // kw, c), x.dtype)
    wins = buffers.empty((kh * kw, *y.shape), BOOL) if learns else None  # wins[i]: place i is larger than all before
    chunk = max(1, CHUNK // (2 * h * w * c * x.dtype.itemsize))

    def forward(start: int, stop: int) -> None:
        memory = buffers.empty((min(chunk, stop - start), kh * kw, *y.shape[1:]), x.dtype)
        for part in _chunks(start, stop, chunk):
            best = y[part]
            places = memory[: len(best)].reshape(kh * kw, *best.shape)
            _by_place(places, kernel)[...] = _in_windows(np.ascontiguousarray(images[part]), kernel)
            best[...] = places[0]
            for i in range(1, kh * kw):
                if wins is not None:
                    np.greater(places[i], best, out=wins[i, part])
                np.maximum(places[i], best, out=best)

    def vjp(g: Array) -> Array:
        assert wins is not None
        dx = buffers.empty((n, h, w, c), x.dtype)

        def backward(start: int, stop: int) -> None:
            memory = buffers.empty((min(chunk, stop - start), kh * kw, *y.shape[1:]), x.dtype)
            for part in _chunks(start, stop, chunk):
                places = memory[: len(y[part])].reshape(kh * kw, *y[part].shape)
                rest = places[0]
                rest[...] = channels_last(g[part])
                for i in range(kh * kw - 1, 0, -1):
                    rest -= np.multiply(rest, wins[i, part], out=places[i])
                _in_windows(dx[part], kernel)[...] = _by_place(places, kernel)

        split(backward, n, x.size > LARGE)
        return dx.transpose(0, 3, 1, 2)

    split(forward, n, x.size > LARGE)
    return record("max_pool2d", y.transpose(0, 3, 1, 2), (x, vjp))


def _pixels(image: Array) -> Array:
    """(..., C) as (...): the numbers of a pixel as one item, which NumPy copies in one go."""
    return image.view(np.dtype((np.void, image.shape[-1] * image.itemsize)))[..., 0]


def _in_windows(image: Array, kernel: Pair) -> Array:
    """The pixels of images (n, H, W, C) by their place in the window: a view (kh, kw, n, H/kh, W/kw)."""
    (n, h, w, _), (kh, kw) = image.shape, kernel
    return _pixels(image).reshape(n, h // kh, kh, w // kw, kw).transpose(2, 4, 0, 1, 3)


def _by_place(places: Array, kernel: Pair) -> Array:
    """The pixels of places (kh*kw, n, H/kh, W/kw, C) as a view (kh, kw, n, H/kh, W/kw)."""
    return _pixels(places).reshape(*kernel, *places.shape[1:-1])


CPU.kernels.update(conv2d=conv2d, max_pool2d=max_pool2d)
