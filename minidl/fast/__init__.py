"""Fast versions of the engine's plain operations, with the same semantics: importing this package registers them."""

from __future__ import annotations

import os
from functools import cache

from minidl.backend import CPU, Kernels, no_fast_now
from minidl.fast import fuse as _fuse  # noqa: F401 (it imports conv, pool and linear)
from minidl.fast import gpu as _gpu  # noqa: F401


@cache
def _found() -> tuple[Kernels, str]:
    """The compiled kernels for the CPU and the compiler's version; or no kernels and the reason.

    Looked up at the first computation, not when minidl is imported: importing numba takes a third of a second.
    """
    if os.environ.get("MINIDL_NO_FAST"):
        return {}, "MINIDL_NO_FAST is set"
    try:
        import numba

        if numba.config.DISABLE_JIT:
            return {}, "NUMBA_DISABLE_JIT is set"
        from minidl.fast.loops.kernels import KERNELS
    except ModuleNotFoundError as error:
        return {}, f'{error.name} is not installed: pip install "minidl[fast]"'
    except ImportError as error:  # such as a NumPy that is too new for it
        return {}, f"numba can't be imported: {' '.join(str(error).split())}"
    return KERNELS, f"numba {numba.__version__}"


def compiled() -> Kernels:
    """The compiled kernels for the CPU, by name; empty without numba."""
    return _found()[0]


def version() -> str | None:
    """The compiler of the loops in use here now, such as "numba 0.61.2"; None where NumPy computes."""
    return _found()[1] if not no_fast_now() and compiled() else None


def compiled_for() -> str:
    """LLVM's name of the processor that the loops are compiled for, such as "znver4"; call it where they are in use."""
    from minidl.fast.loops.compiler import processor

    return processor()


def why_not() -> str:
    """Why NumPy computes here, and not compiled loops."""
    return "--no-fast" if no_fast_now() else _found()[1]


CPU.compiled.append(compiled)
