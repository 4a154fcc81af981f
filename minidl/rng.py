"""Random numbers that every device can draw for itself, so that a seed gives the same ones everywhere.

An ordinary generator computes each number from the last. A counter-based one (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3") computes number n of step s from (key, s, n) alone, in any order, on any number of
threads. NumPy has one, Philox; minidl/fast/gpu/kernels.cu has the same thirty lines for the GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from inspect import isgeneratorfunction
from itertools import count
from typing import Any

import numpy as np

from minidl.backend import Array
from minidl.telling import Function, is_async, within

Rng = np.random.Generator | int | None  # a generator, a seed, or None: from the `minidl.seed` block, else fresh entropy


class CounterRng:
    """A stream of random numbers for one layer: each step has its own, which no other draw can shift.

    rng   a Generator to draw the key from, a seed, or None: the `seed` block's next stream, else fresh entropy
    key   two 64-bit numbers that identify the stream
    step  the number of draws so far; with `key` all that a checkpoint needs
    """

    def __init__(self, rng: Rng = None) -> None:
        self.by_chance = not repeatable(rng)  # drawn from fresh entropy, which no seed repeats
        words = generator_of(rng).integers(0, 2**64, 2, np.uint64)
        self.key: tuple[int, int] = (int(words[0]), int(words[1]))
        self.step = 0

    def next_step(self) -> int:
        """Return the number of this draw, and count it."""
        self.step += 1
        return self.step - 1

    def random(self, shape: Any, dtype: Any = np.float32) -> Array:
        """The numbers of the next draw, in [0, 1), as numpy.random.Generator.random gives them."""
        key = np.array(self.key, np.uint64)  # NumPy would round Python's ints to float64
        philox = np.random.Philox(key=key, counter=np.array([0, 0, self.next_step(), 0], np.uint64))
        return np.random.Generator(philox).random(shape, dtype=dtype)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON."""
        return {"key": list(self.key), "step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to what `state()` returned."""
        self.key, self.step = (int(state["key"][0]), int(state["key"][1])), int(state["step"])
        self.by_chance = False


# ---- one seed for a whole network ----

# the enclosing `seed` block: its seed, its count of streams, and the block around it
_seeded: ContextVar[tuple[int, Iterator[int], Any] | None] = ContextVar("seeded", default=None)


def seed(n: int) -> _Seeded:
    """`with minidl.seed(0): net = Net()` gives each layer created inside, unless it has an rng, a stream of its own.

    n  a whole number, 0 or more. The first layer gets stream 0, the next one stream 1, and so on, so the same program
       draws the same weights. A layer with an `rng` of its own takes none

    It applies to this block and this thread only. Nothing is set for the rest of the program: `minidl.seed(0)` on a
    line of its own does nothing, and warns. Raises ValueError for any other n.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"a seed is a whole number, 0 or more, got {n!r}")
    return _Seeded(int(n))


class _Seeded:
    """A `seed` block. Each time it is entered, in any thread, its streams start over."""

    def __init__(self, n: int) -> None:
        self.n, self.used = n, False

    def __enter__(self) -> None:
        _seeded.set((self.n, count(), _seeded.get()))
        self.used = True

    def __exit__(self, *error: Any) -> None:
        block = _seeded.get()
        assert block is not None  # the one that was entered
        _seeded.set(block[2])

    def __call__(self, function: Function) -> Function:
        self.used = True
        if isgeneratorfunction(function) or is_async(function):
            raise TypeError(f"seed({self.n}) on a generator or an async function seeds nothing, since it draws later: "
                            "give each layer its rng, or return a list")  # fmt: skip
        return within(lambda: self, function)

    def __repr__(self) -> str:  # as a cell's last value it is kept and shown, and __del__ is not called
        this = f"seed({self.n})"
        return f"{this} on a line of its own seeds nothing: write `with minidl.{this}:` and create the network inside"

    def __del__(self) -> None:
        if not self.used:
            warnings.warn(repr(self), stacklevel=2)


def generator_of(rng: Rng) -> np.random.Generator:
    """rng itself, or one from a seed; for None the next stream of the enclosing `seed` block, else fresh entropy."""
    around = _seeded.get()
    if rng is not None or around is None:
        return np.random.default_rng(rng)
    return np.random.default_rng(np.random.SeedSequence(around[0], spawn_key=(next(around[1]),)))


def repeatable(rng: Rng) -> bool:
    """Whether the next numbers from this rng come from a seed."""
    return rng is not None or _seeded.get() is not None
