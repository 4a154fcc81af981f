"""Plain loops, compiled: numba makes machine code of them, which it keeps for the next time beside this file.

`@part` marks a function that is only called from others; `@loop` one that Python calls. Both compute as Python does,
in the arrays' own precision, but that a division by zero gives infinity. So a number that meets float32 has to be cast
to it first, or all is computed in double precision.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

Function = TypeVar("Function", bound=Callable[..., Any])
# Without Python's lock, so that threads compute side by side; and not callable from C, which saves compiling.
SETTINGS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def part(function: Function) -> Function:
    """Compiled together with those that call it; Python itself can't."""
    return njit(no_cpython_wrapper=True, **SETTINGS)(function)


def adding(function: Function) -> Function:
    """A part in which the order of additions is free: several sums at once, as vectors, and then the sum of these."""
    return njit(no_cpython_wrapper=True, fastmath={"reassoc"}, **SETTINGS)(function)


def loop(function: Function) -> Function:
    """Compiled when Python first calls it with arrays of such types, and kept."""
    dispatcher = njit(**SETTINGS)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # nowhere to write to: compiled in each process
        announce()
    return dispatcher


def compiles_for(feature: str) -> bool:
    """Whether it compiles for a processor that has this: "avx512f"."""
    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return f"+{feature}" in features.split(",")


@cache
def announce() -> None:
    """Say once in a process that it will take a while."""
    print("minidl compiles its loops, which takes up to a minute (once: `python -m minidl.fast` does it beforehand)",
          file=sys.stderr, flush=True)  # fmt: skip


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's own, but for one thing: what was compiled is fit for use as long as none of our files has changed, and
    not only the function's own file, for it holds pieces of the others."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """numba's own makes ready for compiling too: 200 modules, and SciPy, that what was compiled does without."""
        found = None
        rtsys.initialize(target_context)  # the memory of arrays
        with self._guard_against_spurious_io_errors():
            found = self._load_overload(sig, target_context)
        if found is None:
            announce()
        return found


@cache
def _sources() -> str:
    """A number of what these files say now."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
