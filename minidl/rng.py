"""Random numbers that every device can draw for itself, so that a seed means the same everywhere.

A usual generator goes from one number to the next. A counter-based one (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3") computes number n of step s from (key, s, n) alone, in any order, on as many threads as there are.
NumPy has it as Philox; minidl/gpu has the same thirty lines for the GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array


class CounterRng:
    """A stream of random numbers for one layer: each step has its own, which no other draw can shift.

    rng   a Generator, from which the key is drawn, a seed, or None for fresh entropy
    key   two 64-bit numbers that say which stream it is
    step  draws made so far; with `key` all that a checkpoint needs
    """

    def __init__(self, rng: Any = None) -> None:
        words = np.random.default_rng(rng).integers(0, 2**64, 2, np.uint64)
        self.key: tuple[int, int] = (int(words[0]), int(words[1]))
        self.step = 0

    def next_step(self) -> int:
        """The number of this draw; the next one gets the next."""
        self.step += 1
        return self.step - 1

    def random(self, shape: Any, dtype: Any = np.float32) -> Array:
        """The numbers of the next draw, in [0, 1), as numpy.random.Generator.random gives them."""
        key = np.array(self.key, np.uint64)  # given as Python's numbers, NumPy would round them to float64
        philox = np.random.Philox(key=key, counter=np.array([0, 0, self.next_step(), 0], np.uint64))
        return np.random.Generator(philox).random(shape, dtype=dtype)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON."""
        return {"key": list(self.key), "step": self.step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Stand where `state()` was taken."""
        self.key, self.step = (int(state["key"][0]), int(state["key"][1])), int(state["step"])
