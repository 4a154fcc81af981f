"""Average pooling in loops, structured as in pools.py; padding counts as 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import FEW, crew, cuts, empty, stored, usual
from minidl.fast.loops.pools import fitting, inside, one_channel, pick_up, results, two_by_two, within
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry
from minidl.ops_conv import Size
from minidl.tensor import Tensor, record


@part
def add_pixels(i, parts, x, kernel, stride, padding, y, back):
    """From images (N, H, W, C) to the means of their windows; with `back`, their gradients the other way."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w, _) = kernel, stride, padding, x.shape
    fraction, zero = x.dtype.type(1 / (kh * kw)), x.dtype.type(0)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        (x if back else y)[n] = zero
        for oh in range(y.shape[1]):
            top, i0, i1 = inside(oh, kh, sh, ph, h)
            for ow in range(y.shape[2]):
                left, j0, j1 = inside(ow, kw, sw, pw, w)
                mean = y[n, oh, ow]
                for a in range(i0, i1):
                    for b in range(j0, j1):
                        pixel = x[n, top + a, left + b]
                        if back:
                            for c in range(len(mean)):
                                pixel[c] += mean[c] * fraction
                        else:
                            for c in range(len(mean)):
                                mean[c] += pixel[c] * fraction


@part
def add_line(line, step, fraction, mean, back):
    """One place of all windows in a line, which are `step` apart."""
    if back:
        for k in range(len(mean)):
            line[k * step] += mean[k] * fraction
    else:
        for k in range(len(mean)):
            mean[k] += line[k * step] * fraction


@part
def add_2_by_2(lines, fraction, mean, back):
    """All 2 x 2 windows of a plane, as gathered by pick_up()."""
    upper, lower, zero = lines[0], lines[1], mean.dtype.type(0)
    for k in range(len(mean)):
        if back:
            upper[2 * k] = upper[2 * k + 1] = lower[2 * k] = lower[2 * k + 1] = zero + mean[k] * fraction
        else:
            first = zero + upper[2 * k] * fraction + upper[2 * k + 1] * fraction
            mean[k] = first + lower[2 * k] * fraction + lower[2 * k + 1] * fraction


@part
def add_planes(i, parts, x, kernel, stride, padding, y, back):
    """The same for planes, x (N, H, W) and y (N, OH, OW)."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), count = kernel, stride, padding, x.shape, y.shape[2]
    fraction, zero = x.dtype.type(1 / (kh * kw)), x.dtype.type(0)
    usual_windows = two_by_two(kernel, stride, padding)
    lines = np.empty((2, 2 * y[0].size if usual_windows else 0), x.dtype)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        (x if back else y)[n] = zero
        if usual_windows:
            if not back:
                pick_up(x[n], lines, y[n].shape, False)
            add_2_by_2(lines, fraction, y[n].ravel(), back)
            if back:
                pick_up(x[n], lines, y[n].shape, True)
            continue
        for oh in range(y.shape[1]):
            top, i0, i1 = inside(oh, kh, sh, ph, h)
            for a in range(i0, i1):
                for b in range(kw):
                    k0, k1 = within(b, sw, pw, w, count)
                    line, mean = x[n, top + a, k0 * sw - pw + b :], y[n, oh, k0:k1]
                    if sw == 1:
                        add_line(line, 1, fraction, mean, back)
                    elif sw == 2:
                        add_line(line, 2, fraction, mean, back)
                    else:
                        add_line(line, sw, fraction, mean, back)


@loop
def means(team, x, kernel, stride, padding, y, back):
    """y (N, OH, OW, C): the mean of each window of x (N, H, W, C). Or x, with `back`: each element of y spread evenly
    over the pixels of its window."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(add_pixels, (parts, x, kernel, stride, padding, y, back)))


@loop
def means_of_planes(team, x, kernel, stride, padding, y, back):
    """The same for planes: x (N, H, W), y (N, OH, OW)."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(add_planes, (parts, x, kernel, stride, padding, y, back)))


def avg_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.avg_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    window = fitting(x.shape, k, stride, padding) if plain(x) else None
    if window is None:
        return NotImplemented
    few = x.shape[1] < FEW
    y = empty(results(x.shape, *window), x.dtype, few)
    run = means_of_planes if few else means
    run(crew(x.data.size), one_channel(stored(x.data, few), few), *window, one_channel(y, few), False)

    def vjp(g: Array) -> Array:
        dx = empty(x.shape, x.dtype, few)
        run(crew(x.data.size), one_channel(dx, few), *window, one_channel(stored(g, few), few), True)
        return usual(dx, few)

    return record("avg_pool2d", usual(y, few), (x, vjp))
