"""Memory that is used again: a large array is taken from a shelf of old ones that nobody holds any more.

A training step makes the same arrays in every round. Fresh memory for them is slow, not because of the allocation
but because of what follows: the system hands out large blocks as pages that do not exist yet, and the first write to
each page (4 kB) stops the program while the kernel finds one and fills it with zeros. Writing to new memory takes
up to twice as long as writing to memory that was used before.

So `empty(shape, dtype)` keeps a reference to every array that it hands out, and hands one out again when its own
reference is the only one left. Python counts references for us: a Tensor, a view, a closure or a variable of the
user's that still needs the array keeps it off the market, so a value that somebody can see never changes.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from typing import Any

import numpy as np

from minidl.backend import Array

SMALL = 1 << 14  # bytes: below, plain allocation comes from memory that is in use already
LIMIT = 256 << 20  # bytes that one thread's shelves may hold
SWEEP = 4096  # arrays handed out between two searches for shelves that nobody asks for any more


def _references(shelf: list[Array], i: int) -> int:
    return sys.getrefcount(shelf[i])


def _count_of_a_free_array() -> int | None:
    """What _references says when only the shelf holds the array: it depends on the Python version, so we look.

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
    array that was made for a full one.
    """

    def __init__(self) -> None:
        self.shelves: dict[Any, list[Array]] = {}
        self.asked_for: set[Any] = set()  # shelves, since the last sweep
        self.handed_out = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if not SMALL <= size <= LIMIT:
            return np.empty(shape, dtype)
        self.handed_out += 1
        if self.handed_out % SWEEP == 0:  # drop the arrays of a model that is gone
            self.shelves = {key: shelf for key, shelf in self.shelves.items() if key in self.asked_for}
            self.asked_for.clear()
        key, n = (shape[1:], dtype), shape[0]
        self.asked_for.add(key)
        shelf = self.shelves.setdefault(key, [])
        for i in range(len(shelf)):
            if _references(shelf, i) == FREE and len(shelf[i]) >= n:
                return shelf[i] if len(shelf[i]) == n else shelf[i][:n]
        if self.bytes() + size > LIMIT:
            self.shelves = {key: (shelf := [])}  # always safe: an array that is in use stays with those who use it
        shelf.append(np.empty(shape, dtype))
        return shelf[-1]

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


def tune_allocator() -> bool:
    """Let plain allocation use memory again too, in the whole process: for programs, never called by the library.

    glibc asks the system for fresh pages for every large block (mmap) and gives pages back as soon as the end of its
    heap is free (trim). With both thresholds at a gigabyte it keeps what it once got. That speeds up every large
    array that no kernel makes, such as a student's own operation; it also means that memory, once used, stays with
    the process. Returns whether it could be done: only glibc has mallopt.
    """
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(trim, 1 << 30) and mallopt(mmap, 1 << 30))
