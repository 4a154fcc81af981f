"""Parts of an assignment that the grader computes, when it asks whether the rest is right. In the student's process.

A part that is wrong or unwritten spoils what builds on it. So the grader asks again with that part given: here a
stand-in takes its place, which sends the arguments over and gets the numbers back. No reference's code comes here.
"""

from collections.abc import Callable, Mapping
from typing import Any

Part = tuple[Any, str, Callable[..., Any]]  # the module or class, the name in it, the stand-in
_own: dict[str, Any] = {}


def ask(part: str, *arguments: Any) -> Any:
    """What the grader computes for a part; the worker puts its pipe in this place."""
    raise NotImplementedError("only the worker can ask")


def give(parts: Mapping[str, Part], names: list[str]) -> None:
    """Put stand-ins in the place of these parts, and the student's own in the place of all others."""
    for name, (owner, attribute, stand_in) in parts.items():
        own = _own.setdefault(name, owner.__dict__.get(attribute))
        if name in names or own is not None:
            setattr(owner, attribute, stand_in if name in names else own)
        elif attribute in owner.__dict__:
            delattr(owner, attribute)  # the student has none
