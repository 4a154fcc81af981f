"""A notebook as the module that it stands for: the code of its cells, without the lines that Jupyter alone reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tutorials.assignments.unpack import Problem

LARGEST_NOTEBOOK = 16 << 20  # bytes, pictures included
_JUPYTERS = re.compile(r"^[ \t]*(%{1,2}[A-Za-z]|!)|^[ \t]*[\w.]*\?\??$")  # %matplotlib inline, !pip install, help?


def code_of(name: str, read: Callable[[int], bytes]) -> bytes:
    """The code in a notebook. Raises Problem where it is none or holds none."""
    data = read(LARGEST_NOTEBOOK + 1)
    if len(data) > LARGEST_NOTEBOOK:
        raise Problem(f"{name} has more than {LARGEST_NOTEBOOK >> 20} MB: hand in a .py file")
    try:
        cells = json.loads(data)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Problem(f"{name} can't be read as a notebook: hand in a .py file") from None
    code = "\n\n".join(map(_plain, sources))
    if not code.strip():
        raise Problem(f"{name} is a notebook without code: hand in a .py file")
    return code.encode("utf-8", "replace")


def _plain(source: str) -> str:
    """A cell's lines that are Python; the others leave an empty line, so that numbers of lines stay."""
    return "\n".join("" if _JUPYTERS.match(line) else line for line in source.split("\n"))
