"""PyTorch's own test tables, imported without what that does to the process: PyTorch freezes its global flags there,
and a program that sets one afterwards, as the benches do, fails."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any


def table(module: str, name: str) -> Any:
    """`name` of torch.testing._internal.`module`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch's own test package says at import
        found = getattr(import_module(f"torch.testing._internal.{module}"), name)
    torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True
    return found
