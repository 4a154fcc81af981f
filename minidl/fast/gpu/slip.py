"""What changes from step to step, where a step is replayed: a slip of numbers that lies on the device.

A captured step (graph.py) is the same work on the same memory each time. Whatever Python works out anew for each step,
a learning rate, a bias correction, the number of the step, must lie on the device when the work begins. A kernel that
needs such a number asks for it here. Outside of a capture it gets the number itself; while one is recorded, it gets
the place on the slip where the number will stand, and the function is remembered: it is called before each replay.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from minidl.backend import Array

LENGTH = 64  # numbers on a slip


class CantRepeat(RuntimeError):
    """A step does something that a recording of it would not do again."""


class Slip:
    """Numbers of 8 bytes each, float64 or uint64, in one small array on the device.

    words   the array on the device (LENGTH,) uint64
    makers  how they are made: functions without arguments that give a number or a list, in the order of their places
    form    the same as the module struct has it
    """

    def __init__(self, words: Array) -> None:
        self.words, self.form, self.used = words, "=", 0
        self.makers: list[Callable[[], Any]] = []

    def place(self, make: Callable[[], Any], letter: str, count: int = 1) -> Array:
        """Keep a function that gives a number, or a list of `count` of them; returns where they will stand."""
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


@contextmanager
def recording(slip: Slip) -> Iterator[None]:
    """While a step is recorded: numbers are places on this slip."""
    token = _recording.set(slip)
    try:
        yield
    finally:
        _recording.reset(token)


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
