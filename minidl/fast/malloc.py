"""Reusing memory: a setting of the C library's allocator that a program makes once, at start-up.

Each training step allocates the same arrays again. Fresh memory for them is slow, not because of the allocation but
because of the page faults that follow: the system maps large blocks lazily, and the first write to each page (4 kB)
stops the program while the kernel finds a free page and zeroes it. Writing to new memory takes many times as long as
writing to memory that was used before: lesson 13 measures it.

glibc maps fresh pages for every large block (mmap) and returns pages as soon as the top of its heap is free (trim).
With both thresholds at a gigabyte it keeps the memory it has. Memory once used then stays with the process: whether it
should is for a program to decide, so the library never makes this setting. A CNN's step takes 1.2 times as long without
it. (A buffer pool of our own, by reference counts, was as fast together with it, slower without it, and took 50 MB
more.)
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h


def tune_allocator() -> bool:
    """Make malloc reuse memory, in the whole process. False where that is impossible: only glibc has mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, 1 << 30) and mallopt(MMAP_THRESHOLD, 1 << 30))
