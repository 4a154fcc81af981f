"""What changes from step to step, where a step is replayed: a slip of numbers that lies on the device.

A captured step (graph.py) is the same work on the same memory each time. Whatever Python works out anew for each step,
a learning rate, a bias correction, the number of the step, must lie on the device when the work begins. A kernel that
needs such a number asks for it here. Outside of a capture it gets the number itself; while one is recorded, it gets
the place on the slip where the number will stand, and the function is remembered: it is called before each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from minidl.backend import Array

LENGTH = 64  # numbers on a slip


class SlipFull(RuntimeError):
    """A step needs more numbers than a slip has room for."""


class Slip:
    """Numbers of 8 bytes each, float64 or uint64, in one small array on the device.

    words   the array on the device (LENGTH,) uint64
    makers  how each is made: functions without arguments, in the order of their places
    """

    def __init__(self, words: Array) -> None:
        self.words = words
        self.makers: list[tuple[int, int, Callable[[], Any], type]] = []
        self.used = 0

    def place(self, make: Callable[[], Any], dtype: type, count: int = 1) -> Array:
        """Keep a function that gives `count` numbers; returns where they will stand."""
        if self.used + count > LENGTH:
            raise SlipFull(f"a step needs more than {LENGTH} numbers that change")
        start, self.used = self.used, self.used + count
        self.makers.append((start, count, make, dtype))
        return self.words[start : start + count]

    def write(self, row: np.ndarray[Any, Any]) -> None:
        """Call each function, in order, and write its numbers into a row of uint64 on the host."""
        for start, count, make, dtype in self.makers:
            row[start : start + count].view(dtype)[:] = make()


_recording: ContextVar[Slip | None] = ContextVar("slip", default=None)


@contextmanager
def recording(slip: Slip) -> Iterator[None]:
    """While a step is recorded: numbers are places on this slip."""
    token = _recording.set(slip)
    try:
        yield
    finally:
        _recording.reset(token)


def number(make: Callable[[], Any], dtype: type = np.uint64) -> tuple[Array | None, Any]:
    """(place, 0) while a step is recorded, else (None, the number now)."""
    slip = _recording.get()
    return (None, make()) if slip is None else (slip.place(make, dtype), 0)


def numbers(make: Callable[[], list[float]]) -> tuple[Array | None, list[float]]:
    """Several numbers at once, float64: (their place, zeros) while a step is recorded, else (None, the numbers now)."""
    slip, now = _recording.get(), make()
    return (None, now) if slip is None else (slip.place(make, np.float64, len(now)), [0.0] * len(now))
