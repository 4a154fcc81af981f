"""Products of stacks of matrices, as attention has them: each matrix by one call of BLAS, as NumPy does it.

So the bits are NumPy's, while threads share the matrices. What NumPy does without BLAS's gemm is left to it: vectors,
a matrix times itself turned. So are stacks that lie in another order than that of their axes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast import blas
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.team import ready, share
from minidl.fast.loops.words import entry, gemm
from minidl.tensor import Tensor, record

WORTH = 1 << 18  # multiplications of a part
# Where (p, q) matrices lie: the address of the first, the bytes to the next p and the next q; whether BLAS is to read
# them turned, and the numbers from one row, or column, to the next.
Stack: TypeAlias = "tuple[int, int, int, int, int]"
Shape: TypeAlias = "tuple[int, ...]"


@part
def products_part(i, parts, address, sizes, a, b, c):
    """The matrices that are part i."""
    q, n, k, m = sizes
    (a_first, a_p, a_q, a_turned, a_lead), (b_first, b_p, b_q, b_turned, b_lead) = a, b
    for j in range(len(c) * i // parts, len(c) * (i + 1) // parts):
        left, right = a_first + j // q * a_p + j % q * a_q, b_first + j // q * b_p + j % q * b_q
        gemm(address, a_turned, b_turned, n, m, k, left, a_lead, right, b_lead, c.dtype.type(0), c[j], m)


@loop
def products(team, address, sizes, a, b, c):
    """c[j] = a[j] @ b[j] for each j = p * (their number of q) + q: (n, k) @ (k, m) -> (n, m). a and b are Stacks."""
    parts = max(1, min(16, len(c), c.size * sizes[2] // WORTH))
    share(team, parts, entry(products_part, (parts, address, sizes, a, b, c)))


# ---- kernel ----


def matmul(a: Tensor, b: Any) -> Any:
    """See ops.matmul. (..., n, k) @ (..., k, m) -> (..., n, m), b a stack."""
    try:
        y = product(a.data, b.data)
    except ValueError:  # stacks that do not broadcast: the reference says so
        return NotImplemented
    return record(
        "matmul",
        y,
        (a, lambda g: product(g, b.data.swapaxes(-1, -2)), b),  # (..., n, m) @ (..., m, k)
        (b, lambda g: product(a.data.swapaxes(-1, -2), g), a),  # (..., k, n) @ (..., n, m)
    )


def product(a: Array, b: Array) -> Array:
    """np.matmul(a, b) of stacks of matrices."""
    (n, k), m = a.shape[-2:], b.shape[-1]
    leading = broadcast(a.shape[:-2], b.shape[:-2])
    if not 0 < len(leading) < 3 or 0 in leading or min(n, k, m) < 2:
        return np.matmul(a, b)
    a, b = readable(a), readable(b)
    left, right = stack_of(a), stack_of(b)
    if not in_order(left) or not in_order(right) or left[0] == right[0]:
        return np.matmul(a, b)
    c = CPU.empty((*leading, n, m), a.dtype)
    products(ready(c.size * k), blas.gemm(a.dtype), (leading[-1], n, k, m), left, right, c.reshape(-1, n, m))
    return c


def broadcast(a: Shape, b: Shape) -> Shape:
    """np.broadcast_shapes, at once for the commonest cases. Raises ValueError where they do not fit."""
    return a if a == b else b if not a else np.broadcast_shapes(a, b)


def readable(x: Array) -> Array:
    """x, or a copy where its numbers lie so that BLAS could not read them, as those of a broadcast gradient."""
    size, (n, m), (row, column) = x.itemsize, x.shape[-2:], x.strides[-2:]
    by_rows = column == size and row % size == 0 and row >= m * size
    by_columns = row == size and column % size == 0 and column >= n * size
    return x if by_rows or by_columns else x.copy()  # in the order in which its axes lie


def stack_of(x: Array) -> Stack:
    """How the matrices of x lie."""
    size, strides = x.itemsize, x.strides
    turned = strides[-1] != size
    p, q = (strides[-i] if x.ndim >= i and x.shape[-i] > 1 else 0 for i in (4, 3))
    return x.ctypes.data, p, q, int(turned), strides[-1 if turned else -2] // size


def in_order(stack: Stack) -> bool:
    """Whether NumPy would go through its matrices as they are numbered, and lay the products out so."""
    _, p, q, *_ = stack
    return q >= 0 and (p == 0 or p >= q)
