"""The windows of images laid out as the rows of matrices, a few images at a time: see fast_conv.py.

A window is a view of the image: neighbouring ones overlap. To lay them out is to copy that view, nothing more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minidl import buffers
from minidl.backend import Array
from minidl.fast_threads import fitting
from minidl.ops_conv import Pair


class Windows:
    """Each window of some images (m, H, W, C) as a row: see(images) is (m, OH*OW, kh*kw*C), valid until the next call.

    A matrix for each image, not one for all: NumPy then calls BLAS for each, and for these sizes BLAS has kernels
    that are a third faster, and that let two threads work side by side. The memory is made once, for `most` images,
    and used for one chunk after the other; the border of zeros stays.

    most     images at a time; fewer, where the cache can't hold their windows
    image    (H, W, C)
    size     (OH, OW)
    spread   the distance between neighbouring pixels; there are zeros between them
    order    the rows are sorted by place in squares of this size, as a pooling of such squares wants them: first the
             windows of all first pixels, then those of all second ones, ...
    given    the images' pixels are sorted in this way
    Where rows of kw * C numbers are too short to be copied one by one, the matrix is laid out the other way round, and
    its transpose returned: one place of the window after the other, for each the line of pixels that it sees.
    """

    def __init__(
        self, most: int, image: tuple[int, int, int], kernel: Pair, stride: Pair, padding: Pair, size: Pair, dtype: Any,
        *, spread: Pair = (1, 1), order: Pair = (1, 1), given: Pair = (1, 1),
    ) -> None:  # fmt: skip
        (h, w, c), (kh, kw), (sh, sw), (ph, pw), (oh, ow) = image, kernel, stride, padding, size
        self.most = most = fitting(most, oh * ow * kh * kw * c * np.dtype(dtype).itemsize)
        down, right = (h - 1) * spread[0] + 1, (w - 1) * spread[1] + 1  # from the first pixel to behind the last
        height, width = max((oh - 1) * sh + kh, ph + down), max((ow - 1) * sw + kw, pw + right)
        self.turned = _axes(c, kw)[0] == 1
        padded = buffers.empty((c, most, height, width) if self.turned else (most, height, width, c), dtype)
        padded = padded.transpose(1, 2, 3, 0) if self.turned else padded  # (most, height, width, C)
        inside = padded[:, ph : ph + down, pw : pw + right]
        for part in (padded[:, :ph], padded[:, ph + down :], padded[:, :, :pw], padded[:, :, pw + right :]):
            part[...] = 0
        if spread != (1, 1):
            inside[...] = 0
        by_image, by_row, by_column, by_channel = padded.strides
        strides = (by_image, by_row * sh, by_column * sw, by_row, by_column, by_channel)
        windows = by_place(as_strided(padded, (most, oh, ow, kh, kw, c), strides), order)  # a view: windows overlap
        self.windows = windows.transpose(7, 5, 6, 0, 1, 2, 3, 4) if self.turned else windows
        self.pixels = by_place(inside[:, :: spread[0], :: spread[1]], given)
        self.memory = buffers.empty(self.windows.shape, dtype)
        self.shape = oh * ow, kh * kw * c

    def __call__(self, images: Array) -> Array:
        m, (n, k) = len(images), self.shape
        self.pixels[:m] = images.reshape(m, *self.pixels.shape[1:])
        if self.turned:
            self.memory[:, :, :, :m] = self.windows[:, :, :, :m]
            return self.memory.reshape(k, -1, n)[:, :m].transpose(1, 2, 0)
        self.memory[:m] = self.windows[:m]
        return self.memory[:m].reshape(m, n, k)


def by_place(images: Array, square: Pair) -> Array:
    """Images (n, H, W, ...) by each pixel's place in its square: a view (n, sh, sw, H/sh, W/sw, ...)."""
    (n, h, w, *rest), (sh, sw) = images.shape, square
    view = images.reshape(n, h // sh, sh, w // sw, sw, *rest)
    return view.transpose(0, 2, 4, 1, 3, *range(5, view.ndim))


def _axes(c: int, kw: int) -> tuple[int, ...]:
    """The order of a filter's axes (out, C, kh, kw) in which `Windows` lays out a window, `out` last."""
    return (1, 2, 3, 0) if c * kw < 16 else (2, 3, 1, 0)


def as_matrix(w: Array) -> Array:
    """Filters w (out, C, kh, kw) as a matrix (kh*kw*C, out), in the order of the windows' rows."""
    return np.ascontiguousarray(w.transpose(_axes(w.shape[1], w.shape[3]))).reshape(-1, len(w))


def from_matrix(matrix: Array, w: Array) -> None:
    """The other way: fill w."""
    filters = w.transpose(_axes(w.shape[1], w.shape[3]))
    filters[...] = matrix.reshape(filters.shape)
