"""Compiling the kernels, and launching them.

All kernels of kernels.cu and images.cu are compiled together, once for float32 and once for float64, when the first of
them is needed; CuPy caches the result on disk. A kernel is launched by its name:

    kernels = kernels_for(xp, dtype)
    kernels("relu", n, y, x, n)        # as many threads as there are elements
    kernels("sum_rows", (grid, block), ...)
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import Array, to_numpy

SOURCES = ("kernels.cu", "images.cu")
ANNOUNCED = 8192  # characters of source code, from which compiling takes a noticeable time
BLOCK = 512  # threads in a block, unless a launch says otherwise
MANY = 2**31 - 1  # elements, beyond which a 32-bit index would overflow
KERNEL = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)
MACRO = re.compile(r"^#define (\w+)\(NAME[^\n]*\nKERNEL NAME\(([^)]*)\)", re.MULTILINE)  # one that defines kernels
SIZES = "int c, int h, int w, int oh, int ow, int kh, int kw, int sh, int sw, int ph, int pw"

CUDA = """
#define KERNEL extern "C" __global__ void
#define SHARED __shared__
#define SYNC __syncthreads();
#define HIGH(a, b) __umul64hi(a, b)
#define ALIGN __align__(16)
#define UNROLL _Pragma("unroll")
"""
Grid: TypeAlias = "int | tuple[tuple[int, ...], tuple[int, ...]]"
NULL = np.uint64(0)  # an array that is not given


class Kernels:
    """The kernels of a source, compiled for one array module and one dtype."""

    def __init__(self, xp: Any, dtype: Any, source: str) -> None:
        real = "double" if np.dtype(dtype) == np.float64 else "float"
        words = f"#define T {real}\n#define BLOCK {BLOCK}\n"
        code = CUDA + words + source
        announce(xp, code)
        self.module = xp.RawModule(code=code, options=("-std=c++11",))
        self.converters = {name: _converters(arguments) for name, arguments in signatures(source).items()}
        self.functions: dict[str, Any] = {}

    def __call__(self, name: str, grid: Grid, *args: Any) -> None:
        """Launch a kernel: `grid` is the number of threads wanted, or (blocks, threads in a block)."""
        function = self.functions.get(name)
        if function is None:
            function = self.functions[name] = self.module.get_function(name)
        if isinstance(grid, int):
            grid = ((grid + BLOCK - 1) // BLOCK,), (BLOCK,)
        function(*grid, tuple(_convert(to, arg) for to, arg in zip(self.converters[name], args, strict=True)))


def announce(xp: Any, code: str) -> None:
    """Print that kernels are being compiled where that takes a while: at their first use on a machine."""
    if not hasattr(xp, "cuda") or len(code) < ANNOUNCED:
        return
    capability, version = xp.cuda.Device().compute_capability, xp.__version__
    name = f"minidl-{hashlib.sha256(f'{capability} {version} {code}'.encode()).hexdigest()[:16]}"
    cache = _cache()
    if cache is None or not (done := cache / name).exists():
        print("compiling the kernels for this GPU (once) ...", file=sys.stderr, flush=True)
        with suppress(OSError):  # then it is printed again next time
            if cache is not None:
                cache.mkdir(parents=True, exist_ok=True)
                done.touch()


def _cache() -> Path | None:
    """CuPy's cache of compiled kernels; None for a user without a home folder."""
    try:
        return Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    except RuntimeError:
        return None


def signatures(source: str) -> dict[str, list[str]]:
    """The arguments of each kernel in a source, by its name."""
    found = {name: arguments for name, arguments in KERNEL.findall(source) if name != "NAME"}
    for macro, arguments in MACRO.findall(source):
        found |= dict.fromkeys(re.findall(rf"^{macro}\((\w+),", source, re.MULTILINE), arguments)
    return {
        name: [" ".join(a.split()) for a in arguments.replace("\\", "").replace("SIZES", SIZES).split(",")]
        for name, arguments in found.items()
    }


def _converters(arguments: list[str]) -> list[type | None]:
    """How each argument of a kernel is passed: None for an array, else the NumPy type of the scalar."""
    types = {"int": np.int32, "u64": np.uint64, "double": np.float64}
    return [None if "*" in argument else types[argument.split()[0]] for argument in arguments]


def _convert(to: type | None, value: Any) -> Any:
    if to is None:
        return NULL if value is None else value
    return to(value)


@cache
def kernels_for(xp: Any, dtype: Any) -> Kernels:
    """All kernels, for this dtype."""
    here = Path(__file__).parent
    return Kernels(xp, dtype, "".join((here / name).read_text() for name in SOURCES))


def sum_rows(
    name: str, kernels: Kernels, empty: Callable[..., Array], rows: int, columns: int, *args: Any,
    count: int = 1, out: Array | None = None,
) -> Array:  # fmt: skip
    """Sums over the rows of a matrix, by one of the kernels that SUM_ROWS defines: an array (count * columns,).

    The matrix is split into parts, so that some five hundred blocks have work and each thread at least eight rows.
    args   the kernel's arguments between `out` and `rows`
    empty  empty(shape) allocates memory for the sums;  out  where they go, if given
    """
    tiles, parts, per_part = cut(rows, columns)
    across = count * columns
    if out is None:
        out = empty(across)
    sums = out if parts == 1 else empty((parts, across))
    kernels(name, ((tiles, parts), (BLOCK,)), sums, *args, rows, columns, per_part)
    if parts > 1:
        adder = "sum_rows_double" if out.dtype == np.float64 else "sum_rows"
        kernels(adder, ((-(-across // min(across, 32)), 1), (BLOCK,)), out, sums, parts, across, parts)
    return out


def cut(rows: int, columns: int, blocks: int = 512) -> tuple[int, int, int]:
    """How a matrix is split: the number of tiles of 32 columns, of parts along the rows, and of rows in a part."""
    wide = min(columns, 32)
    tiles, lanes = -(-columns // wide), BLOCK // wide
    per_part = max(8 * lanes, -(-rows // max(1, blocks // tiles)))
    return tiles, max(1, -(-rows // per_part)), per_part


def trusted(what: str, both_ways: Callable[[], list[tuple[Array, Array]]]) -> bool:
    """Whether a kernel's arrays agree with the reference's, pair by pair; warns if not."""
    try:
        for reference, kernel in both_ways():
            np.testing.assert_allclose(to_numpy(kernel), to_numpy(reference), rtol=1e-4, atol=1e-5)
    except MemoryError:
        raise
    except Exception as error:  # whatever fails in a compiler or a driver: the reference remains
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"the GPU kernel of {what} is not used: {reason}", RuntimeWarning, stacklevel=4)
        return False
    return True
