"""Makes a submission's text safe to show: on one line, without control characters, never mistaken for the grader's.

A message or a value may contain newlines that look like rows of marks, or characters that control a terminal.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any

MOST = 500  # characters of one text


def plain(text: str) -> str:
    """The text with control characters, which names and messages of a submission may contain, replaced by "?"."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def line(text: str, most: int = MOST) -> str:
    """The text on one line, shortened, without control characters."""
    return plain(" | ".join(part.strip() for part in text.splitlines() if part.strip()))[:most]


def tame(value: Any) -> Any:
    """The value, with every string in it on one line."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, list):
        return [tame(each) for each in value]
    if isinstance(value, dict):
        return {line(str(key)): tame(each) for key, each in value.items()}
    return value


def explained(error: Mapping[str, str]) -> str:
    """An error, for the student: its type and message, the line that raised it, and what it may mean."""
    kind, message = line(error["error"]), line(error["message"])
    said = f"{kind}: {message}" if message else kind
    where = line(error["where"])
    if where and where not in said:
        said += f" ({where})"
    if error["line"].strip():
        said += f"\n  {line(error['line'], 200)}"
    stopped = kind == "SystemExit" and _DEBUGGER.search(error["line"])  # since Python 3.14 that ends the program
    hint = _HINTS["BdbQuit"] if stopped else _HINTS.get(kind, "")
    if kind == "TypeError" and _ARGUMENTS.search(message):
        hint = "Keep the arguments of the functions to write, and their names, as they are in the hand-out."
    if message == "a Tensor is neither an array nor a number":
        hint = "An array or a number is expected here, but this is a Tensor: compute with x.data, the array in it."
    if "[Errno 38]" in message or kind in ("FileNotFoundError", "URLError", "gaierror"):
        hint = _HINTS["PermissionError"]
    return said + (f"\n{hint}" if hint else "")


_ARGUMENTS = re.compile(r"unexpected keyword argument|required (positional|keyword-only) argument|takes .* but \d+ w")
_DEBUGGER = re.compile(r"\b(breakpoint|set_trace) *\(")
_HINTS = {
    "SystemExit": 'Your file exits the program: remove the exit, or move it below `if __name__ == "__main__":`.',
    "PermissionError": "While it is graded, your code can't start programs, use the network, or open other files.",
    "MemoryError": "This needs more memory than a right answer could: check the shapes.",
    "RecursionError": "A function calls itself without end, or walks a graph by recursion.",
    "ModuleNotFoundError": "Your code may import the standard library, NumPy and the hand-out; of your own files, "
    "only those that you were asked to hand in.",
    "ImportError": "A name in the hand-out is missing from a file, or was changed: keep all names.",
    "SyntaxError": f"Python can't parse the file; the grader runs Python {platform.python_version()}.",
    "IndentationError": f"Python can't parse the file; the grader runs Python {platform.python_version()}.",
    "TabError": "Tabs and spaces are mixed: let your editor convert tabs to spaces.",
    "NameError": "This name is not defined: is it spelled correctly, and is its import at the top of the file?",
    "UnboundLocalError": "The function uses this name before assigning it, at least on one path through the code.",
    "EOFError": "Nobody can answer input() while your code is graded: remove it.",
    "BdbQuit": "breakpoint() or pdb.set_trace() is left in the file: remove it.",
}
