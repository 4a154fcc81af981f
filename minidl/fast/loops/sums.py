"""Reductions over axes: for means, variances and the gradients of broadcasting. float32 is accumulated in double
precision, as in tensor.total; NumPy converts each element before it adds, on one core.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.loops.compiler import adding, loop, part
from minidl.fast.loops.layout import crew, cuts
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry

WORTH = 1 << 11  # elements: with fewer, NumPy is done before a loop is even dispatched


@adding
def sum_of(row):
    """The sum of a vector, in double precision."""
    total = 0.0
    for j in range(len(row)):
        total += row[j]
    return total


@part
def rows_part(i, parts, x, n, y):
    """Some rows of x (rows, m)."""
    for row in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        y[row] = sum_of(x[row]) / n


@loop
def of_rows(team, x, n, y):
    """y = the sums of the rows of x, divided by n. x (rows, m), y (rows,)."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(rows_part, (parts, x, n, y)))


@part
def sum_columns(x, columns, n, out):
    """out = the sums of these columns of x (m, k) in double precision, divided by n."""
    sums = np.zeros(len(out))
    for m in range(len(x)):
        row = x[m, columns]
        for c in range(len(sums)):
            sums[c] += row[c]
    for c in range(len(sums)):
        out[c] = sums[c] / n


@part
def stacks_part(i, parts, x, n, y):
    """Some matrices of x (j, m, k), or, where it is one matrix, some columns."""
    j, k = y.shape
    start, stop = (j * i // parts, j * (i + 1) // parts) if j > 1 else (0, 1)
    columns = slice(0, k) if j > 1 else slice(k * i // parts, k * (i + 1) // parts)
    for matrix in range(start, stop):
        sum_columns(x[matrix], columns, n, y[matrix, columns])


@loop
def of_stacks(team, x, n, y):
    """y = the sums over the middle axis of x, divided by n. x (j, m, k), y (j, k)."""
    parts = cuts(len(y) if len(y) > 1 else y.shape[1] // 16, x.size)  # a cache line holds 16 elements
    share(team, parts, entry(stacks_part, (parts, x, n, y)))


def total(x: Array, dims: tuple[int, ...] | None, keepdims: bool, n: float) -> Any:
    """See tensor.total; for float32, and for axes that are adjacent in memory, as those of an image are."""
    if x.dtype.char != "f" or x.size < WORTH:
        return NotImplemented
    dims = tuple(range(x.ndim)) if dims is None else dims
    if not x.flags.c_contiguous:
        return turned(x, dims, keepdims, n)
    if not dims or max(dims) - min(dims) >= len(dims):
        return NotImplemented
    before, after = math.prod(x.shape[: min(dims)]), math.prod(x.shape[max(dims) + 1 :])
    y = np.empty((before, after), x.dtype)
    if after == 1:
        of_rows(crew(x.size), x.reshape(before, -1), float(n), y.reshape(before))
    else:
        of_stacks(crew(x.size), x.reshape(before, -1, after), float(n), y)
    return y.reshape(shape_of(x, dims, keepdims))


def turned(x: Array, dims: tuple[int, ...], keepdims: bool, n: float) -> Any:
    """The same for an x whose axes are permuted in memory."""
    order = sorted(range(x.ndim), key=x.strides.__getitem__, reverse=True)
    lying = x.transpose(order)
    y = total(lying, tuple([order.index(d) for d in dims]), True, n) if lying.flags.c_contiguous else NotImplemented
    return y if y is NotImplemented else y.transpose(np.argsort(order)).reshape(shape_of(x, dims, keepdims))


def shape_of(x: Array, dims: tuple[int, ...], keepdims: bool) -> list[int]:
    """The shape of x without these axes, or with size 1 for each."""
    return [1 if d in dims else size for d, size in enumerate(x.shape) if keepdims or d not in dims]
