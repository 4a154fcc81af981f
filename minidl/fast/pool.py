"""Max pooling for the CPU's caches, some images (n, H, W, C) at a time: see conv.py.

The pixels are sorted by their place in the window: all first ones, then all second ones, ... Then the maximum is an
elementwise pass over long arrays, and so is backward: each place has a mask of the pixels that receive the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast.linear import BOOL, channels_last, chosen, plain
from minidl.fast.threads import in_parts
from minidl.grad_mode import is_recording
from minidl.ops_conv import Pair, Size, _first, _pair
from minidl.tensor import Tensor, record


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Non-overlapping windows that tile the image: (N, C, H, W) -> (N, C, H/kh, W/kw)."""
    if not plain(x) or x.ndim != 4 or not side_by_side(x.shape, k, stride, padding):
        return NotImplemented
    pool, images = MaxPool(x.shape, _pair(k), x.dtype, x.requires_grad), channels_last(x.data)
    n, size = len(images), 2 * images[0].nbytes
    in_parts(lambda part: pool.take(part, by_place(images[part], pool.kernel)), n, size)

    def vjp(g: Array) -> Array:
        g, dx = channels_last(g), CPU.empty(images.shape, x.dtype)
        in_parts(lambda part: put(dx[part], pool.give(part, g[part]), pool.kernel), n, size)
        return dx.transpose(0, 3, 1, 2)

    return record("max_pool2d", pool.y.transpose(0, 3, 1, 2), (x, vjp))


def side_by_side(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> bool:
    """Whether the windows of a pooling tile images (N, C, H, W), with no overlap and no remainder."""
    kernel = kh, kw = _pair(k)
    step = kernel if stride is None else _pair(stride)
    fits = min(*shape, kh, kw) > 0 and _pair(padding) == (0, 0) and step == kernel
    return fits and kh * kw > 1 and shape[2] % kh == shape[3] % kw == 0


class MaxPool:
    """The pooling of images of shape (N, C, H, W), some at a time; with `relu`, a ReLU of the result.

    The ReLU comes last, where there are fewer elements: the two commute.
    """

    def __init__(self, shape: tuple[int, ...], kernel: Pair, dtype: Any, learns: bool, relu: bool = False) -> None:
        (n, c, h, w), (kh, kw) = shape, kernel
        self.kernel, self.relu = kernel, relu
        self.y = CPU.empty((n, h // kh, w // kw, c), dtype)
        learns = learns and is_recording()
        self.wins = CPU.empty((n, kh * kw, *self.y.shape[1:]), BOOL) if learns else None  # which place has the maximum

    def take(self, part: slice, places: Array) -> None:
        """Pool this part of the images, sorted by place: (m, kh*kw, H/kh, W/kw, C)."""
        y = np.maximum.reduce(places, 1, out=self.y[part])
        if self.wins is not None:
            wins = _first(np.equal(places, y[:, None], out=self.wins[part]).swapaxes(0, 1))  # the first of equals
            if np.isnan(y.max(initial=0)):
                wins |= _first(np.isnan(places).swapaxes(0, 1)[::-1])[::-1]  # the last of NaNs
        if self.relu:
            np.maximum(y, 0, out=y)

    def give(self, part: slice, g: Array) -> Array:
        """The gradient of this part of the images, sorted by place, from that of their output (m, H/kh, W/kw, C)."""
        assert self.wins is not None
        wins = self.wins[part]
        if self.relu:
            stopped = self.y[part] <= 0  # false for NaN
            g = chosen(g, np.logical_not(stopped, out=stopped), CPU.empty(g.shape, g.dtype))
        return chosen(g[:, None], wins, CPU.empty(wins.shape, self.y.dtype))


def by_place(images: Array, square: Pair) -> Array:
    """Images (m, H, W, C) sorted by each pixel's place in its square: (m, sh*sw, H/sh, W/sw, C)."""
    (m, h, w, c), (sh, sw) = images.shape, square
    places = CPU.empty((m, sh * sw, h // sh, w // sw, c), images.dtype)
    view = squares(pixels(np.ascontiguousarray(images)), square)
    pixels(places).reshape(view.shape)[...] = view
    return places


def put(images: Array, places: Array, square: Pair) -> None:
    """The inverse: fill `images` with pixels that are sorted by place; with (1, 1), a plain copy."""
    if square == (1, 1):
        images[...] = places.reshape(images.shape)
    else:
        view = squares(pixels(images), square)
        view[...] = pixels(places).reshape(view.shape)


def squares(images: Array, square: Pair) -> Array:
    """A view of images (m, H, W, ...) by each pixel's place in its square: (m, sh, sw, H/sh, W/sw, ...)."""
    (m, h, w, *rest), (sh, sw) = images.shape, square
    view = images.reshape(m, h // sh, sh, w // sw, sw, *rest)
    return view.transpose(0, 2, 4, 1, 3, *range(5, view.ndim))


def pixels(images: Array) -> Array:
    """(..., C) as (...): the channels of a pixel as one item, which NumPy copies at once."""
    return images.view(np.dtype((np.void, images.shape[-1] * images.itemsize)))[..., 0]


CPU.kernels["max_pool2d"] = max_pool2d
