"""Convolutions, some lines of an image at a time: as many as stay in the cache.

The windows of these lines are copied to a matrix (im2col, see windows.py), used at once, and overwritten for the next
lines; backward copies them again. A part of the work is some of the images.

A max pooling after the convolution reads its output while it is in the cache, and only the pooled output is stored.
"""

from __future__ import annotations

import numpy as np

from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.dense import finish, masked, product
from minidl.fast.loops.layout import turn
from minidl.fast.loops.pools import best_of_image
from minidl.fast.loops.team import share
from minidl.fast.loops.windows import add_back, blocks, cut_in, lay_out, padded, padding_room
from minidl.fast.loops.words import copy, entry

WORTH = 1 << 19  # multiplications in a part


@part
def cuts(images, multiplications):
    """How many parts this many images, with this many multiplications in all, are split into."""
    return max(1, min(16, images, multiplications // WORTH))


@part
def finish_planes(y, b, relu):
    """finish() for y (n, pixels) and b (n,)."""
    zero = y.dtype.type(0)
    for i in range(len(y)):
        row, bias = y[i], b[i]
        for j in range(len(row)):
            v = row[j] + bias
            row[j] = zero if v <= zero and relu else v


@part
def forward_part(i, parts, blas, x, w, b, y, winners, few, few_out, size, kernel, stride, padding, relu, pool):
    """Some images. x as padded() takes it, w (K, out) for K elements of a window, y (N, OH, OW, out) or planes.

    winners  where the pooling found the maxima, y; empty without a pooling
    pool     its kernel, stride and padding
    """
    count, k, out = len(y), len(w), w.shape[1]
    oh, ow = size
    start, stop = count * i // parts, count * (i + 1) // parts
    together, most = blocks(stop - start, size, k, x.itemsize)
    windows = np.empty((k, most * ow) if few else (most * ow, k), x.dtype)
    whole, places = padding_room(together, x, few, padding, stride[1])
    planes = np.empty((out, most * ow) if few_out else (0, 0), x.dtype)
    pixels = np.empty((most * ow, out) if few_out and not few else (0, 0), x.dtype)
    found = np.empty((together * oh if winners.size else 0, ow * out), x.dtype)
    channels = np.arange(out).astype(np.int32)
    lines_of_b = np.empty((ow, len(b)), x.dtype)
    for line in range(ow if len(b) else 0):
        copy(lines_of_b[line], b, len(b))
    for n in range(start, stop, together):
        m = min(together, stop - n)
        images = padded(x[n : n + m], few, padding, whole, places)
        for line in range(0, m * oh, most):
            lines = min(most, m * oh - line)
            lay_out(images, few, line, lines, size, kernel, stride, windows)
            rows = windows[:, : lines * ow].T if few else windows[: lines * ow]
            if few_out:
                part_of = planes[:, : lines * ow]
                if few:
                    product(blas, w.T, rows.T, part_of, 0)
                else:  # transposing the windows would take BLAS three times as long as the product
                    product(blas, rows, w, pixels[: lines * ow], 0)
                    turn(pixels, part_of)
                for o in range(out):
                    for nth in range(lines):
                        copy(y[n + (line + nth) // oh, o, (line + nth) % oh], part_of[o, nth * ow :], ow)
            else:
                if winners.size:
                    result = found[line : line + lines]
                else:
                    result = y.reshape(count * oh, ow * out)[n * oh + line : n * oh + line + lines]
                product(blas, rows, w, result.reshape(lines * ow, out), 0)
                finish(result, slice(0, lines), slice(0, lines_of_b.size), lines_of_b.ravel(), relu)
        for j in range(m if winners.size else 0):
            image = found[j * oh : (j + 1) * oh].reshape(oh, ow, out)
            best_of_image(image, pool[0], pool[1], pool[2], channels, y[n + j], winners[n + j])
    if few_out and len(b):
        for n in range(start, stop):
            finish_planes(y[n].reshape(out, oh * ow), b, relu)


@loop
def forward(team, blas, x, w, b, y, winners, few, few_out, size, kernel, stride, padding, relu, pool):
    """y = the convolution of x, + b, max(., 0) with `relu`, and pooled where `winners` is not empty."""
    parts = cuts(len(x), len(x) * size[0] * size[1] * w.size)
    share(
        team, parts,
        entry(forward_part,
              (parts, blas, x, w, b, y, winners, few, few_out, size, kernel, stride, padding, relu, pool)),
    )  # fmt: skip


# ---- backward ----


@part
def room_for(images, size, out, few_out, dtype):
    """A buffer for the convolution's output of this many images."""
    return np.empty((images, out, *size) if few_out else (images, *size, out), dtype)


@part
def given_back(g, y, winners, n, m, relu, memory):
    """The gradient of the convolution's own output, for images n to n + m: back through the pooling and the ReLU."""
    zero = g.dtype.type(0)
    if winners.size:
        for j in range(m):
            image, dy, out, winner = memory[j].ravel(), g[n + j].ravel(), y[n + j].ravel(), winners[n + j].ravel()
            image[:] = zero
            for k in range(len(dy)):
                image[winner[k]] += zero if relu and out[k] <= zero else dy[k]
        return memory[:m]
    if relu:
        masked(g[n : n + m], y[n : n + m], memory[:m])
        return memory[:m]
    return g[n : n + m]


@part
def sum_pixels(blas, ones, dy, few_out, db):
    """db += the sum of dy over the pixels of some images."""
    for n in range(len(dy)):
        image = dy[n]
        if few_out:
            planes = image.reshape(image.shape[0], -1)
            product(blas, planes, ones[: planes.shape[1]], db.T, 1)
        else:
            pixels = image.reshape(-1, image.shape[2])
            product(blas, ones[: len(pixels)].T, pixels, db, 1)


@part
def through_part(i, parts, blas, g, y, winners, x, w, dx, dws, dbs, few_out, size, kernel, padding, relu):
    """Some images at stride 1: x's gradient is a convolution of g with the filters rotated by 180 degrees.

    w and dws[i] are those filters and their gradient, (K, C) for K elements of a window of g.
    """
    (count, h, width, c), k, out = x.shape, len(w), g.shape[1] if few_out else g.shape[3]
    start, stop = count * i // parts, count * (i + 1) // parts
    together, most = blocks(stop - start, (h, width), k, g.itemsize)
    windows = np.empty((k, most * width) if few_out else (most * width, k), g.dtype)
    memory = room_for(together, size, out, few_out, g.dtype)
    whole, places = padding_room(together, memory, few_out, padding, 1)
    ones = np.ones((size[0] * size[1], 1), g.dtype)
    dw, db = dws[i], dbs[i : i + 1]
    dw[:] = 0
    db[:] = 0
    for n in range(start, stop, together):
        m = min(together, stop - n)
        dy = given_back(g, y, winners, n, m, relu, memory)
        sum_pixels(blas, ones, dy, few_out, db)
        images = padded(dy, few_out, padding, whole, places)
        for line in range(0, m * h, most):
            lines = min(most, m * h - line)
            lay_out(images, few_out, line, lines, (h, width), kernel, (1, 1), windows)
            rows = windows[:, : lines * width].T if few_out else windows[: lines * width]
            first = (n * h + line) * width
            product(blas, rows, w, dx.reshape(-1, c)[first : first + lines * width], 0)
            product(blas, rows.T, x.reshape(-1, c)[first : first + lines * width], dw, 1)


@part
def across_part(
    i, parts, blas, g, y, winners, x, w, turned, dx, dws, dbs, few, few_out, size, kernel, stride, padding, relu
):
    """Some images at any stride: x's gradient, where it is needed, is summed from those of its windows.

    w and dws[i] are the filters and their gradient, (K, out) for K elements of a window of x; `turned` is w^T.
    """
    count, k, out = len(g), len(w), w.shape[1]
    oh, ow = size
    start, stop = count * i // parts, count * (i + 1) // parts
    together, most = blocks(stop - start, size, k, g.itemsize)
    windows = np.empty((k, most * ow) if few else (most * ow, k), g.dtype)
    memory = room_for(together, size, out, few_out, g.dtype)
    whole, places = padding_room(together, x, few, padding, stride[1])
    planes = np.empty((out, most * ow) if few_out else (0, 0), g.dtype)
    ones = np.ones((size[0] * size[1], 1), g.dtype)
    dw, db = dws[i], dbs[i : i + 1]
    dw[:] = 0
    db[:] = 0
    for n in range(start, stop, together):
        m = min(together, stop - n)
        dy = given_back(g, y, winners, n, m, relu, memory)
        sum_pixels(blas, ones, dy, few_out, db)
        images = padded(x[n : n + m], few, padding, whole, places)
        back = np.zeros(images.shape, g.dtype) if dx.size else images
        for line in range(0, m * oh, most):
            lines = min(most, m * oh - line)
            lay_out(images, few, line, lines, size, kernel, stride, windows)
            rows = windows[:, : lines * ow].T if few else windows[: lines * ow]
            if few_out:
                those = planes[:, : lines * ow]
                for o in range(out):
                    for nth in range(lines):
                        copy(those[o, nth * ow :], dy[(line + nth) // oh, o, (line + nth) % oh], ow)
                pixels = those.T
            else:
                pixels = dy.reshape(m * oh * ow, out)[line * ow : (line + lines) * ow]
            product(blas, rows.T, pixels, dw, 1)
            if dx.size:
                if few:
                    product(blas, w, pixels.T, windows[:, : lines * ow], 0)
                else:
                    product(blas, pixels, turned, windows[: lines * ow], 0)
                add_back(windows, few, line, lines, size, kernel, stride, back)
        if dx.size:
            cut_in(dx[n : n + m], few, padding, places, back)


@part
def add_up(parts, total):
    """The sum of arrays, in order."""
    total = total.ravel()
    copy(total, parts, len(total))
    for i in range(1, len(parts)):
        one = parts[i].ravel()
        for j in range(len(total)):
            total[j] += one[j]


@loop
def through(team, blas, g, y, winners, x, w, dx, dw, db, few_out, size, kernel, padding, relu):
    """The gradients of x, the rotated filters w (K, C) and b, at stride 1; y, winners and relu as in forward()."""
    parts = cuts(len(x), 2 * dx.size * len(w))
    dws, dbs = np.empty((parts, *dw.shape), g.dtype), np.empty((parts, len(db)), g.dtype)
    share(
        team, parts,
        entry(through_part, (parts, blas, g, y, winners, x, w, dx, dws, dbs, few_out, size, kernel, padding, relu)),
    )  # fmt: skip
    add_up(dws, dw)
    add_up(dbs, db)


@loop
def across(team, blas, g, y, winners, x, w, dx, dw, db, few, few_out, size, kernel, stride, padding, relu):
    """The gradients of x (or empty), the filters w (K, out) and b; y, winners and relu as in forward()."""
    parts = cuts(len(x), 2 * len(x) * size[0] * size[1] * w.size)
    dws, dbs = np.empty((parts, *dw.shape), g.dtype), np.empty((parts, len(db)), g.dtype)
    turned = np.ascontiguousarray(w.T)  # contiguous: BLAS then makes no copy for each product
    share(
        team, parts,
        entry(across_part, (parts, blas, g, y, winners, x, w, turned, dx, dws, dbs, few, few_out, size, kernel, stride,
                            padding, relu)),
    )  # fmt: skip
    add_up(dws, dw)
    add_up(dbs, db)
