"""NumPy's BLAS, limited to one thread while any thread computes with minidl: what `with same_bits:` of backend.py does.

BLAS splits a product among its threads, and the last bits depend on the split. So every operation with products,
backward() and an optimizer's step enter `same_bits`, and minidl does the splitting (threads.py). OpenBLAS's limit is
per process, and so is the set of users: the first thread that enters sets the limit to one, the last that leaves
restores it. MKL and OpenMP have a limit for each thread: each sets its own, and restores it. So two trainings in two
Python threads do not disturb each other.

Other code that changes BLAS's limit in the meantime is beyond our control. All this is tested with the OpenBLAS of
NumPy's own wheels, and was tried with Debian's, with threads of its own or OpenMP's, with MKL and with BLIS. Apple's
Accelerate has a limit per thread, only from macOS 15 on, which is not used.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy._core import _multiarray_umath

from minidl.backend import same_bits
from minidl.fast.cores import cores

NUMPY = _multiarray_umath.__file__  # a look-up there includes the libraries that it is linked to, but not on Windows
# builds of OpenBLAS add different words to its names; in the order of their likelihood
OPENBLAS = [f"{prefix}openblas_{{}}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "_64", "")]
OPENMP = 2  # what openblas_get_parallel returns
GEMMS = "scipy_cblas_{}gemm64_", "cblas_{}gemm64_", "scipy_cblas_{}gemm", "cblas_{}gemm"  # in NumPy's wheels, elsewhere


class Limit(NamedTuple):
    """How a library is asked for its number of threads and told it; each: for the calling thread only."""

    get: Callable[[], int]
    set_to: Callable[[int], Any]
    each: bool = False


class _Here(threading.local):
    """Per thread: the depth of nested `same_bits`; and `before` and `limit` of _Blas, where each thread has a limit."""

    depth = 0
    before: Sequence[int] = ()
    limit = 1


class _Blas:
    """The limit of one thread, and the threads that compute under it.

    libraries  a Limit for each library; None until they are needed
    users      threads that are computing now
    before     the libraries' numbers of threads before they were limited; empty while they are not
    limit      the largest of these; all cores, for a BLAS without threads or without a limit that we know of
    each       whether each thread has a limit of its own, as with MKL, or OpenBLAS on OpenMP: then `before` and `limit`
               are in `_here`

    Ctrl-C may interrupt this between any two lines. So each line leaves a state that the next `hold` repairs, and a
    thread counts as a user only once BLAS is limited. A signal handler may compute between two lines: the lock is
    reentrant, and the handler leaves everything as it was.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.libraries: list[Limit] | None = None
        self.users: set[int] = set()
        self.before: Sequence[int] = ()
        self.limit = 1
        self.each = False

    def hold(self) -> None:
        _here.depth += 1  # first, or a signal handler that runs meanwhile would release BLAS too early
        try:
            if (me := threading.get_ident()) not in self.users:
                with self.lock:
                    if not self.users or self.each:
                        self._hold()
                    self.users.add(me)
        except BaseException:
            _here.depth -= 1
            raise

    def _hold(self) -> None:
        if self.libraries is None:
            found = _libraries()
            self.each = any(limit.each for limit in found)
            self.libraries = found  # last, since this says that they are known
        own = self.own
        own.before = own.before or [limit.get() for limit in self.libraries]
        own.limit = max(own.before) if own.before else cores()
        if own.limit > 1:
            for limit in self.libraries:
                limit.set_to(1)

    @property
    def own(self) -> Any:
        """What has `before` and `limit`: for this thread, or for the process."""
        return _here if self.each else self

    def help(self) -> None:
        """Called once by each helper thread, which computes for others and is no user."""
        with self.lock:
            if self.each:
                for limit in self.libraries or ():
                    limit.set_to(1)

    def release(self) -> None:
        _here.depth -= 1
        if _here.depth == 0:
            with self.lock:
                self.users.discard(threading.get_ident())
                if not self.users or self.each:
                    self._restore()

    def _restore(self) -> None:
        own = self.own
        if own.limit > 1:
            for limit, before in zip(self.libraries or (), own.before, strict=False):
                limit.set_to(before)
        own.before = ()

    def forked(self) -> None:
        """In the child of a fork only the forking thread exists: forget the others."""
        self.lock = threading.RLock()
        self.users = {threading.get_ident()} if _here.depth else set()
        if not self.users:
            self._restore()


def _libraries() -> list[Limit]:
    """The limit of the BLAS that NumPy uses; none for one without."""
    own = _limit_of(NUMPY)
    if own is not None:
        return [own]
    return [_limit_of(found.filepath) or Limit(found.get_num_threads, found.set_num_threads) for found in _loaded()]


def _loaded() -> list[Any]:
    """NumPy's BLAS as threadpoolctl finds it among the loaded libraries: where NUMPY does not lead to it."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if "numpy" in (library.filepath or "")] or found


@cache
def kernels() -> str:
    """The matrix kernels that OpenBLAS has chosen for this processor; "unknown" for another BLAS."""
    return _kernels_of(NUMPY) or next(filter(None, (_kernels_of(found.filepath) for found in _loaded())), "unknown")


def _kernels_of(path: str) -> str:
    """Those of the OpenBLAS in this library; "" if there is none, or it does not tell."""
    tell = _openblas(ctypes.PyDLL(path), "get_corename")
    if tell is None:
        return ""
    tell.restype = ctypes.c_char_p
    return str(tell().decode())


def _openblas(library: Any, word: str) -> Any:
    """The function openblas_WORD of this library, under the name that its build gave it; None where there is none."""
    return next(filter(None, (getattr(library, name.format(word), None) for name in OPENBLAS)), None)


def _limit_of(path: str) -> Limit | None:
    """OpenBLAS's or MKL's own functions in this library; None for others.

    threadpoolctl calls OpenBLAS's from version 3.8 on only for the first thread that asks. On OpenMP these report what
    any thread has set last, so we call OpenMP's own.
    """
    library = ctypes.PyDLL(path)  # PyDLL keeps the GIL: the call is short
    if hasattr(library, "MKL_Set_Num_Threads_Local"):
        return _mkl(library)
    get = _openblas(library, "get_num_threads")
    if get is None:
        return None
    parallel = _openblas(library, "get_parallel")
    if parallel is not None and parallel() == OPENMP and hasattr(library, "omp_get_max_threads"):
        return Limit(library.omp_get_max_threads, library.omp_set_num_threads, each=True)
    return Limit(get, _openblas(library, "set_num_threads"))


def _mkl(library: Any) -> Limit:
    """MKL's limit for a thread, which overrides that for the process: threadpoolctl sets it, and never removes it."""
    get, set_own = library.MKL_Get_Max_Threads, library.MKL_Set_Num_Threads_Local

    def set_to(limit: int) -> None:
        set_own(0)  # none: then the process's counts
        if get() != limit:
            set_own(limit)

    return Limit(get, set_to, each=True)


# BLAS packs matrices before it multiplies them. With AVX-512 that takes a fifth of the time, and OpenBLAS's kernels for
# it multiply small matrices without packing, up to about a million multiplications.
UNPACKED = {"SkylakeX": 900_000, "Cooperlake": 900_000, "SapphireRapids": 900_000}


@cache
def for_loops(dtype: Any) -> tuple[int, int]:
    """What the loops are told of BLAS: the address of its gemm, and up to how many multiplications it does not pack."""
    return gemm(dtype), UNPACKED.get(kernels(), 0)


@cache
def gemm(dtype: Any) -> int:
    """The address of cblas_?gemm in NumPy's BLAS, for compiled loops; 0 where there is none that they can call."""
    return gemm_of(NUMPY, dtype) or max((gemm_of(found.filepath, dtype) for found in _loaded()), default=0)


def gemm_of(path: str, dtype: Any) -> int:
    """The address of cblas_?gemm in this library; 0 if it has none, or none that multiplies when called as here.

    The loops pass sizes as 64-bit integers. A BLAS with sizes of 32 bits, such as conda's, Debian's or MKL's, reads
    the lower half: on x86-64 and ARM64 a size takes a register, or 8 bytes of the stack, either way.
    """
    library = ctypes.PyDLL(path)
    dtype = np.dtype(dtype)
    for name in GEMMS:
        found = getattr(library, name.format("s" if dtype == np.float32 else "d"), None)
        if found is not None and _multiplies(found, dtype):
            return ctypes.cast(found, ctypes.c_void_p).value or 0
    return 0


def _multiplies(call: Any, dtype: Any) -> bool:
    """Whether this cblas_?gemm computes C = A B, of matrices (2, 3) and (3, 4) that lie in wider ones."""
    a, b, c = (np.arange(1, 1 + n, dtype=dtype).reshape(-1, 5) for n in (10, 15, 10))
    expected = c.copy()
    c[:, :4] = np.nan  # not read: 0 C is 0
    expected[:, :4] = (a[:, :3, None] * b[:, :4]).sum(1)
    real, size, array = np.ctypeslib.as_ctypes_type(dtype), ctypes.c_int64, ctypes.c_void_p
    call.restype = None
    call.argtypes = [ctypes.c_int] * 3 + [size] * 3 + [real, array, size, array, size, real, array, size]
    call(101, 111, 111, 2, 4, 3, 1, a.ctypes.data, 5, b.ctypes.data, 5, 0, c.ctypes.data, 5)  # row-major, as they are
    return np.array_equal(c, expected)


_here, blas = _Here(), _Blas()
same_bits.hold, same_bits.release = blas.hold, blas.release

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=blas.forked)
