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
from minidl.ops_conv import Pair, Size, _output_size, _pair
from minidl.tensor import Edge, Into, Tensor, record

CHUNK = 3 << 18  # bytes of windows and results that are worked on at a time: most of the cache of one core


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW)."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.size * w.size:
        return NotImplemented
    if b is not None and b.shape != w.shape[:1]:
        return NotImplemented
    (n, c, h, width), (o, _, kh, kw) = x.shape, w.shape
    (sh, sw), (ph, pw) = step, pad = _pair(stride), _pair(padding)
    _output_size("conv2d", x, (kh, kw), step, pad)
    oh, ow = (h + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
    few = c * kw < 16  # few channels: rows of windows are too short to copy one by one, see _columns
    images = channels_last(x.data)  # (N, H, W, C)
    chunk = max(1, CHUNK // (oh * ow * (kh * kw * c + o) * x.dtype.itemsize))  # images
    worthwhile = n * oh * ow * kh * kw * c * o >= PRODUCT

    def columns(part: slice) -> Array:
        return _columns(images[part], (kh, kw), step, pad, (oh, ow), few)

    def rows(g: Array) -> Array:
        return np.ascontiguousarray(channels_last(g)).reshape(-1, o)  # (n*OH*OW, out), no copy if channels last

    y = buffers.empty((n, oh, ow, o), x.dtype)
    filters = (w.data if few else channels_last(w.data)).reshape(o, -1).T  # (kh*kw*C, out)
    bias = None if b is None else np.tile(b.data, ow)  # for a whole row of pixels: long rows add fast

    def forward(start: int, stop: int) -> None:
        for part in _chunks(start, stop, chunk):
            np.matmul(columns(part), filters, out=y[part].reshape(-1, o))
            if bias is not None:
                lines = y[part].reshape(-1, ow * o)
                lines += bias

    def vjp_x(g: Array) -> Array:
        """Through the place (i, j) of its window, a pixel gets the window's gradients times w[:, :, i, j]."""
        dx = buffers.empty((n, h, width, c), x.dtype)
        places = np.ascontiguousarray(w.data.transpose(2, 3, 0, 1))  # (kh, kw, out, C)

        def backward(start: int, stop: int) -> None:
            for part in _chunks(start, stop, chunk):
                gradient, m = rows(g[part]), len(g[part])
                share = buffers.empty((m, oh, ow, c), x.dtype)
                padded = _zeros((m, h + 2 * ph, width + 2 * pw, c), x.dtype)
                for i in range(kh):
                    for j in range(kw):
                        np.matmul(gradient, places[i, j], out=share.reshape(-1, c))
                        padded[:, i : i + sh * oh : sh, j : j + sw * ow : sw] += share
                dx[part] = padded[:, ph : ph + h, pw : pw + width]

        split(backward, n, worthwhile)
        return dx.transpose(0, 3, 1, 2)

    def vjp_w(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Array:
            total, product = np.zeros((o, kh * kw * c), x.dtype), np.empty((o, kh * kw * c), x.dtype)
            for part in _chunks(start, stop, chunk):
                total += np.matmul(rows(g[part]).T, columns(part), out=product)
            return total

        total = sum(split(backward, n, worthwhile))
        out[...] = total.reshape(w.shape) if few else total.reshape(o, kh, kw, c).transpose(0, 3, 1, 2)

    def vjp_b(g: Array, out: Array) -> None:
        def backward(start: int, stop: int) -> Any:
            gradients = (rows(g[part]) for part in _chunks(start, stop, chunk))
            return sum(np.ones(len(gradient), x.dtype) @ gradient for gradient in gradients)

        out[...] = sum(split(backward, n, worthwhile))

    split(forward, n, worthwhile)
    edges: list[Edge] = [(x, vjp_x), (w, Into(vjp_w))]
    if b is not None:
        edges.append((b, Into(vjp_b)))
    return record("conv2d", y.transpose(0, 3, 1, 2), *edges)


def _columns(images: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair, few: bool) -> Array:
    """The windows of images (n, H, W, C), each as a row: (n*OH*OW, kh*kw*C).

    With few channels the matrix is laid out the other way round, and its transpose returned: one place of the
    window after the other, for each the line of pixels that it sees. The order of a row's numbers is then (C, kh, kw).
    """
    (n, h, w, c), (kh, kw), (sh, sw), (ph, pw), (oh, ow) = images.shape, kernel, stride, padding, size
    if few:
        padded = _zeros((n, c, h + 2 * ph, w + 2 * pw), images.dtype)
        padded[:, :, ph : ph + h, pw : pw + w] = images.transpose(0, 3, 1, 2)
        by_image, by_channel, by_row, by_column = padded.strides
    else:
        padded = _zeros((n, h + 2 * ph, w + 2 * pw, c), images.dtype)
        padded[:, ph : ph + h, pw : pw + w] = images
        by_image, by_row, by_column, by_channel = padded.strides
    shape = (n, oh, ow, kh, kw, c)
    strides = (by_image, by_row * sh, by_column * sw, by_row, by_column, by_channel)
    windows: Array = np.ndarray(shape, images.dtype, padded, strides=strides)  # a view: windows overlap
    if few:
        columns = buffers.empty((c, kh, kw, n, oh, ow), images.dtype)
        columns[...] = windows.transpose(5, 3, 4, 0, 1, 2)
        return columns.reshape(c * kh * kw, -1).T
    columns = buffers.empty(shape, images.dtype)
    columns[...] = windows
    return columns.reshape(-1, kh * kw * c)


def _chunks(start: int, stop: int, chunk: int) -> Iterator[slice]:
    """range(start, stop) in slices of at most `chunk`."""
    return (slice(i, min(i + chunk, stop)) for i in range(start, stop, chunk))


def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    zeros = buffers.empty(shape, dtype)
    zeros[...] = 0
    return zeros


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Windows of 2 x 2 that neither overlap nor leave a rest: (N, C, H, W) -> (N, C, H/2, W/2).

    Backward goes the way of the gradient: to the top or the bottom pair of pixels, then to the left or the right one.
    Of equals the top and the left one win: in this order that is the window's first.
    """
    if not plain(x) or x.ndim != 4 or not x.size or x.shape[2] % 2 or x.shape[3] % 2:
        return NotImplemented
    if _pair(k) != (2, 2) or _pair(2 if stride is None else stride) != (2, 2) or _pair(padding) != (0, 0):
        return NotImplemented
    n, c, h, w = x.shape
    images = channels_last(x.data)
    y = buffers.empty((n, h // 2, w // 2, c), x.dtype)
    chunk = max(1, CHUNK // (3 * h * w * c * x.dtype.itemsize))

    def forward(start: int, stop: int) -> None:
        for part in _chunks(start, stop, chunk):
            image = images[part]
            lines = np.maximum(image[:, 0::2], image[:, 1::2], out=buffers.empty((len(image), h // 2, w, c), x.dtype))
            y[part] = _with_right(np.maximum, lines)[:, :, 0::2]

    def vjp(g: Array) -> Array:
        dx = buffers.empty((n, h, w, c), x.dtype)

        def backward(start: int, stop: int) -> None:
            for part in _chunks(start, stop, chunk):
                image, d = np.ascontiguousarray(images[part]), dx[part]  # (n, H, W, C)
                larger, to_right = _with_right(np.maximum, image), _with_right(np.less, image, BOOL)
                gradient = _zeros((len(image), h // 2, w, c), x.dtype)
                gradient[:, :, 0::2] = channels_last(g[part])  # at the left pixel of each pair, 0 at the right one
                bottom = np.multiply(gradient, larger[:, 0::2] < larger[:, 1::2], out=d[:, 1::2])
                np.subtract(gradient, bottom, out=d[:, 0::2])
                right = np.multiply(d, to_right, out=larger)
                d -= right
                d.reshape(-1)[c:] += right.reshape(-1)[:-c]  # moved on by one pixel: now at the right one

        split(backward, n, x.size > LARGE)
        return dx.transpose(0, 3, 1, 2)

    split(forward, n, x.size > LARGE)
    return record("max_pool2d", y.transpose(0, 3, 1, 2), (x, vjp))


def _with_right(ufunc: np.ufunc, image: Array, dtype: Any = None) -> Array:
    """ufunc(pixel, the pixel right of it) for the left pixel of each pair of columns; the rest has no meaning.

    A whole array against itself moved by one pixel is one long loop, which is faster, though half of it is for
    nothing, than many short loops over the channels of one pixel.
    """
    c = image.shape[-1]
    result = buffers.empty(image.shape, dtype or image.dtype)
    flat = image.reshape(-1)
    ufunc(flat[:-c], flat[c:], out=result.reshape(-1)[:-c])
    result[-1, -1, -1] = 0  # the last pixel has none right of it
    return result


CPU.kernels.update(conv2d=conv2d, max_pool2d=max_pool2d)
