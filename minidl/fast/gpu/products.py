"""Matrix products on the GPU, by NVIDIA's cuBLAS.

CuPy's own products can't be part of a CUDA graph (graph.py), so where `nvmath-python` is installed cuBLAS is called
through its bindings; without it, CuPy's `dot` does the same work outside of graphs. cuBLAS is column-major, as
Fortran is: a row-major (m, n) here is its transpose (n, m) there, so a product a @ b is requested as b.T @ a.T.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np

from minidl.backend import Array, xp_of
from minidl.fast.gpu.launch import kernels_for
from minidl.telling import holding

NUMBERS = {np.dtype(t): (np.ones(1, t), np.zeros(1, t)) for t in (np.float32, np.float64)}  # alpha and beta
THIN = 16  # rows of a weight gradient, up to which cuBLAS computes its transpose far faster
DEFAULT_MATH, TF32_MATH = 0, 3  # cublasMath_t
_tf32: ContextVar[bool] = ContextVar("tf32", default=False)


def tf32() -> AbstractContextManager[None]:
    """`with tf32():` products of float32 on the tensor cores, their factors rounded to 10 bits of mantissa."""
    return holding(_tf32, True)


def using_tf32() -> bool:
    """Whether products use TF32 now."""
    return _tf32.get()


@cache
def cublas() -> Any:
    """nvmath-python's bindings of cuBLAS; None where they are not installed."""
    try:
        from nvmath.bindings import cublas
    except ImportError:
        return None
    return cublas


class Handle:
    """cuBLAS's context: its workspace, and the stream and the precision last set.

    A handle belongs to one thread, and each captured step has its own: two concurrent products in one workspace would
    deadlock, each waiting for the other's counters.
    """

    def __init__(self, xp: Any) -> None:
        lib = cublas()
        self.lib, self.pointer = lib, lib.create()
        self.workspace = xp.empty((32 if xp.cuda.Device().compute_capability >= "90" else 4) << 20, np.uint8)
        self.stream: int | None = None
        self.math = DEFAULT_MATH

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.lib.destroy(self.pointer)

    def ready(self, stream: int) -> int:
        """The handle, set to this stream and to the requested precision."""
        if stream != self.stream:
            self.lib.set_stream(self.pointer, stream)
            self.lib.set_workspace(
                self.pointer, self.workspace.data.ptr, self.workspace.nbytes
            )  # set_stream resets the workspace
            self.stream = stream
        math = TF32_MATH if _tf32.get() else DEFAULT_MATH
        if math != self.math:
            self.lib.set_math_mode(self.pointer, math)
            self.math = math
        return int(self.pointer)


class _Mine(threading.local):
    handle: Handle | None = None


_mine = _Mine()


@contextmanager
def own_handle(handle: Handle) -> Iterator[None]:
    """Products of this thread go through this handle."""
    before, _mine.handle = _mine.handle, handle
    try:
        yield
    finally:
        _mine.handle = before


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """a (m, k) @ b (k, n) -> (m, n); out is contiguous."""
    a, b = _laid_out(a), _laid_out(b)
    xp, shape = xp_of(a), (a.shape[0], b.shape[1])
    if out is None:
        out = xp.empty(shape, a.dtype)
    if shape[0] <= THIN < shape[1] and a.strides[0] == a.itemsize and a.shape[0] > 1:
        across = xp.empty(shape[::-1], a.dtype)
        _product(xp, b.T, a.T, across)
        kernels_for(xp, a.dtype)("swap_axes", out.size, out, across, shape[1], shape[0], out.size)
    else:
        _product(xp, a, b, out)
    return out


def _product(xp: Any, a: Any, b: Any, out: Any) -> None:
    lib = cublas() if hasattr(xp, "cuda") else None
    if lib is None:
        a.dot(b, out=out)
        return
    if _mine.handle is None:
        _mine.handle = Handle(xp)
    handle = _mine.handle.ready(xp.cuda.get_current_stream().ptr)
    (trans_a, lda), (trans_b, ldb) = _layout(a), _layout(b)
    one, zero = NUMBERS[a.dtype]
    (m, n), k = out.shape, a.shape[1]
    gemm = lib.sgemm if a.dtype == np.float32 else lib.dgemm
    gemm(handle, trans_b, trans_a, n, m, k, one.ctypes.data, b.data.ptr, ldb, a.data.ptr, lda, zero.ctypes.data,
         out.data.ptr, n)  # fmt: skip


def _laid_out(a: Array) -> Array:
    """a itself if it is row-major or column-major, else a copy, as of w[::-1] or w[:, ::2]."""
    row, column = a.strides
    fits = min(row, column) > 0 and (a.itemsize in (row, column) or 1 in a.shape)
    return a if fits else xp_of(a).ascontiguousarray(a)


def _layout(a: Array) -> tuple[int, int]:
    """How cuBLAS describes a matrix: whether it is transposed (1) or not (0), and its leading dimension."""
    if a.strides[1] == a.itemsize or a.shape[1] == 1:
        return 0, max(a.shape[1], a.strides[0] // a.itemsize)
    if a.strides[0] == a.itemsize or a.shape[0] == 1:
        return 1, max(a.shape[0], a.strides[1] // a.itemsize)
    raise ValueError(f"product: an array of shape {a.shape} with strides {a.strides} is not row- or column-major")
