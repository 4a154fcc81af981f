"""Memory that is used again: a large array is taken from a shelf of old ones that nobody holds any more.

A training step makes the same arrays in every round. Fresh memory for them is slow, not because of the allocation
but because of what follows: the system hands out large blocks as pages that do not exist yet, and the first write to
each page (4 kB) stops the program while the kernel finds one and fills it with zeros. Writing to new memory takes
many times as long as writing to memory that was used before: tutorial 13 measures it.

So `empty(shape, dtype)` keeps a reference to every array that it hands out, and hands one out again when its own
reference is the only one left. Python counts references for us: a Tensor, a view, a closure or a variable of the
user's that still needs the array keeps it off the market, so a value that somebody can see never changes.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import defaultdict
from typing import Any

import numpy as np

from minidl.backend import CPU, Array

SMALL = 1 << 14  # bytes: below, plain allocation comes from memory that is in use already
LIMIT = 256 << 20  # bytes that one thread's shelves may hold
SWEEP = 1 << 14  # arrays handed out between two clearings of the shelves, which drop what nobody asks for any more


def _references(shelf: list[Array], i: int) -> int:
    return sys.getrefcount(shelf[i])


def _count_of_a_free_array() -> int | None:
    """What _references says of an array that only the shelf holds: it depends on Python's version, so we look.

    None where counts can't be relied on: without a global interpreter lock they are kept per thread.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or not hasattr(sys, "getrefcount"):
        return None
    shelf = [np.empty(2)]
    free = _references(shelf, 0)
    view = shelf[0].reshape(2, 1)[1:].T  # a view of a view counts as a reference to the array that owns the memory
    held = _references(shelf, 0)
    del view
    return free if held == free + 1 and _references(shelf, 0) == free else None


FREE = _count_of_a_free_array()


class _Pool(threading.local):
    """The shelves of one thread, by shape and dtype. Each thread has its own, so none needs a lock.

    The first axis, mostly the batch's, is left out of the key: the last, smaller batch gets the first rows of an
    array that was made for a full one. To clear a shelf is always safe: an array that is in use stays with its users.
    """

    def __init__(self) -> None:
        self.shelves: defaultdict[Any, list[Array]] = defaultdict(list)
        self.handed_out = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if not SMALL <= size <= LIMIT:
            return np.empty(shape, dtype)
        self.handed_out += 1
        if self.handed_out % SWEEP == 0:
            self.shelves.clear()
        shelf, n = self.shelves[shape[1:], dtype], shape[0]
        for i in range(len(shelf)):
            if _references(shelf, i) == FREE and len(shelf[i]) >= n:
                return shelf[i] if len(shelf[i]) == n else shelf[i][:n]
        if self.bytes() + size > LIMIT:
            self.shelves.clear()
        array = np.empty(shape, dtype)
        self.shelves[shape[1:], dtype].append(array)
        return array

    def bytes(self) -> int:
        return sum(array.nbytes for shelf in self.shelves.values() for array in shelf)


_pool = _Pool()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Like np.empty: an array with arbitrary contents, which nobody else holds. C order."""
    return np.empty(shape, dtype) if FREE is None else _pool.empty(shape, np.dtype(dtype))


def held() -> int:
    """Bytes on this thread's shelves, in use or not."""
    return _pool.bytes()


def release() -> None:
    """Give this thread's unused buffers back to the system, when training is over."""
    _pool.shelves.clear()


CPU.kernels["empty"] = empty
