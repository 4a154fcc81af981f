"""Parts of an assignment that the grader computes to find out whether the rest is right. In the student's process.

If a part is wrong or unwritten, everything built on it fails. So the grader checks again with that part replaced by a
stand-in, which sends the arguments to the grader and gets the result back. No reference code enters this process.
"""

from collections.abc import Callable, Mapping
from typing import Any

Part = tuple[Any, str, Callable[..., Any]]  # the module or class, the name in it, the stand-in
_own: dict[str, Any] = {}


def ask(part: str, *arguments: Any) -> Any:
    """The grader's result for a part; the worker replaces this function by one that uses its pipe."""
    raise NotImplementedError("only the worker can ask")


def give(parts: Mapping[str, Part], names: list[str]) -> None:
    """Replace these parts by their stand-ins, and restore the student's own version of all others."""
    for name, (owner, attribute, stand_in) in parts.items():
        own = _own.setdefault(name, owner.__dict__.get(attribute))
        if name in names or own is not None:
            setattr(owner, attribute, stand_in if name in names else own)
        elif attribute in owner.__dict__:
            delattr(owner, attribute)  # the student has none
