"""What CuPy offers, as text: `python -m tests.cupy_names > tests/cupy_names.txt`. It needs CuPy, but no GPU.

The counting device (counting.py) allows what the text lists and refuses the rest, so that code which passes on it
uses no function, method or argument that CuPy lacks. A line is a constant or type (`inf`), a function with its
arguments (`sum(a, axis=0)`, where =0 says that it may be left out), or a method of its arrays (`ndarray.sum(axis=0)`).
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("cupy_names.txt")
INSIDE = ("lib.stride_tricks.as_strided", "add.at")  # the names in inner modules that we allow


def signature(text: str) -> str:
    """`(self, Py_ssize_t axis1, out=None, *, dtype=None, **kw) -> T` as `axis1, out=0, *, dtype=0, **kw`."""
    inner = re.sub(r"\([^()]*\)|\[[^\]]*\]|'[^']*'|<[^>]*>", "0", text[text.index("(") + 1 : text.rindex(")")])
    arguments = []
    for part in filter(None, (p.strip().replace("\\", "") for p in inner.split(","))):
        name, default, _ = part.partition("=")
        name = name.split(":")[0].split()[-1]
        if name != "self":
            arguments.append(name + ("=0" if default else ""))
    if "*" in arguments:  # keyword arguments of a ufunc: its text leaves out that they have defaults
        star = arguments.index("*")
        arguments[star:] = [a if a[0] == "*" or a.endswith("=0") else a + "=0" for a in arguments[star:]]
    return ", ".join(arguments)


def line(name: str, thing: Any) -> str:
    """The line of one public name."""
    if not callable(thing) or isinstance(thing, type) or name.startswith("ndarray.__"):
        return name
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):  # compiled: the first line of its documentation says it
        text = (thing.__doc__ or "").strip().split("\n")[0].split("->")[0]
    try:
        found = f"{name}({signature(text)})"
        parse(found)
    except (ValueError, SyntaxError):
        return f"{name}(*args, **kwargs)"
    return found


def derive(cupy: Any) -> str:
    """The whole text, from the CuPy that is installed."""
    own = {n: getattr(cupy, n) for n in dir(cupy) if not n.startswith("_")}
    lines = [line(n, thing) for n, thing in own.items() if not inspect.ismodule(thing)]
    for path in INSIDE:
        thing = cupy
        for part in path.split("."):
            thing = getattr(thing, part)
        lines.append(line(path, thing))
    methods = [n for n in dir(cupy.ndarray) if not n.startswith("_") or (n.startswith("__") and n not in dir(object))]
    lines += [line(f"ndarray.{n}", getattr(cupy.ndarray, n)) for n in methods]
    return f"CuPy {cupy.__version__}\n" + "\n".join(sorted(lines)) + "\n"


def read(file: Path = FILE) -> dict[str, inspect.Signature | None]:
    """The listed names with their signatures; None for what is no function."""
    names: dict[str, inspect.Signature | None] = {}
    for text in file.read_text().splitlines()[1:]:
        names[text.partition("(")[0]] = parse(text)
    return names


def parse(text: str) -> inspect.Signature | None:
    """The signature that a line ends with, or None."""
    _, bracket, arguments = text.partition("(")
    return inspect.signature(eval(f"lambda {arguments[:-1]}: 0")) if bracket else None


if __name__ == "__main__":
    import cupy

    sys.stdout.write(derive(cupy))
