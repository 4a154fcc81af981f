"""Plain loops, compiled: numba makes machine code of them, which it keeps for the next time beside this file.

`@part` marks a function that is only called from others; `@loop` one that Python calls. Both compute as Python does,
in the arrays' own precision, but that a division by zero gives infinity. So a number that meets float32 has to be cast
to it first, or all is computed in double precision.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    _CacheLocator,
    _SourceFileBackedLocatorMixin,
)
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

BESIDE = Path(__file__).parent / "__pycache__"
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
    dispatcher._cache = _Cache(function)
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


class _Beside(_SourceFileBackedLocatorMixin, _CacheLocator):  # type: ignore[misc]
    """The folder beside these files, where it is read-only and there is no other: it may hold what was compiled when
    minidl was installed."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file, self._lineno = file, function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(BESIDE)

    def ensure_cache_path(self) -> None:
        pass  # nothing is written there


class _Places(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (*CompileResultCacheImpl._locator_classes, _Beside)


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's own, but for this: what was compiled is fit for use as long as none of our files has changed, and not
    only the function's own file, for it holds pieces of the others. It is looked for beside these files too, where they
    may not be written to. And what can't be kept is compiled again the next time."""

    _impl_class = _Places

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        places = [self._cache_path] if config.CACHE_DIR else [self._cache_path, str(BESIDE)]
        self._cache_file, *self._others = [
            IndexDataCacheFile(place, self._impl.filename_base, _sources()) for place in dict.fromkeys(places)
        ]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """numba's own makes ready for compiling too: 200 modules, and SciPy, that what was compiled does without."""
        found = None
        rtsys.initialize(target_context)  # the memory of arrays
        with self._guard_against_spurious_io_errors():
            found = self._load_overload(sig, target_context)
            for other in self._others if found is None else ():
                data = other.load(self._index_key(sig, target_context.codegen()))
                found = None if data is None else self._impl.rebuild(target_context, data)
        if found is None:
            announce()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _sources() -> str:
    """A number of what these files say now."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
