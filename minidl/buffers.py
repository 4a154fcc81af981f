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


class _Place:
    """A place on a shelf: an array, and whether it was handed out since the last sweep."""

    __slots__ = ("array", "used")

    def __init__(self, array: Array) -> None:
        self.array, self.used = array, True

    def references(self) -> int:
        return sys.getrefcount(self.array)


def _count_of_a_free_array() -> int | None:
    """What references() says when only the shelf holds the array: it depends on the Python version, so we look.

    None where counts can't be relied on: without a global interpreter lock they are kept per thread.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)() or not hasattr(sys, "getrefcount"):
        return None
    place = _Place(np.empty(2))
    free = place.references()
    view = place.array.reshape(2, 1)[1:].T  # a view of a view counts as a reference to the array that owns the memory
    held = place.references()
    del view
    return free if held == free + 1 and place.references() == free else None


FREE = _count_of_a_free_array()


class _Pool(threading.local):
    """The shelves of one thread, by shape and dtype. Each thread has its own, so none needs a lock.

    The first axis, mostly the batch's, is left out of the key: the last, smaller batch gets the first rows of an
    array that was made for a full one.
    """

    def __init__(self) -> None:
        self.shelves: dict[Any, list[_Place]] = {}
        self.handed_out = 0  # since the last sweep
        self.bytes = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        size = math.prod(shape) * dtype.itemsize
        if size < SMALL or size > LIMIT:
            return np.empty(shape, dtype)
        self.handed_out += 1
        if self.handed_out >= SWEEP:
            self.sweep()
        shelf, n = self.shelves.setdefault((shape[1:], dtype), []), shape[0]
        for place in shelf:
            if len(place.array) >= n and place.references() == FREE:
                place.used = True
                return place.array if len(place.array) == n else place.array[:n]
        if self.bytes + size > LIMIT:
            self.release()
            shelf = self.shelves.setdefault((shape[1:], dtype), [])
        array: Array = np.empty(shape, dtype)
        shelf.append(_Place(array))
        self.bytes += size
        return array

    def sweep(self) -> None:
        """Drop what was not used in a while: the arrays of a model that is gone, or of a larger batch."""
        for key, shelf in list(self.shelves.items()):
            self.bytes -= sum(place.array.nbytes for place in shelf if not place.used)
            self.shelves[key] = [place for place in shelf if place.used]
            if not self.shelves[key]:
                del self.shelves[key]
            for place in shelf:
                place.used = False
        self.handed_out = 0

    def release(self) -> None:
        """Drop all. This is always safe: an array that is in use stays with those who use it."""
        self.shelves.clear()
        self.bytes = 0


_pool = _Pool()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Like np.empty: an array with arbitrary contents, which nobody else holds. C order."""
    return np.empty(shape, dtype) if FREE is None else _pool.empty(shape, np.dtype(dtype))


def held() -> int:
    """Bytes on this thread's shelves, in use or not."""
    return _pool.bytes


def release() -> None:
    """Give this thread's unused buffers back to the system, when training is over."""
    _pool.release()


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
