"""Max and average pooling in loops: any window, stride and padding. A part of the work is some of the images.

Of images (N, H, W, C) a window is looked through pixel by pixel, all channels in one run. Planes are images of one
channel, (N * C, H, W): there a line of windows is looked through at once, each at the same place, then at the next.
Only the pixels of a window that lie in the image count for the maximum; for the mean those around it count as 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import FEW, crew, cuts, empty, stored, usual
from minidl.fast.loops.team import share
from minidl.fast.loops.words import copy, entry
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Tensor, record


@part
def inside(place, kernel, stride, padding, size):
    """(first, from, to): the pixel where a window begins along an axis, and which of its places lie in the image."""
    first = place * stride - padding
    return first, max(0, -first), min(kernel, size - first)


@part
def within(place, stride, padding, size, count):
    """(from, to): of so many windows along an axis, those that have this place of theirs in the image."""
    return max(0, -((place - padding) // stride)), min(count, (size - 1 + padding - place) // stride + 1)


# ---- the largest ----


@part
def best_of_pixel(pixel, at, channels, y, winner):
    """One more pixel of a window. y, winner (C,): the largest numbers so far, and where in the image they are."""
    for c in range(len(y)):
        v = pixel[c]
        more = v > y[c] or v != v  # NaN wins; of equal numbers the first
        y[c] = v if more else y[c]
        winner[c] = at + channels[c] if more else winner[c]


@part
def best_of_4(pixels, at, channels, y, winner):
    """All of the usual window, 2 x 2, in one loop."""
    (a, b, c, d), (at_a, at_b, at_c, at_d) = pixels, at
    for k in range(len(y)):
        u, v, w, best, place = b[k], c[k], d[k], a[k], at_a
        more = u > best or u != u
        best, place = u if more else best, at_b if more else place
        more = v > best or v != v
        best, place = v if more else best, at_c if more else place
        more = w > best or w != w
        y[k] = w if more else best
        winner[k] = (at_d if more else place) + channels[k]


@part
def best_of_image(image, kernel, stride, padding, channels, y, winners):
    """image (H, W, C); y, winners (OH, OW, C)."""
    (kh, kw), (sh, sw), (ph, pw), (h, w, c) = kernel, stride, padding, image.shape
    for oh in range(y.shape[0]):
        top, i0, i1 = inside(oh, kh, sh, ph, h)
        for ow in range(y.shape[1]):
            left, j0, j1 = inside(ow, kw, sw, pw, w)
            best, winner = y[oh, ow], winners[oh, ow]
            at, right, below = np.int32((top * w + left) * c), np.int32(c), np.int32(w * c)
            if kh == 2 and kw == 2 and i1 - i0 == 2 and j1 - j0 == 2:
                pixels = image[top, left], image[top, left + 1], image[top + 1, left], image[top + 1, left + 1]
                best_of_4(pixels, (at, at + right, at + below, at + below + right), channels, best, winner)
            else:
                copy(best, image[top + i0, left + j0], c)
                first = at + np.int32(i0) * below + np.int32(j0) * right
                for k in range(len(channels)):
                    winner[k] = first + channels[k]
                for a in range(i0, i1):
                    for b in range(j0, j1):
                        there = at + np.int32(a) * below + np.int32(b) * right
                        best_of_pixel(image[top + a, left + b], there, channels, best, winner)


@part
def best_part(i, parts, x, kernel, stride, padding, y, winners):
    """Some images."""
    channels = np.arange(x.shape[3]).astype(np.int32)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        best_of_image(x[n], kernel, stride, padding, channels, y[n], winners[n])


@loop
def largest(team, x, kernel, stride, padding, y, winners):
    """y (N, OH, OW, C): the largest number of each window of x (N, H, W, C); winners: where in the image it is."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(best_part, (parts, x, kernel, stride, padding, y, winners)))


@part
def best_of_line(line, step, at, y, winner):
    """The same place of a line of windows, which are `step` apart."""
    for k in range(len(y)):
        v = line[k * step]
        more = v > y[k] or v != v
        y[k] = v if more else y[k]
        winner[k] = at + k * step if more else winner[k]


@part
def best_of_2_by_2(x, lines, begin, y, winner):
    """All of a plane with the usual windows, 2 x 2 and side by side, in one loop, for a line of them is short.

    x (H, W); y, winner (OH, OW); begin (OH * OW,): where in x the windows begin; lines (2, 2 * OH * OW) is memory
    """
    (oh, ow), one, width = y.shape, np.int32(1), np.int32(x.shape[1])
    for i in range(oh):
        for half in range(2):
            copy(lines[half, 2 * i * ow :], x[2 * i + half], 2 * ow)
    upper, lower, y, winner = lines[0], lines[1], y.ravel(), winner.ravel()
    for k in range(len(begin)):
        best, place, u, v, w = upper[2 * k], begin[k], upper[2 * k + 1], lower[2 * k], lower[2 * k + 1]
        more = u > best or u != u
        best, place = u if more else best, begin[k] + one if more else place
        more = v > best or v != v
        best, place = v if more else best, begin[k] + width if more else place
        more = w > best or w != w
        y[k] = w if more else best
        winner[k] = begin[k] + width + one if more else place


@part
def best_plane_part(i, parts, x, kernel, stride, padding, y, winners):
    """Some images."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), count = kernel, stride, padding, x.shape, y.shape[2]
    two_by_two = kh == 2 and kw == 2 and sh == 2 and sw == 2 and ph == 0 and pw == 0
    windows = y.shape[1] * count if two_by_two else 0
    lines, begin = np.empty((2, 2 * windows), x.dtype), np.empty(windows, np.int32)
    for k in range(windows):
        begin[k] = 2 * (k // count * w + k % count)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        if two_by_two:
            best_of_2_by_2(x[n], lines, begin, y[n], winners[n])
            continue
        for oh in range(y.shape[1]):
            top, i0, i1 = inside(oh, kh, sh, ph, h)
            y[n, oh] = -np.inf
            for k in range(count):
                winners[n, oh, k] = (top + i0) * w + max(0, k * sw - pw)
            for a in range(i0, i1):
                for b in range(kw):
                    k0, k1 = within(b, sw, pw, w, count)
                    first = k0 * sw - pw + b
                    line, at, best, winner = x[n, top + a, first:], (top + a) * w + first, y[n, oh], winners[n, oh]
                    if sw == 1:  # a number that is known beforehand lets it be done by vectors
                        best_of_line(line, 1, at, best[k0:k1], winner[k0:k1])
                    elif sw == 2:
                        best_of_line(line, 2, at, best[k0:k1], winner[k0:k1])
                    else:
                        best_of_line(line, sw, at, best[k0:k1], winner[k0:k1])


@loop
def largest_of_planes(team, x, kernel, stride, padding, y, winners):
    """The same for planes: y, winners (N, OH, OW), x (N, H, W)."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(best_plane_part, (parts, x, kernel, stride, padding, y, winners)))


@part
def give_part(i, parts, g, winners, dx):
    """Some images."""
    zero = dx.dtype.type(0)
    for n in range(len(g) * i // parts, len(g) * (i + 1) // parts):
        image, dy, winner = dx[n], g[n], winners[n]
        image[:] = zero
        for k in range(len(dy)):
            image[winner[k]] += dy[k]


@loop
def give(team, g, winners, dx):
    """Each gradient to where the largest number was. g, winners (N, numbers of a result), dx (N, those of an image)."""
    parts = cuts(len(dx), dx.size)
    share(team, parts, entry(give_part, (parts, g, winners, dx)))


# ---- the mean ----


@part
def add_pixels(i, parts, x, kernel, stride, padding, y, back):
    """Images (N, H, W, C) and the means of their windows; `back`: from these to those."""
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
    """The same place of a line of windows, which are `step` apart."""
    if back:
        for k in range(len(mean)):
            line[k * step] += mean[k] * fraction
    else:
        for k in range(len(mean)):
            mean[k] += line[k * step] * fraction


@part
def add_planes(i, parts, x, kernel, stride, padding, y, back):
    """The same for planes, x (N, H, W) and y (N, OH, OW)."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), count = kernel, stride, padding, x.shape, y.shape[2]
    fraction, zero = x.dtype.type(1 / (kh * kw)), x.dtype.type(0)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        (x if back else y)[n] = zero
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
    """y (N, OH, OW, C): the mean of each window of x (N, H, W, C). Or x, with `back`: each number of y shared evenly
    among the pixels of its window."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(add_pixels, (parts, x, kernel, stride, padding, y, back)))


@loop
def means_of_planes(team, x, kernel, stride, padding, y, back):
    """The same for planes: x (N, H, W), y (N, OH, OW)."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(add_planes, (parts, x, kernel, stride, padding, y, back)))


# ---- the operations ----


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    window = fitting(x.shape, k, stride, padding) if plain(x) else None
    if window is None or x.size // len(x) >= 1 << 31:
        return NotImplemented
    few = x.shape[1] < FEW
    y = empty(results(x.shape, *window), x.dtype, few)
    winners, run = np.empty(y.shape, np.int32), largest_of_planes if few else largest
    run(crew(x.size), one_channel(stored(x.data, few), few), *window, one_channel(y, few), one_channel(winners, few))

    def vjp(g: Array) -> Array:
        n = len(x) * (x.shape[1] if few else 1)
        dx = empty(x.shape, x.dtype, few)
        give(crew(x.size), stored(g, few).reshape(n, -1), winners.reshape(n, -1), dx.reshape(n, -1))
        return usual(dx, few)

    return record("max_pool2d", usual(y, few), (x, vjp))


def avg_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.avg_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    window = fitting(x.shape, k, stride, padding) if plain(x) else None
    if window is None:
        return NotImplemented
    few = x.shape[1] < FEW
    y = empty(results(x.shape, *window), x.dtype, few)
    run = means_of_planes if few else means
    run(crew(x.size), one_channel(stored(x.data, few), few), *window, one_channel(y, few), False)

    def vjp(g: Array) -> Array:
        dx = empty(x.shape, x.dtype, few)
        run(crew(x.size), one_channel(dx, few), *window, one_channel(stored(g, few), few), True)
        return usual(dx, few)

    return record("avg_pool2d", usual(y, few), (x, vjp))


def fitting(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> tuple[Pair, Pair, Pair] | None:
    """(window, stride, padding), or None where that is nothing that we compute; the reference says what is wrong."""
    if len(shape) != 4 or 0 in shape:
        return None
    kernel, pad = _pair(k), _pair(padding)
    step = kernel if stride is None else _pair(stride)
    if min(*kernel, *step) < 1 or min(pad) < 0 or 2 * pad[0] > kernel[0] or 2 * pad[1] > kernel[1]:
        return None
    return (kernel, step, pad) if min(results(shape, kernel, step, pad)) > 0 else None


def results(shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, ...]:
    """(N, C, OH, OW)."""
    oh, ow = ((shape[i + 2] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return (*shape[:2], oh, ow)


def one_channel(images: Array, few: bool) -> Array:
    """Planes (N, C, H, W) as (N * C, H, W); images that lie otherwise as they are."""
    return images.reshape(-1, *images.shape[2:]) if few else images
