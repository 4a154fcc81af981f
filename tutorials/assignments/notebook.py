"""Turns a notebook into a module: the code of its cells, without the lines that only Jupyter understands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tutorials.assignments.unpack import Problem

LARGEST_NOTEBOOK = 16 << 20  # bytes, including images
_JUPYTERS = re.compile(  # %matplotlib, !pip, ?help, help?, files = !ls
    r"^[ \t]*(%{1,2}[A-Za-z]|[!?]|pip install |[\w, ]+= *(!|%[A-Za-z]))|^[ \t]*[\w.]*\?\??$"
)
_MAGIC = re.compile(r"\s*%%(\w+) *(.*)")  # a cell magic
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)


def code_of(name: str, read: Callable[[int], bytes]) -> bytes:
    """The code in a notebook. Raises Problem if it is not a notebook or contains no code."""
    data = read(LARGEST_NOTEBOOK + 1)
    if len(data) > LARGEST_NOTEBOOK:
        raise Problem(f"{name} has more than {LARGEST_NOTEBOOK >> 20} MB: hand in a .py file")
    try:
        cells = json.loads(data)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Problem(f"{name} can't be read as a notebook: hand in a .py file") from None
    code = "\n\n".join(map(_plain, filter(_is_python, sources)))
    future = _FUTURE.findall(code)  # may be in any cell, but must be at the top of a module
    code = "\n".join([*future, _FUTURE.sub("", code)])
    if not code.strip():
        raise Problem(f"{name} is a notebook without code: hand in a .py file")
    return code.encode("utf-8", "replace")


def _is_python(source: str) -> bool:
    """Whether a cell is Python, as with %%time and %%writefile adam.py, but not with %%bash or %%html."""
    magic = _MAGIC.match(source)
    return not magic or magic[1] in ("time", "timeit", "capture", "prun") or magic[2].rstrip().endswith(".py")


def _plain(source: str) -> str:
    """A cell with every line that is not Python replaced by an empty one."""
    return "\n".join("" if _JUPYTERS.match(line) else line for line in source.split("\n"))
