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
from numpy.lib.stride_tricks import as_strided

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
    kernel, step, pad = (kh, kw), (sh, sw), (ph, pw) = (kh, kw), _pair(stride), _pair(padding)
    if min(step) < 1 or not (0 <= ph < kh <= h + 2 * ph and 0 <= pw < kw <= width + 2 * pw):
        return NotImplemented
    if b is not None and b.shape != (o,):
        return NotImplemented
    size = ((h + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1)
    worthwhile = n * size[0] * size[1] * w.size > PRODUCT
    images, axes = channels_last(x.data), _window_axes(c, kw)

    def rows(g: Array) -> Array:
        return np.ascontiguousarray(channels_last(g)).reshape(len(g), -1, o)  # (n, OH*OW, out), as it lies in memory

    def vjp_x(g: Array) -> Array:
        """A convolution too: of the gradients, spread out by the stride, with the filters turned by 180 degrees."""
        dx = buffers.empty((n, h, width, c), x.dtype)
        turned = _filters(w.data[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))

        def backward(start: int, stop: int) -> None:
            around = (kh - 1 - ph, kw - 1 - pw)
            for part, windows in _windows(channels_last(g[start:stop]), kernel, (1, 1), around, (h, width), c, step):
                np.matmul(windows, turned, out=dx[start:stop][part].reshape(-1, h * width, c))

        split(backward, n, worthwhile)
        return dx.transpose(0, 3, 1, 2)

    def vjp_w(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Array:
            total = np.zeros(filters.shape, x.dtype)
            for part, windows in _windows(images[start:stop], kernel, step, pad, size, o):
                total += np.matmul(windows.transpose(0, 2, 1), rows(g[start:stop][part])).sum(0)  # (n, kh*kw*C, out)
            return total

        out.transpose(axes)[...] = sum(split(backward, n, worthwhile)).reshape(out.transpose(axes).shape)

    def vjp_b(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Array:
            return np.ones(stop - start, x.dtype) @ rows(g[start:stop]).reshape(-1, y[0].size)  # a sum, but BLAS's

        out[...] = sum(split(backward, n, worthwhile)).reshape(-1, o).sum(0)

    y, filters = buffers.empty((n, *size, o), x.dtype), _filters(w.data)
    bias = None if b is None else np.tile(b.data, size[1])  # for a whole row of pixels: long rows add fast

    def forward(start: int, stop: int) -> None:
        for part, windows in _windows(images[start:stop], kernel, step, pad, size, o):
            result = y[start:stop][part]
            np.matmul(windows, filters, out=result.reshape(len(result), -1, o))
            if bias is not None:
                lines = result.reshape(-1, len(bias))
                lines += bias

    split(forward, n, worthwhile)
    edges: list[Edge] = [(x, vjp_x), (w, Into(vjp_w))]
    if b is not None:
        edges.append((b, Into(vjp_b)))
    return record("conv2d", y.transpose(0, 3, 1, 2), *edges)


def _window_axes(c: int, kw: int) -> tuple[int, ...]:
    """The order of a filter's axes (out, C, kh, kw) in which `_windows` lays out a window, `out` last."""
    return (1, 2, 3, 0) if c * kw < 16 else (2, 3, 1, 0)


def _filters(w: Array) -> Array:
    """w (out, C, kh, kw) as a matrix (kh*kw*C, out), in the order of the windows' rows."""
    return np.ascontiguousarray(w.transpose(_window_axes(w.shape[1], w.shape[3]))).reshape(-1, len(w))


def _windows(
    images: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair, out: int, spread: Pair = (1, 1)
) -> Iterator[tuple[slice, Array]]:
    """Each window of images (n, H, W, C) as a row, for some images at a time: (which, (m, OH*OW, kh*kw*C)).

    A matrix for each image, not one for all: NumPy then calls BLAS for each, and for these sizes BLAS has kernels
    that are a third faster, and that let two threads work side by side. The memory is made once and used for one
    chunk after the other; the border of zeros stays.

    size    (OH, OW), and `out` the channels of what the product gives: they decide how many images fit into the cache
    spread  the distance between neighbouring pixels; there are zeros between them
    Where rows of kw * C numbers are too short to be copied one by one, the matrix is laid out the other way round, and
    its transpose returned: one place of the window after the other, for each the line of pixels that it sees.
    """
    (n, h, w, c), (kh, kw), (sh, sw), (ph, pw), (oh, ow) = images.shape, kernel, stride, padding, size
    down, right = (h - 1) * spread[0] + 1, (w - 1) * spread[1] + 1  # from the first pixel to behind the last
    height, width = max((oh - 1) * sh + kh, ph + down), max((ow - 1) * sw + kw, pw + right)
    chunk = min(n, max(1, CHUNK // (oh * ow * (kh * kw * c + out) * images.itemsize)))
    by_place = _window_axes(c, kw)[0] == 1
    padded = buffers.empty((c, chunk, height, width) if by_place else (chunk, height, width, c), images.dtype)
    padded[...] = 0
    padded = padded.transpose(1, 2, 3, 0) if by_place else padded  # (chunk, height, width, C)
    by_image, by_row, by_column, by_channel = padded.strides
    strides = (by_image, by_row * sh, by_column * sw, by_row, by_column, by_channel)
    windows = as_strided(padded, (chunk, oh, ow, kh, kw, c), strides)  # a view: windows overlap
    windows = windows.transpose(5, 3, 4, 0, 1, 2) if by_place else windows
    memory = buffers.empty(windows.shape, images.dtype)
    for start in range(0, n, chunk):
        part, m = slice(start, start + chunk), min(chunk, n - start)
        padded[:m, ph : ph + down : spread[0], pw : pw + right : spread[1]] = images[part]
        if by_place:
            memory[:, :, :, :m] = windows[:, :, :, :m]
            yield part, memory.reshape(kh * kw * c, chunk, oh * ow)[:, :m].transpose(1, 2, 0)
        else:
            memory[:m] = windows[:m]
            yield part, memory[:m].reshape(m, oh * ow, kh * kw * c)


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Windows side by side, that leave no rest: (N, C, H, W) -> (N, C, H/kh, W/kw).

    The pixels are sorted by their place in the window: all first ones, then all second ones, ... Then the maximum is
    a few passes over long arrays. Backward goes the other way: a place that beat all before it takes the gradient.
    """
    kernel, step = _pair(k), _pair(k if stride is None else stride)
    if not plain(x) or x.ndim != 4 or not x.size or _pair(padding) != (0, 0) or step != kernel or min(kernel) < 1:
        return NotImplemented
    (n, c, h, w), (kh, kw) = x.shape, kernel
    if h % kh or w % kw:
        return NotImplemented
    images, first, *others = channels_last(x.data), *np.ndindex(kernel)  # places in the window, row by row
    y = buffers.empty((n, h // kh, w // kw, c), x.dtype)
    learns = x.requires_grad and is_recording()
    wins = buffers.empty((*kernel, *y.shape), BOOL) if learns else None  # where a place is larger than all before it
    chunk = max(1, CHUNK // (2 * h * w * c * x.dtype.itemsize))

    def chunks(start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """Some images at a time, and memory (kh, kw, m, H/kh, W/kw, C) for their pixels by place."""
        memory = buffers.empty((*kernel, min(chunk, stop - start), *y.shape[1:]), x.dtype)
        for i in range(start, stop, chunk):
            yield slice(i, min(i + chunk, stop)), memory[:, :, : stop - i]

    def forward(start: int, stop: int) -> None:
        for part, places in chunks(start, stop):
            best = y[part]
            _pixels(places)[...] = _by_place(np.ascontiguousarray(images[part]), kernel)
            best[...] = places[first]
            for place in others:
                if wins is not None:
                    np.greater(places[place], best, out=wins[place][part])
                np.maximum(places[place], best, out=best)

    def vjp(g: Array) -> Array:
        assert wins is not None
        dx = buffers.empty((n, h, w, c), x.dtype)

        def backward(start: int, stop: int) -> None:
            for part, places in chunks(start, stop):
                rest = places[first]
                rest[...] = channels_last(g[part])
                for place in reversed(others):
                    rest -= np.multiply(rest, wins[place][part], out=places[place])
                _by_place(dx[part], kernel)[...] = _pixels(places)

        split(backward, n, x.size > LARGE)
        return dx.transpose(0, 3, 1, 2)

    split(forward, n, x.size > LARGE)
    return record("max_pool2d", y.transpose(0, 3, 1, 2), (x, vjp))


def _pixels(image: Array) -> Array:
    """(..., C) as (...): the numbers of a pixel as one item, which NumPy copies in one go."""
    return image.view(np.dtype((np.void, image.shape[-1] * image.itemsize)))[..., 0]


def _by_place(images: Array, kernel: Pair) -> Array:
    """The pixels of images (n, H, W, C) by their place in the window: a view (kh, kw, n, H/kh, W/kw)."""
    (n, h, w, _), (kh, kw) = images.shape, kernel
    return _pixels(images).reshape(n, h // kh, kh, w // kw, kw).transpose(2, 4, 0, 1, 3)


CPU.kernels.update(conv2d=conv2d, max_pool2d=max_pool2d)
