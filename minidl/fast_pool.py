"""Max pooling for the CPU's caches, some images (N, H, W, C) at a time: see fast_conv.py.

The pixels are sorted by their place in the window: all first ones, then all second ones, ... Then the maximum is a pass
over long arrays, and so is backward: each place has a mark for the pixels that the gradient goes to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import CPU, Array
from minidl.fast import BOOL, channels_last, plain
from minidl.fast_threads import fitting, parts
from minidl.fast_windows import by_place
from minidl.grad_mode import is_recording
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Tensor, record


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Windows side by side, that leave no rest: (N, C, H, W) -> (N, C, H/kh, W/kw)."""
    if not plain(x) or x.ndim != 4 or not side_by_side(x.shape, k, stride, padding):
        return NotImplemented
    pool = MaxPool(x.shape, _pair(k), x.dtype, x.requires_grad)
    images = channels_last(x.data)
    memory = pool.memory(fitting(len(images), 2 * images[0].nbytes))
    for part in parts(0, len(images), len(memory)):
        view = by_place(pixels(np.ascontiguousarray(images[part])), pool.kernel)
        places = memory[: len(view)]
        pixels(places).reshape(view.shape)[...] = view
        pool.take(part, places)

    def vjp(g: Array) -> Array:
        dx, memory = buffers.empty(images.shape, x.dtype), pool.memory(fitting(len(images), 2 * images[0].nbytes))
        for part in parts(0, len(images), len(memory)):
            view = by_place(pixels(dx[part]), pool.kernel)
            view[...] = pixels(pool.give(part, channels_last(g)[part], memory)).reshape(view.shape)
        return dx.transpose(0, 3, 1, 2)

    return record("max_pool2d", pool.y.transpose(0, 3, 1, 2), (x, vjp))


def side_by_side(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> bool:
    """Whether the windows of a pooling neither overlap nor leave a rest of images (N, C, H, W)."""
    kernel = kh, kw = _pair(k)
    step = kernel if stride is None else _pair(stride)
    fits = min(*shape, kh, kw) > 0 and _pair(padding) == (0, 0) and step == kernel
    return fits and kh * kw > 1 and shape[2] % kh == shape[3] % kw == 0


class MaxPool:
    """The pooling of images of shape (N, C, H, W), some at a time, and with `relu` the ReLU of its results.

    The ReLU comes last, where there is least to do: the largest of some numbers, or 0, either way.
    """

    def __init__(self, shape: tuple[int, ...], kernel: Pair, dtype: Any, learns: bool, relu: bool = False) -> None:
        (n, c, h, w), (kh, kw) = shape, kernel
        self.kernel, self.relu = kernel, relu
        self.y = buffers.empty((n, h // kh, w // kw, c), dtype)
        learns = learns and is_recording()
        self.wins = buffers.empty((n, kh * kw, *self.y.shape[1:]), BOOL) if learns else None  # which place is largest

    def memory(self, m: int) -> Array:
        """For the pixels of m images by place: (m, kh*kw, H/kh, W/kw, C)."""
        return buffers.empty((m, self.kernel[0] * self.kernel[1], *self.y.shape[1:]), self.y.dtype)

    def take(self, part: slice, places: Array) -> None:
        """Pool this part of the images, given by place."""
        y = np.maximum.reduce(places, 1, out=self.y[part])
        if self.wins is not None:
            wins = np.equal(places, y[:, None], out=self.wins[part])
            before = wins[:, 0].copy()
            for i in range(1, wins.shape[1]):  # of equal values the first
                np.greater(wins[:, i], before, out=wins[:, i])
                before |= wins[:, i]
        if self.relu:
            np.maximum(y, 0, out=y)

    def give(self, part: slice, g: Array, memory: Array) -> Array:
        """The gradient of this part of the images, by place, from that of their results (m, H/kh, W/kw, C)."""
        assert self.wins is not None
        g = g * (self.y[part] > 0) if self.relu else g
        return np.multiply(self.wins[part], g[:, None], out=memory[: len(g)])


def pixels(images: Array) -> Array:
    """(..., C) as (...): the numbers of a pixel as one item, which NumPy copies in one go."""
    return images.view(np.dtype((np.void, images.shape[-1] * images.itemsize)))[..., 0]


CPU.kernels["max_pool2d"] = max_pool2d
