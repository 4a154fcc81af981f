"""Average pooling in loops, structured as in pools.py; padding counts as 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import FEW, crew, cuts, empty, stored, usual
from minidl.fast.loops.phases import MANY, gather, phase_places, phase_size, phase_start, split
from minidl.fast.loops.pools import fitting, inside, one_channel, pick_up, results, two_by_two
from minidl.fast.loops.team import share
from minidl.fast.loops.words import copy, entry
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
def add_line(line, fraction, mean, back):
    """One pixel of all windows of a plane."""
    if back:
        for k in range(len(mean)):
            line[k] += mean[k] * fraction
    else:
        for k in range(len(mean)):
            mean[k] += line[k] * fraction


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
    (kh, kw), (sh, sw), (_, h, w), (_, oh, ow) = kernel, stride, x.shape, y.shape
    fraction, zero = x.dtype.type(1 / (kh * kw)), x.dtype.type(0)
    size, places = phase_size((h, w), stride, padding), phase_places((h, w), stride, padding)
    phases, means = np.zeros(sh * sw * size[0] * size[1], x.dtype), np.zeros((oh - 1) * size[1] + ow, x.dtype)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        if back:
            phases[:] = zero
            for line in range(oh):
                copy(means[line * size[1] :], y[n, line], ow)
        else:
            means[:] = zero
            split(x[n].ravel(), places, phases, back)
        for nth in range(kh):
            a = kh - 1 - nth if back else nth  # backward, each pixel's windows in their order
            for b in range(kw):
                add_line(phases[phase_start(a, b, stride, size) :], fraction, means, back)
        if back:
            split(x[n].ravel(), places, phases, back)
        else:
            gather(means, size[1], y[n])


@part
def add_scan(i, parts, x, kernel, stride, padding, y, back):
    """The same for planes, one window after another."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), (_, oh, ow) = kernel, stride, padding, x.shape, y.shape
    fraction, zero = x.dtype.type(1 / (kh * kw)), x.dtype.type(0)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        if back:
            x[n] = zero
        for line in range(oh):
            top, i0, i1 = inside(line, kh, sh, ph, h)
            for window in range(ow - 1, -1, -1):
                left, j0, j1 = inside(window, kw, sw, pw, w)
                mean, share_of = zero, y[n, line, window] * fraction
                for a in range(top + i0, top + i1):
                    pixels = x[n, a, left + j0 : left + j1]
                    for b in range(len(pixels)):
                        if back:
                            pixels[b] += share_of
                        else:
                            mean += pixels[b] * fraction
                if not back:
                    y[n, line, window] = mean


@part
def add_2_by_2_part(i, parts, x, y, back):
    """The same for the usual windows, 2 x 2."""
    lines, fraction = np.empty((2, 2 * y[0].size), x.dtype), x.dtype.type(1 / 4)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        if back:
            x[n] = x.dtype.type(0)
            add_2_by_2(lines, fraction, y[n].ravel(), back)
            pick_up(x[n], lines, y[n].shape, back)
        else:
            pick_up(x[n], lines, y[n].shape, back)
            add_2_by_2(lines, fraction, y[n].ravel(), back)


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
    if two_by_two(kernel, stride, padding):
        share(team, parts, entry(add_2_by_2_part, (parts, x, y, back)))
    elif y[0].size >= MANY and (kernel[0] > stride[0] or kernel[1] > stride[1]):  # several windows share a pixel
        share(team, parts, entry(add_planes, (parts, x, kernel, stride, padding, y, back)))
    else:
        share(team, parts, entry(add_scan, (parts, x, kernel, stride, padding, y, back)))


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
