"""What is faster than the plain forms of the engine, with the same meaning: importing it registers all of it."""

from __future__ import annotations

import os
from functools import cache

from minidl.backend import CPU, Kernels, no_fast_now
from minidl.fast import fuse as _fuse  # noqa: F401 (with conv, pool and linear, which it needs)
from minidl.fast import gpu as _gpu  # noqa: F401


@cache
def _found() -> tuple[Kernels, str]:
    """The compiled forms of operations on the CPU, and what compiled them; none, and why.

    They are looked for when something is computed, not when minidl is imported: numba takes a third of a second.
    """
    if os.environ.get("MINIDL_NO_FAST"):
        return {}, "MINIDL_NO_FAST is set"
    try:
        import numba

        from minidl.fast.loops.kernels import KERNELS
    except ModuleNotFoundError as error:
        return {}, f'{error.name} is not installed: pip install "minidl[fast]"'
    except ImportError as error:  # such as a NumPy that it does not know yet
        return {}, f"numba can't be imported: {' '.join(str(error).split())}"
    return KERNELS, f"numba {numba.__version__}"


def compiled() -> Kernels:
    """The compiled forms of operations on the CPU, by name; none where there is no numba."""
    return _found()[0]


def version() -> str | None:
    """What compiled the loops that compute here now, such as "numba 0.61.2"; None where NumPy computes."""
    return _found()[1] if not no_fast_now() and compiled() else None


def why_not() -> str:
    """Why NumPy computes here."""
    return "--no-fast" if no_fast_now() else _found()[1]


CPU.compiled.append(compiled)
