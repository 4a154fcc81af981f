"""Scatter-add: the gradient of a table whose rows were taken by index, as from an embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.layout import crew, cuts
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry


@part
def add_part(i, parts, table, rows, g):
    """Some rows of the table: to each, its gradients are added in the order in which it was taken."""
    start, stop = len(table) * i // parts, len(table) * (i + 1) // parts
    for n in range(len(rows)):
        if start <= rows[n] < stop:
            row, more = table[rows[n]], g[n]
            for k in range(len(row)):
                row[k] += more[k]


@loop
def add_rows(team, table, rows, g):
    """table[rows[n]] += g[n] for each n. table (rows, m), rows (N,), g (N, m)."""
    parts = cuts(len(table), g.size)
    share(team, parts, entry(add_part, (parts, table, rows, g)))


def add_at(x: Array, index: Any, g: Array) -> Any:
    """See ops.add_at; for whole rows of x, where `index` is a list or an array of row numbers."""
    rows = np.asarray(index) if isinstance(index, (list, np.ndarray)) else np.empty(0)
    if rows.dtype.kind not in "iu" or x.dtype.char not in "fd" or g.dtype != x.dtype:
        return NotImplemented
    if not g.size or not x.flags.c_contiguous:
        return NotImplemented
    rows = rows.reshape(-1).astype(np.int64)
    rows[rows < 0] += len(x)
    add_rows(crew(g.size), x.reshape(len(x), -1), rows, np.ascontiguousarray(g).reshape(len(rows), -1))
    return None
