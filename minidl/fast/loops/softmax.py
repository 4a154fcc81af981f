"""softmax and log_softmax over the last axis: a few passes over each row while it is in the cache, and one for its
gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import adding, loop, part
from minidl.fast.loops.layout import crew, cuts
from minidl.fast.loops.points import exp
from minidl.fast.loops.sums import sum_of
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry
from minidl.tensor import Tensor, record

LOWEST = (-87, -708)  # of float32, float64: below it e^x is subnormal, and negligible beside the largest, which is 1


@part
def forward_part(i, parts, x, p, log_p):
    """Some rows. e^x of all of them in one loop: a row may be too short to vectorize."""
    rows = slice(len(p) * i // parts, len(p) * (i + 1) // parts)
    x, p, log_p = x[rows], p[rows], log_p[rows]
    numbers, zero, lowest = p.ravel(), p.dtype.type(0), p.dtype.type(LOWEST[p.itemsize // 4 - 1])
    for n in range(len(p)):
        row, out, largest = x[n], p[n], x[n, 0]
        for c in range(len(row)):
            largest = max(row[c], largest)
        for c in range(len(row)):
            out[c] = row[c] - largest  # at most 0: nothing overflows
    if log_p.size:
        logs = log_p.ravel()
        for j in range(len(logs)):
            logs[j] = numbers[j]
    for j in range(len(numbers)):
        numbers[j] = zero if numbers[j] < lowest else exp(numbers[j])
    for n in range(len(p)):
        out, total = p[n], sum_of(p[n])
        scale = p.dtype.type(1 / total)
        for c in range(len(out)):
            out[c] *= scale
        if log_p.size:
            logs, less = log_p[n], p.dtype.type(math.log(total))
            for c in range(len(logs)):
                logs[c] -= less


@loop
def forward(team, x, p, log_p):
    """p = softmax(x), and its logarithm where log_p is not empty. All (rows, classes)."""
    parts = cuts(len(p), 4 * p.size)
    share(team, parts, entry(forward_part, (parts, x, p, log_p)))


@adding
def sum_of_products(a, b):
    """The sum of a * b, in double precision."""
    total = 0.0
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@part
def backward_part(i, parts, log, g, p, dx):
    """Some rows."""
    for n in range(len(p) * i // parts, len(p) * (i + 1) // parts):
        row, y, out = g[n], p[n], dx[n]
        if log:
            total = p.dtype.type(sum_of(row))
            for c in range(len(row)):
                out[c] = row[c] - y[c] * total
        else:
            total = p.dtype.type(sum_of_products(row, y))
            for c in range(len(row)):
                out[c] = y[c] * (row[c] - total)


@loop
def backward(team, log, g, p, dx):
    """dx = p * (g - sum of g p), for softmax; with `log`, g - p * sum of g, for log_softmax. All (rows, classes)."""
    parts = cuts(len(p), 2 * p.size)
    share(team, parts, entry(backward_part, (parts, log, g, p, dx)))


def softmax(x: Tensor, dim: int = -1) -> Any:
    """See ops.softmax."""
    return _softmax("softmax", x, dim)


def log_softmax(x: Tensor, dim: int = -1) -> Any:
    """See ops.log_softmax."""
    return _softmax("log_softmax", x, dim)


def _softmax(name: str, x: Tensor, dim: int) -> Any:
    if type(x) is not Tensor or not plain(x) or not x.data.size or type(dim) is not int or dim not in (-1, x.ndim - 1):
        return NotImplemented
    log, classes = name == "log_softmax", x.shape[-1:]
    if not classes:
        return NotImplemented
    rows = np.ascontiguousarray(x.data).reshape(-1, *classes)
    p = CPU.empty(rows.shape, x.dtype)
    log_p = CPU.empty(rows.shape if log else (0, 1), x.dtype)
    forward(crew(4 * p.size), rows, p, log_p)

    def vjp(g: Array) -> Array:
        dx = CPU.empty(p.shape, p.dtype)
        backward(crew(2 * p.size), log, np.ascontiguousarray(g).reshape(p.shape), p, dx)
        return dx.reshape(x.shape)

    return record(name, (log_p if log else p).reshape(x.shape), (x, vjp))
