"""Dot products of long vectors, in double precision.

Many partial sums are kept in parallel, since a vector instruction updates several at once; this also fixes the order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.rules import DTYPES, WORTH, cuts, fits, stretch
from minidl.fast.loops.team import ready, share
from minidl.fast.loops.words import entry

SIDE_BY_SIDE = 64


@part
def dot(a, b):
    """a . b of two vectors (n,)."""
    sums = np.zeros(SIDE_BY_SIDE)
    whole = len(a) - len(a) % SIDE_BY_SIDE
    for start in range(0, whole, SIDE_BY_SIDE):
        x, y = a[start : start + SIDE_BY_SIDE], b[start : start + SIDE_BY_SIDE]
        for j in range(SIDE_BY_SIDE):
            sums[j] += np.float64(x[j]) * np.float64(y[j])
    for i in range(whole, len(a)):
        sums[i - whole] += np.float64(a[i]) * np.float64(b[i])
    return sums.sum()


@part
def two_dots_part(i, parts, a, b, sums):
    """Row i of `sums`."""
    here = stretch(len(a), i, parts)
    sums[i, 0], sums[i, 1] = dot(a[here], a[here]), dot(a[here], b[here])


@loop
def two_dots(team, a, b, out):
    """out = (a . a, a . b)."""
    parts = cuts(len(a))
    sums = np.zeros((parts, 2))
    share(team, parts, entry(two_dots_part, (parts, a, b, sums)))
    for j in range(2):
        out[j] = sums[:, j].sum()


def dots64(first: tuple[Array, Array], second: tuple[Array, Array], out: Array | None = None) -> Any:
    """p . p and p . g, of (p, p) and (p, g): see optim/projection.py."""
    (p, q), (r, g) = first, second
    if p is not q or p is not r or p.ndim != 1 or p.dtype.char not in DTYPES or not fits(g, p):
        return NotImplemented
    found = np.empty(2)
    two_dots(ready() if len(p) >= 2 * WORTH else ready(0), p, g, found)
    return found
