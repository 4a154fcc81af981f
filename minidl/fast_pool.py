"""Max pooling for the CPU's caches, some images (N, H, W, C) at a time: see fast_conv.py.

The pixels are sorted by their place in the window: all first ones, then all second ones, ... Then the maximum is a few
passes over long arrays. Backward goes the other way: a place that beat all before it takes the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import buffers
from minidl.backend import CPU, Array
from minidl.fast import BOOL, LARGE, channels_last, plain
from minidl.fast_threads import fitting, parts, split
from minidl.fast_windows import by_place
from minidl.grad_mode import is_recording
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Tensor, record


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. Windows side by side, that leave no rest: (N, C, H, W) -> (N, C, H/kh, W/kw)."""
    if not plain(x) or x.ndim != 4 or not side_by_side(x.shape, k, stride, padding):
        return NotImplemented
    pool = MaxPool(x.shape, _pair(k), x.dtype, x.requires_grad)
    images, large = channels_last(x.data), x.size > LARGE

    def forward(start: int, stop: int) -> None:
        chunk = fitting(stop - start, 2 * images[0].nbytes)
        memory = pool.memory(chunk)
        for part in parts(start, stop, chunk):
            places = memory[: part.stop - part.start]
            pixels(places)[...] = by_place(pixels(np.ascontiguousarray(images[part])), pool.kernel)
            pool.take(part, places)

    def vjp(g: Array) -> Array:
        dx = buffers.empty(images.shape, x.dtype)

        def backward(start: int, stop: int) -> None:
            chunk = fitting(stop - start, 2 * images[0].nbytes)
            memory = pool.memory(chunk)
            for part in parts(start, stop, chunk):
                places = pool.give(part, channels_last(g)[part], memory)
                by_place(pixels(dx[part]), pool.kernel)[...] = pixels(places)

        split(backward, len(images), large)
        return dx.transpose(0, 3, 1, 2)

    split(forward, len(images), large)
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
        self.first, *self.others = ((slice(None), *place) for place in np.ndindex(kernel))  # row by row
        self.y = buffers.empty((n, h // kh, w // kw, c), dtype)
        learns = learns and is_recording()
        self.wins = buffers.empty((n, *kernel, *self.y.shape[1:]), BOOL) if learns else None  # beats all before it

    def memory(self, m: int) -> Array:
        """For the pixels of m images by place: (m, kh, kw, H/kh, W/kw, C)."""
        return buffers.empty((m, *self.kernel, *self.y.shape[1:]), self.y.dtype)

    def take(self, part: slice, places: Array) -> None:
        """Pool this part of the images, given by place."""
        best, y = places[self.first], self.y[part]
        for place in self.others:
            if self.wins is not None:
                np.greater(places[place], best, out=self.wins[part][place])
            best = np.maximum(places[place], best, out=y)
        if self.relu:
            np.maximum(y, 0, out=y)

    def give(self, part: slice, g: Array, memory: Array) -> Array:
        """The gradient of this part of the images, by place, from that of their results (m, H/kh, W/kw, C)."""
        assert self.wins is not None
        places = memory[: len(g)]
        rest = places[self.first]
        np.multiply(g, self.y[part] > 0, out=rest) if self.relu else np.copyto(rest, g)
        for place in reversed(self.others):
            rest -= np.multiply(rest, self.wins[part][place], out=places[place])
        return places


def pixels(images: Array) -> Array:
    """(..., C) as (...): the numbers of a pixel as one item, which NumPy copies in one go."""
    return images.view(np.dtype((np.void, images.shape[-1] * images.itemsize)))[..., 0]


CPU.kernels["max_pool2d"] = max_pool2d
