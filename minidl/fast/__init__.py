"""What is faster than the plain forms of the engine, with the same meaning: importing it registers all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from minidl.backend import CPU
from minidl.fast import fuse as _fuse  # noqa: F401 (with conv, pool and linear, which it needs)
from minidl.fast import gpu as _gpu  # noqa: F401


@cache
def compiled() -> dict[str, Callable[..., Any]]:
    """The compiled forms of operations on the CPU; none where numba is not installed, or MINIDL_NO_FAST is set.

    They are looked for when something is computed, not when minidl is imported: numba takes half a second.
    """
    if os.environ.get("MINIDL_NO_FAST"):
        return {}
    try:
        from minidl.fast.loops.kernels import KERNELS
    except ImportError:
        return {}
    return KERNELS


CPU.compiled.append(compiled)
