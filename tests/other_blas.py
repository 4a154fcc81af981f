"""A BLAS that is not NumPy's: cblas_sgemm and cblas_dgemm written with NumPy, with sizes of 32 or 64 bits.

conda's, Debian's and MKL's BLAS have sizes of 32 bits, that of NumPy's wheels has 64.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided


class OtherBlas:
    """A library with these two functions, which compiled loops can call by their addresses."""

    def __init__(self, size: Any, *, right: bool = True, reads: bool = False) -> None:
        """size  the C type of its sizes;  right  whether it multiplies as it should;  reads  C even if it is times 0"""
        self.calls: list[tuple[int, int, int]] = []  # m, n and k of each

        def gemm(real: Any) -> Any:
            def matrix(address: int, rows: int, columns: int, lead: int) -> Any:
                memory = np.ctypeslib.as_array((real * ((rows - 1) * lead + columns)).from_address(address))
                return as_strided(memory, (rows, columns), (lead * memory.itemsize, memory.itemsize))

            def call(order: int, turn_a: int, turn_b: int, m: int, n: int, k: int, alpha: float, a: int, lda: int,
                     b: int, ldb: int, beta: float, c: int, ldc: int) -> None:  # fmt: skip
                self.calls.append((m, n, k))
                assert order == 101, "row-major"
                left = matrix(a, m, k, lda) if turn_a == 111 else matrix(a, k, m, lda).T
                right_ = matrix(b, k, n, ldb) if turn_b == 111 else matrix(b, n, k, ldb).T
                out = matrix(c, m, n, ldc)
                before = beta * out if beta or reads else 0
                out[:] = alpha * np.einsum("ik,kj->ij", left, right_) + before + (not right)

            kinds = [ctypes.c_int] * 3 + [size] * 3
            kinds += [real, ctypes.c_size_t, size, ctypes.c_size_t, size, real, ctypes.c_size_t, size]
            return ctypes.CFUNCTYPE(None, *kinds)(call)

        self.cblas_sgemm, self.cblas_dgemm = gemm(ctypes.c_float), gemm(ctypes.c_double)

    def address(self, dtype: Any) -> int:
        """That of cblas_sgemm or cblas_dgemm."""
        function = self.cblas_sgemm if dtype == np.float32 else self.cblas_dgemm
        return ctypes.cast(function, ctypes.c_void_p).value or 0
