"""Max pooling in loops: any window, stride and padding. A part of the work is some of the images.

In images (N, H, W, C) a window is scanned pixel by pixel, with all channels in one contiguous loop. Planes are images
of one channel, (N * C, H, W): there many windows are scanned together, one place of all after another; see phases.py.
Pixels of a window outside the image are ignored. Average pooling is in mean_pools.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import FEW, crew, cuts, empty, stored, usual
from minidl.fast.loops.phases import MANY, gather, phase_places, phase_size, phase_start, split
from minidl.fast.loops.team import share
from minidl.fast.loops.words import copy, entry
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Tensor, record


@part
def inside(place, kernel, stride, padding, size):
    """(first, from, to): the pixel where a window starts along an axis, and which of its places are in the image."""
    first = place * stride - padding
    return first, max(0, -first), min(kernel, size - first)


# ---- the maximum ----


@part
def best_of_pixel(pixel, at, channels, y, winner):
    """One more pixel of a window. y, winner (C,): the maxima so far, and their indices in the image."""
    for c in range(len(y)):
        v = pixel[c]
        more = v > y[c] or v != v  # NaN wins; of equal values the first
        y[c] = v if more else y[c]
        winner[c] = at + channels[c] if more else winner[c]


@part
def best_of_window(pixels, places):
    """The maximum of a 2 x 2 window, and its place. NaN wins; of equal values the first."""
    (best, u, v, w), (place, at_u, at_v, at_w) = pixels, places
    more = u > best or u != u
    best, place = u if more else best, at_u if more else place
    more = v > best or v != v
    best, place = v if more else best, at_v if more else place
    more = w > best or w != w
    return w if more else best, at_w if more else place


@part
def best_of_4(pixels, places, channels, y, winner):
    """The whole of the usual window, 2 x 2, in one loop."""
    a, b, c, d = pixels
    for k in range(len(y)):
        y[k], place = best_of_window((a[k], b[k], c[k], d[k]), places)
        winner[k] = place + channels[k]


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
    """y (N, OH, OW, C): the maximum of each window of x (N, H, W, C); winners: its index in the image."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(best_part, (parts, x, kernel, stride, padding, y, winners)))


@part
def two_by_two(kernel, stride, padding):
    """Whether windows are the usual ones: 2 x 2, non-overlapping."""
    return kernel[0] == kernel[1] == stride[0] == stride[1] == 2 and padding[0] == padding[1] == 0


@part
def pick_up(x, lines, size, back):
    """Gather the upper lines of the 2 x 2 windows of a plane, and the lower; with `back`, scatter them to x.

    A line of windows is short, so it pays to process a plane in one loop. lines (2, 2 * OH * OW)
    """
    oh, ow = size
    for i in range(oh):
        for half in range(2):
            if back:
                copy(x[2 * i + half], lines[half, 2 * i * ow :], 2 * ow)
            else:
                copy(lines[half, 2 * i * ow :], x[2 * i + half], 2 * ow)


@part
def best_of_2_by_2(lines, begin, width, y, winner):
    """All 2 x 2 windows of a plane of this width, as gathered by pick_up(). y, winner, begin: the maximum of each
    window, its index, and that of the window's first pixel."""
    upper, lower, one, width = lines[0], lines[1], np.int32(1), np.int32(width)
    places = np.int32(0), one, width, width + one
    for k in range(len(begin)):
        y[k], place = best_of_window((upper[2 * k], upper[2 * k + 1], lower[2 * k], lower[2 * k + 1]), places)
        winner[k] = begin[k] + place


@part
def best_of_line(line, at, begin, y, winner):
    """One more pixel of all windows of a plane. begin: the index of each window's first pixel."""
    for k in range(len(y)):
        v = line[k]
        more = v > y[k] or v != v
        y[k] = v if more else y[k]
        winner[k] = begin[k] + at if more else winner[k]


@part
def best_plane_part(i, parts, x, kernel, stride, padding, y, winners):
    """Some planes. begin, first: the index of each window's pixel (0, 0), and that of its first pixel in the plane."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), (_, oh, ow) = kernel, stride, padding, x.shape, y.shape
    size, places = phase_size((h, w), stride, padding), phase_places((h, w), stride, padding)
    phases = np.full(sh * sw * size[0] * size[1], x.dtype.type(-np.inf))
    count = (oh - 1) * size[1] + ow
    begin, first = np.empty(count, np.int32), np.empty(count, np.int32)
    for k in range(count):
        top, left = k // size[1] * sh - ph, k % size[1] * sw - pw
        begin[k], first[k] = top * w + left, max(0, top) * w + max(0, left)
    best, winner = np.empty(count, x.dtype), np.empty(count, np.int32)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        split(x[n].ravel(), places, phases, False)
        best[:] = -np.inf
        winner[:] = first
        for a in range(kh):
            for b in range(kw):
                best_of_line(phases[phase_start(a, b, stride, size) :], np.int32(a * w + b), begin, best, winner)
        gather(best, size[1], y[n])
        gather(winner, size[1], winners[n])


@part
def largest_in(plane, rows, columns):
    """The maximum of a window of a plane, and whether it has a NaN: two chains, which the processor overlaps."""
    best, nan = plane.dtype.type(-np.inf), False
    for a in range(rows[0], rows[1]):
        pixels = plane[a, columns[0] : columns[1]]
        for b in range(len(pixels)):
            v = pixels[b]
            best = v if v > best else best
            nan |= v != v
    return best, nan


@part
def place_of(plane, rows, columns, best, nan):
    """(line, column) of the first maximum in a window, or of the last NaN."""
    line, column = rows[0], columns[0]
    for a in range(rows[0], rows[1]):
        pixels = plane[a, columns[0] : columns[1]]
        for b in range(len(pixels)):
            if nan and pixels[b] != pixels[b]:
                line, column = a, columns[0] + b
            elif not nan and pixels[b] == best:
                return a, columns[0] + b
    return line, column


@part
def best_scan_part(i, parts, x, kernel, stride, padding, y, winners):
    """Some planes with few windows: one after another."""
    (kh, kw), (sh, sw), (ph, pw), (_, h, w), (_, oh, ow) = kernel, stride, padding, x.shape, y.shape
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        for line in range(oh):
            top, i0, i1 = inside(line, kh, sh, ph, h)
            for window in range(ow):
                left, j0, j1 = inside(window, kw, sw, pw, w)
                rows, columns = (top + i0, top + i1), (left + j0, left + j1)
                best, nan = largest_in(x[n], rows, columns)
                a, b = place_of(x[n], rows, columns, best, nan)
                y[n, line, window], winners[n, line, window] = x[n, a, b], a * w + b


@part
def best_2_by_2_part(i, parts, x, y, winners):
    """Some planes."""
    (_, oh, ow), w = y.shape, x.shape[2]
    lines, begin = np.empty((2, 2 * oh * ow), x.dtype), np.empty(oh * ow, np.int32)
    for k in range(oh * ow):
        begin[k] = 2 * (k // ow * w + k % ow)
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        pick_up(x[n], lines, (oh, ow), False)
        best_of_2_by_2(lines, begin, w, y[n].ravel(), winners[n].ravel())


@loop
def largest_of_planes(team, x, kernel, stride, padding, y, winners):
    """The same for planes: y, winners (N, OH, OW), x (N, H, W)."""
    parts = cuts(len(x), x.size)
    if two_by_two(kernel, stride, padding):
        share(team, parts, entry(best_2_by_2_part, (parts, x, y, winners)))
    elif y[0].size >= MANY:
        share(team, parts, entry(best_plane_part, (parts, x, kernel, stride, padding, y, winners)))
    else:
        share(team, parts, entry(best_scan_part, (parts, x, kernel, stride, padding, y, winners)))


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
    """Scatter each gradient to the place of its maximum. g, winners (N, output elements), dx (N, image elements)."""
    parts = cuts(len(dx), dx.size)
    share(team, parts, entry(give_part, (parts, g, winners, dx)))


# ---- the operation ----


def max_pool2d(x: Tensor, k: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """See ops.max_pool2d. (N, C, H, W) -> (N, C, OH, OW)."""
    window = fitting(x.shape, k, stride, padding) if plain(x) else None
    if window is None or x.data.size // len(x) >= 1 << 31:
        return NotImplemented
    size, few = x.data.size, x.shape[1] < FEW
    y = empty(results(x.shape, *window), x.dtype, few)
    winners, run = np.empty(y.shape, np.int32), largest_of_planes if few else largest
    run(crew(size), one_channel(stored(x.data, few), few), *window, one_channel(y, few), one_channel(winners, few))

    def vjp(g: Array) -> Array:
        n = len(x) * (x.shape[1] if few else 1)
        dx = empty(x.shape, x.dtype, few)
        give(crew(size), stored(g, few).reshape(n, -1), winners.reshape(n, -1), dx.reshape(n, -1))
        return usual(dx, few)

    return record("max_pool2d", usual(y, few), (x, vjp))


def fitting(shape: tuple[int, ...], k: Size, stride: Size | None, padding: Size) -> tuple[Pair, Pair, Pair] | None:
    """(window, stride, padding), or None where these loops do not support it and the reference takes over."""
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
    """Planes (N, C, H, W) as (N * C, H, W); images in the other layout as they are."""
    return images.reshape(-1, *images.shape[2:]) if few else images
