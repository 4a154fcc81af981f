"""Compiling plain loops: numba turns them into machine code, which it caches on disk beside this file.

`@part` marks a function that is called only by other compiled ones; `@loop` one that Python calls. Both compute as
Python does, in the arrays' own precision, except that division by zero gives infinity. So a number that meets float32
must be cast to it first, or everything is computed in double precision.
"""

from __future__ import annotations

import hashlib
import pickle
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
# Without the GIL, so threads run in parallel; and not callable from C, which saves compile time.
SETTINGS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def part(function: Function) -> Function:
    """Compiled together with its callers; not callable from Python."""
    return njit(no_cpython_wrapper=True, **SETTINGS)(function)


def adding(function: Function) -> Function:
    """A part whose additions may be reassociated, so that sums are vectorized: one partial sum per lane, added last."""
    return njit(no_cpython_wrapper=True, fastmath={"reassoc"}, **SETTINGS)(function)


def loop(function: Function) -> Function:
    """Compiled and cached when Python first calls it with arguments of these types."""
    dispatcher = njit(**SETTINGS)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def compiles_for(feature: str) -> bool:
    """Whether numba compiles for a processor with this feature, such as "avx512f"."""
    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return f"+{feature}" in features.split(",")


def processor() -> str:
    """LLVM's name of the processor that numba compiles for, such as "znver4" or "sapphirerapids"."""
    name: str = cpu_target.target_context.codegen().magic_tuple()[1]
    return name


@cache
def announce() -> None:
    """Print, once per process, that compiling will take a while."""
    print("minidl compiles its loops: up to a minute, once (`python -m minidl.fast` compiles them ahead of time)",
          file=sys.stderr, flush=True)  # fmt: skip


class _Beside(_SourceFileBackedLocatorMixin, _CacheLocator):  # type: ignore[misc]
    """The cache folder beside these files, if it is read-only and there is no other: it may hold what was compiled when
    minidl was installed."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file, self._lineno = file, function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(BESIDE)

    def ensure_cache_path(self) -> None:
        pass  # nothing is written there


class _Places(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (*CompileResultCacheImpl._locator_classes, _Beside)


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """One file per entry, named by its key, that carries its checksum.

    numba's own have an index, which two processes that compile at the same time overwrite for each other: then it may
    lead to code for other arguments, or on a network drive for another processor. A damaged file ended every run.
    """

    def load(self, key: Any) -> Any:
        """The entry of this key; None if there is none, or it is damaged or of other sources."""
        try:
            found = self._path(key).read_bytes()
        except OSError:
            return None
        data = found[32:]
        return pickle.loads(data) if found[:32] == self._checksum(key, data) else None

    def save(self, key: Any, data: Any) -> None:
        """Write the entry. Raises OSError."""
        data = self._dump(data)
        with self._open_for_write(str(self._path(key))) as file:
            file.write(self._checksum(key, data) + data)

    def _path(self, key: Any) -> Path:
        return Path(self._data_path(self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))))

    def _checksum(self, key: Any, data: bytes) -> bytes:
        return hashlib.sha256(repr((self._version, self._source_stamp, key)).encode() + data).digest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's own cache, except: an entry is valid as long as none of our files has changed, not only the function's
    own, since functions from the others are inlined into it. Entries are also looked up in the folder beside these
    files, which may be read-only. And what can't be saved is compiled again the next time."""

    _impl_class = _Places

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        places = [self._cache_path] if config.CACHE_DIR else [self._cache_path, str(BESIDE)]
        self._cache_file, *self._others = [
            _Files(place, self._impl.filename_base, _sources()) for place in dict.fromkeys(places)
        ]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """numba's own also sets up the compiler: it imports 200 modules and SciPy, which cached code does not need."""
        found = None
        rtsys.initialize(target_context)  # memory management of arrays
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
    """A hash of the contents of these files."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
