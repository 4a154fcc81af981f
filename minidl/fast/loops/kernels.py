"""The operations in compiled loops: KERNELS holds them by name, as `accelerated` of backend.py asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.fast.loops import rules

KERNELS: dict[str, Callable[..., Any]] = {"rule": rules.step}
