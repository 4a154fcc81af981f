"""Checks that every public name is in the reference, and no class twice."""

from __future__ import annotations

import inspect
import pydoc
import re
from pathlib import Path
from types import ModuleType

ID = re.compile(r'id="minidl\.[\w.]*?(\w+)"')
ENTRY = re.compile(r'<dt class="[^"]*" id="(minidl\.[\w.]+)"')


def public(module: ModuleType) -> set[str]:
    """The public names of a module: those in its `__all__`, or else its layer classes."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    things = {name: getattr(module, name) for name in names}
    if not hasattr(module, "__all__"):
        things = {name: thing for name, thing in things.items() if is_layer(thing)}
    return {name for name, thing in things.items() if not inspect.ismodule(thing)}


def is_layer(thing: object) -> bool:
    """Whether it is a layer class."""
    from minidl.module import Module

    return inspect.isclass(thing) and issubclass(thing, Module)


def missing(site: Path) -> list[str]:
    """The public names that no page of the built site documents, one line each."""
    import minidl
    from minidl import data, nn, ops, optim

    told = {
        name for page in (site / "tutorials" / "site").glob("*.html") for name in ID.findall(page.read_text("utf-8"))
    }
    return [
        f"{module.__name__}.{name} is in no page of the reference (tutorials/site)"
        for module in (minidl, nn, ops, optim, data)
        for name in sorted(public(module) - told)
    ]


def twice(site: Path) -> list[str]:
    """The classes with two entries, under the names of two modules, one line each."""
    entries: dict[type, set[str]] = {}
    for page in (site / "tutorials" / "site").glob("*.html"):
        for name in ENTRY.findall(page.read_text("utf-8")):
            if inspect.isclass(thing := pydoc.locate(name)):
                entries.setdefault(thing, set()).add(name)
    return [" and ".join(sorted(names)) + " are one class" for names in entries.values() if len(names) > 1]
