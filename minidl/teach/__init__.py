"""Figures for lessons: graphs, digits, curves and the geometry of a step."""

import importlib
from typing import Any

from minidl.refuse import listed, missing

__all__ = ["draw", "landscape", "show"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # on first use: matplotlib takes long to import
        return importlib.import_module(f"minidl.teach.{name}")
    raise missing("minidl.teach", name, otherwise="", known=__all__)


def __dir__() -> list[str]:
    return listed(__name__)
