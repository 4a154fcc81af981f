"""What a student's program says, made fit to be shown: in one line, without control characters, and never as our word.

A message or a value may hold line ends that look like rows of marks, or characters that drive a terminal.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any

MOST = 500  # characters of one text


def plain(text: str) -> str:
    """The text without the control characters that names and messages of a submission may hold for a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def line(text: str, most: int = MOST) -> str:
    """In one line, shortened, without control characters."""
    return plain(" | ".join(part.strip() for part in text.splitlines() if part.strip()))[:most]


def tame(value: Any) -> Any:
    """The value with every text in it in one line."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, list):
        return [tame(each) for each in value]
    if isinstance(value, dict):
        return {line(str(key)): tame(each) for key, each in value.items()}
    return value


def explained(error: Mapping[str, str]) -> str:
    """An error for the student: its type and message, the line that it came from, and what it may mean."""
    kind, message = line(error["error"]), line(error["message"])
    said = f"{kind}: {message}" if message else kind
    where = line(error["where"])
    if where and where not in said:
        said += f" ({where})"
    if error["line"].strip():
        said += f"\n  {line(error['line'], 200)}"
    hint = _HINTS.get(kind, "")
    if kind == "TypeError" and _ARGUMENTS.search(message):
        hint = "The arguments of the functions to write must stay, with their names, as the hand-out has them."
    if message == "a Tensor is neither an array nor a number":
        hint = "Numbers are due here, and this is a Tensor: compute with x.data, the array in it."
    if "[Errno 38]" in message:
        hint = _HINTS["PermissionError"]
    return said + (f"\n{hint}" if hint else "")


_ARGUMENTS = re.compile(r"unexpected keyword argument|required (positional|keyword-only) argument|takes .* but \d+ w")
_HINTS = {
    "SystemExit": 'Your file ends the program: remove the exit, or move it below `if __name__ == "__main__":`.',
    "PermissionError": "While it is graded your code can't start programs, use the network, or touch other files.",
    "MemoryError": "More memory than a right answer could need: look at the shapes.",
    "RecursionError": "A function calls itself without end, or a graph is walked by recursion.",
    "ModuleNotFoundError": "Your code may import the standard library, NumPy and the hand-out; of your own files "
    "those alone that were asked for.",
    "ImportError": "A name that the hand-out has is missing in a file, or has changed: names must stay.",
    "SyntaxError": f"Python can't read the file; the grader runs Python {platform.python_version()}.",
    "IndentationError": f"Python can't read the file; the grader runs Python {platform.python_version()}.",
    "TabError": "Tabs and spaces are mixed: let your editor turn tabs into spaces.",
    "NameError": "A name that is not defined here: is it spelled as above, and is its import at the top of the file?",
    "UnboundLocalError": "The function sets this name on some ways through it only, or only below.",
    "EOFError": "Nobody is there to answer input(): remove it.",
    "BdbQuit": "A debugger's breakpoint() or pdb.set_trace() is left in the file: remove it.",
}
