"""What changes from step to step when a step is replayed: a slip, a small array of numbers on the device.

A captured step (graph.py) does the same work on the same memory each time. Whatever Python computes for each step, such
as a learning rate, a bias correction or the index of the step, must be on the device before the step starts. A kernel
that needs such a number requests it here. Outside of a capture it gets the number itself; during one, it gets the place
on the slip where the number will be, and the function that computes it is stored and called before each replay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from minidl.backend import Array
from minidl.telling import holding

LENGTH = 64  # numbers on a slip


class CantRepeat(RuntimeError):
    """A step does something that a replay would not repeat."""


class Slip:
    """Numbers of 8 bytes each, float64 or uint64, in one small array on the device.

    words   the array on the device (LENGTH,) uint64
    makers  functions without arguments that return a number or a list, in the order of their places
    form    the types of the numbers, as a format string of the module struct
    """

    def __init__(self, words: Array) -> None:
        self.words, self.form, self.used = words, "=", 0
        self.makers: list[Callable[[], Any]] = []

    def place(self, make: Callable[[], Any], letter: str, count: int = 1) -> Array:
        """Store a function that returns a number, or a list of `count` of them; returns their place."""
        start, self.used = self.used, self.used + count
        if self.used > LENGTH:
            raise CantRepeat(f"a step has more than {LENGTH} numbers that change")
        self.makers.append(make)
        self.form += letter * count
        return self.words[start : self.used]

    def write(self, memory: Any, offset: int) -> None:
        """Call each function, in order, and write the numbers into memory on the host."""
        numbers: list[Any] = []
        for make in self.makers:
            made = make()
            numbers.extend(made) if type(made) is list else numbers.append(made)
        struct.pack_into(self.form, memory, offset, *numbers)


_recording: ContextVar[Slip | None] = ContextVar("slip", default=None)


def recording(slip: Slip) -> AbstractContextManager[None]:
    """While a step is recorded, numbers are places on this slip."""
    return holding(_recording, slip)


def is_recording_step() -> bool:
    """Whether a step is being recorded."""
    return _recording.get() is not None


def number(make: Callable[[], int]) -> tuple[Array | None, int]:
    """A uint64: (its place, 0) while a step is recorded, else (None, the number now)."""
    slip = _recording.get()
    return (None, make()) if slip is None else (slip.place(make, "Q"), 0)


def numbers(make: Callable[[], list[float]]) -> tuple[Array | None, list[float]]:
    """Several numbers at once, float64: (their place, zeros) while a step is recorded, else (None, the numbers now)."""
    slip, now = _recording.get(), make()
    return (None, now) if slip is None else (slip.place(make, "d", len(now)), [0.0] * len(now))
