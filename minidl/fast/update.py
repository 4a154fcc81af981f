"""An update shared by threads, where no compiled loop takes it in one pass (see loops/rules.py).

A rule is element by element, so it is the same on each stretch of its vectors, and threads change no bit. Each has
memory of its own to work in. A rule of a user's own may be any program, so it is left to one thread.
"""

from __future__ import annotations

from typing import Any, Protocol

from minidl.backend import CPU
from minidl.fast.threads import split, threads


class Rule(Protocol):
    """What an update rule (optim/rule.py) shows of itself here."""

    flat: Any

    def part(self, stretch: slice, apart: bool = False) -> Any: ...


def step(rule: Rule) -> Any:
    """Add the step to all parameters; NotImplemented where there is nothing to share."""
    blocks = rule.flat.blocks
    built_in = type(rule).__module__.startswith("minidl.optim.")
    if len(blocks) < 2 or rule.flat.apart or not built_in or threads() < 2:
        return NotImplemented

    def some(start: int, stop: int) -> None:
        rule.part(slice(blocks[start].start, blocks[stop - 1].stop), apart=True)._move()

    split(some, len(blocks))
    return None


CPU.kernels["rule"] = step
