"""Batch normalization in two loops forward and two backward: the first of each computes sums, the second uses them.

Here x is a matrix of `lines`, each with the same channels in the same order: for images (N, H, W, C) a line is a row of
pixels, for planes (N, C, H, W) an image, for vectors (N, C) a vector. Every loop goes line by line, all columns side by
side, and the sums of a channel's columns are combined at the end. Normalized values are recomputed from x, not stored.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast import fuse
from minidl.fast.gpu.dense import once
from minidl.fast.linear import into, plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import FEW, crew, cuts, stored, usual
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry
from minidl.refuse import real
from minidl.tensor import Reading, Tensor, record

LINES = 16  # per block: they stay in the cache, and their sums are exact enough in their own precision

# ---- forward ----


@part
def measure_part(i, parts, x, means, squares):
    """The mean of each column, and the sum of squared deviations from it, over the lines of part i.

    Blocks are combined as in Chan, Golub & LeVeque (1979).
    """
    start, stop = len(x) * i // parts, len(x) * (i + 1) // parts
    mean, square = means[i], squares[i]
    m, s = np.empty(len(mean), x.dtype), np.empty(len(mean), x.dtype)
    mean[:] = 0
    square[:] = 0
    for first in range(start, stop, LINES):
        lines = x[first : min(first + LINES, stop)]
        m[:] = 0
        s[:] = 0
        base = lines[0]  # deviations from it are small, and add up without loss
        for r in range(len(lines)):
            line = lines[r]
            for j in range(len(line)):
                m[j] += line[j] - base[j]
        scale = x.dtype.type(1 / len(lines))
        for j in range(len(m)):
            m[j] *= scale
        for r in range(len(lines)):
            line = lines[r]
            for j in range(len(line)):
                d = line[j] - base[j] - m[j]
                s[j] += d * d
        before = first - start
        weight = len(lines) / (before + len(lines))
        for j in range(len(mean)):
            apart = base[j] + np.float64(m[j]) - mean[j]
            mean[j] += apart * weight
            square[j] += s[j] + apart * apart * (before * weight)


@loop
def measure(team, x, groups, mean, var):
    """The mean and the variance of each channel, in double precision. x (lines, columns), mean and var (C,).

    groups  (a, C, b), a * C * b = columns: to which channel a column belongs
    """
    lines, columns = x.shape
    parts = cuts(lines, x.size)
    means, squares = np.empty((parts, columns)), np.empty((parts, columns))
    share(team, parts, entry(measure_part, (parts, x, means, squares)))
    mean[:] = 0
    var[:] = 0
    n = x.size // len(mean)
    for i in range(parts):
        count = lines * (i + 1) // parts - lines * i // parts
        add_channels(means[i].reshape(groups), count / n, mean)
    for i in range(parts):
        count = lines * (i + 1) // parts - lines * i // parts
        group_means, group_squares = means[i].reshape(groups), squares[i].reshape(groups)
        for a in range(groups[0]):
            for c in range(groups[1]):
                for b in range(groups[2]):
                    d = group_means[a, c, b] - mean[c]
                    var[c] += (group_squares[a, c, b] + count * d * d) / n


@part
def add_channels(columns, weight, total):
    """total (C,) += weight * the sum of the columns (a, C, b) of each channel."""
    for a in range(len(columns)):
        for c in range(len(total)):
            for b in range(columns.shape[2]):
                total[c] += columns[a, c, b] * weight


@part
def spread(numbers, groups):
    """The inverse: the values (C,) of the channels, broadcast to their columns."""
    columns = np.empty(groups, numbers.dtype)
    for a in range(groups[0]):
        for c in range(groups[1]):
            columns[a, c] = numbers[c]
    return columns.ravel()


@part
def normalize_part(i, parts, x, mean, scale, bias, least, y):
    """Some lines."""
    for r in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        line, out = x[r], y[r]
        for j in range(len(line)):
            v = (line[j] - mean[j]) * scale[j] + bias[j]
            out[j] = least if v <= least else v  # NaN stays


@loop
def normalize(team, x, groups, mean, scale, bias, least, y):
    """y = (x - mean) * scale + bias, but at least `least`: 0 with a ReLU, else NaN, which bounds nothing."""
    parts = cuts(len(x), x.size)
    mean, scale, bias = spread(mean, groups), spread(scale, groups), spread(bias, groups)
    share(team, parts, entry(normalize_part, (parts, x, mean, scale, bias, least, y)))


# ---- backward ----


@part
def sums_part(i, parts, g, x, mean, scale, bias, least, of_g, of_gx):
    """Some lines."""
    start, stop = len(x) * i // parts, len(x) * (i + 1) // parts
    zero, total, total_x = x.dtype.type(0), of_g[i], of_gx[i]
    s, t = np.empty(len(total), x.dtype), np.empty(len(total), x.dtype)
    total[:] = 0
    total_x[:] = 0
    for first in range(start, stop, LINES):
        s[:] = 0
        t[:] = 0
        for r in range(first, min(first + LINES, stop)):
            line, line_g = x[r], g[r]
            for j in range(len(line)):
                d = line[j] - mean[j]
                dy = zero if d * scale[j] + bias[j] <= least else line_g[j]
                s[j] += dy
                t[j] += dy * d
        for j in range(len(total)):
            total[j] += s[j]
            total_x[j] += t[j]


@loop
def sums(team, g, x, groups, mean, scale, bias, least, dy, dyx):
    """g and g * (x - mean), summed by channel, into dy and dyx (C,). Where y is `least`, g counts as 0."""
    parts = cuts(len(x), x.size)
    of_g, of_gx = np.empty((parts, x.shape[1])), np.empty((parts, x.shape[1]))
    mean, scale, bias = spread(mean, groups), spread(scale, groups), spread(bias, groups)
    share(team, parts, entry(sums_part, (parts, g, x, mean, scale, bias, least, of_g, of_gx)))
    dy[:] = 0
    dyx[:] = 0
    for i in range(parts):
        add_channels(of_g[i].reshape(groups), 1.0, dy)
        add_channels(of_gx[i].reshape(groups), 1.0, dyx)


@part
def back_part(i, parts, g, x, mean, scale, bias, least, level, slope, dx):
    """Some lines."""
    zero = x.dtype.type(0)
    for r in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        line, line_g, out = x[r], g[r], dx[r]
        for j in range(len(line)):
            d = line[j] - mean[j]
            dy = zero if d * scale[j] + bias[j] <= least else line_g[j]
            pull = d * slope[j] if slope[j] != 0 else zero  # 0 in evaluation, even for an infinite d
            out[j] = (dy - level[j] - pull) * scale[j]


@loop
def back(team, g, x, groups, mean, scale, bias, least, level, slope, dx):
    """dx = (g - level - (x - mean) * slope) * scale: g without what shifts or scales a whole channel."""
    parts = cuts(len(x), x.size)
    mean, scale, bias = spread(mean, groups), spread(scale, groups), spread(bias, groups)
    level, slope = spread(level, groups), spread(slope, groups)
    share(team, parts, entry(back_part, (parts, g, x, mean, scale, bias, least, level, slope, dx)))


# ---- the operation ----


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    relu: bool = False,
) -> Any:
    """See ops.batch_norm; with `relu`, fused with the ReLU that follows."""
    if not (plain(x, running_mean, running_var, weight, bias) and x.ndim in (2, 4) and x.data.size and real(eps) > 0):
        return NotImplemented
    c = x.shape[1]
    n, known = x.data.size // c, running_mean is not None and running_var is not None
    given = [t for t in (running_mean, running_var, weight, bias) if t is not None]
    if any(t.shape != (c,) for t in given) or (n < 2 if training else not known):
        return NotImplemented
    lines, groups = as_lines(x.data)
    if training:
        mean, var = np.empty(c), np.empty(c)
        measure(crew(lines.size), lines, groups, mean, var)
        if known:
            running_mean.data += momentum * (mean - running_mean.data)  # type: ignore[union-attr]
            running_var.data += momentum * (var * (n / (n - 1)) - running_var.data)  # type: ignore[union-attr]
    else:
        mean, var = running_mean.data.astype(np.float64), running_var.data.astype(np.float64)  # type: ignore[union-attr]
    inv_std = 1 / np.sqrt(var + eps)
    scale = inv_std if weight is None else weight.data * inv_std
    shift = np.zeros(c) if bias is None else bias.data
    at, by, up = (v.astype(x.dtype) for v in (mean, scale, shift))
    least = x.dtype.type(0 if relu else np.nan)
    y = CPU.empty(lines.shape, x.dtype)
    normalize(crew(lines.size), lines, groups, at, by, up, least, y)

    @once
    def backward(g: Array) -> tuple[Array, Array, Array]:
        g, dx = as_lines(g)[0], CPU.empty(lines.shape, x.dtype)
        dy, dyx = np.empty(c), np.empty(c)
        sums(crew(lines.size), g, lines, groups, at, by, up, least, dy, dyx)
        if x.requires_grad:
            level, slope = (dy / n, dyx * inv_std**2 / n) if training else (np.zeros(c), np.zeros(c))
            back(crew(dx.size), g, lines, groups, at, by, up, least, level.astype(x.dtype), slope.astype(x.dtype), dx)
        return as_given(dx, x.shape), dyx * inv_std, dy

    edges: list[Reading] = [(x, lambda g: backward(g)[0], x)]
    if weight is not None:
        edges.append((weight, into(weight, lambda g, out: np.copyto(out, backward(g)[1], "same_kind")), x))
    if bias is not None:
        edges.append((bias, into(bias, lambda g, out: np.copyto(out, backward(g)[2], "same_kind"))))
    return record("batch_norm_relu" if relu else "batch_norm", as_given(y, x.shape), *edges)


batch_norm_relu = partial(fuse.batch_norm, norm=partial(batch_norm, relu=True))


def as_lines(x: Array) -> tuple[Array, tuple[int, int, int]]:
    """x as a matrix, and its groups: see `measure`."""
    n, c = x.shape[:2]
    if x.ndim == 2:
        return np.ascontiguousarray(x), (1, c, 1)
    h, w = x.shape[2:]
    if c < FEW:
        return stored(x, few=True).reshape(n, c * h * w), (1, c, h * w)
    return stored(x, few=False).reshape(n * h, w * c), (w, c, 1)


def as_given(lines: Array, shape: tuple[int, ...]) -> Array:
    """The inverse: lines in the shape of x."""
    if len(shape) == 2:
        return lines
    n, c, h, w = shape
    return usual(lines.reshape(shape if c < FEW else (n, h, w, c)), c < FEW)
