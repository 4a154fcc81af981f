"""Products of stacks of matrices, as in attention: one BLAS call for each matrix, as in NumPy.

So the bits are NumPy's (but for subnormal numbers, which count as 0), while threads share the matrices. What NumPy
computes without BLAS's gemm is left to it: vectors, and a matrix times its own transpose. So are stacks whose axes are
permuted in memory.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast import blas
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.team import ready, share
from minidl.fast.loops.words import entry, gemm, ignore_subnormals, restore
from minidl.tensor import Tensor, record

WORTH = 1 << 18  # multiplications in a part
# The layout of (p, q) matrices: the address of the first, the strides in bytes of p and of q, whether BLAS reads the
# matrices transposed, and their leading dimension in elements.
Stack: TypeAlias = "tuple[int, int, int, int, int]"
Shape: TypeAlias = "tuple[int, ...]"


@part
def products_part(i, parts, address, sizes, a, b, c):
    """The matrices that are part i."""
    q, n, k, m = sizes
    (a_first, a_p, a_q, a_turned, a_lead), (b_first, b_p, b_q, b_turned, b_lead) = a, b
    before = ignore_subnormals()
    for j in range(len(c) * i // parts, len(c) * (i + 1) // parts):
        left, right = a_first + j // q * a_p + j % q * a_q, b_first + j // q * b_p + j % q * b_q
        gemm(address, a_turned, b_turned, n, m, k, left, a_lead, right, b_lead, c.dtype.type(0), c[j], m)
    restore(before)


@loop
def products(team, address, sizes, a, b, c):
    """c[j] = a[j] @ b[j] for each j = p * (number of q) + q: (n, k) @ (k, m) -> (n, m). a and b are Stacks."""
    parts = max(1, min(16, len(c), c.size * sizes[2] // WORTH))
    share(team, parts, entry(products_part, (parts, address, sizes, a, b, c)))


# ---- kernel ----


def matmul(a: Tensor, b: Any) -> Any:
    """See ops.matmul. (..., n, k) @ (..., k, m) -> (..., n, m), b a stack."""
    try:
        y = product(a.data, b.data)
    except ValueError:  # stacks that do not broadcast: the reference reports it
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
    """np.broadcast_shapes, with a short cut for the common cases. Raises ValueError where they do not broadcast."""
    return a if a == b else b if not a else np.broadcast_shapes(a, b)


def readable(x: Array) -> Array:
    """x, or a copy if its strides are such that BLAS could not read it, as for a broadcast gradient."""
    size, (n, m), (row, column) = x.itemsize, x.shape[-2:], x.strides[-2:]
    by_rows = column == size and row % size == 0 and row >= m * size
    by_columns = row == size and column % size == 0 and column >= n * size
    return x if by_rows or by_columns else x.copy()  # in C order


def stack_of(x: Array) -> Stack:
    """The layout of the matrices of x."""
    size, strides = x.itemsize, x.strides
    turned = strides[-1] != size
    p, q = (strides[-i] if x.ndim >= i and x.shape[-i] > 1 else 0 for i in (4, 3))
    return x.ctypes.data, p, q, int(turned), strides[-1 if turned else -2] // size


def in_order(stack: Stack) -> bool:
    """Whether NumPy would traverse the matrices in the order of their indices, and store the products in that order."""
    _, p, q, *_ = stack
    return q >= 0 and (p == 0 or p >= q)
