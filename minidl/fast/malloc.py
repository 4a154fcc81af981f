"""Memory that is used again: a setting of the C library's allocator that programs make once, when they start.

A training step makes the same arrays in every round. Fresh memory for them is slow, not because of the allocation
but because of what follows: the system hands out large blocks as pages that do not exist yet, and the first write to
each page (4 kB) stops the program while the kernel finds one and fills it with zeros. Writing to new memory takes
many times as long as writing to memory that was used before: tutorial 13 measures it.

glibc asks the system for fresh pages for every large block (mmap) and gives pages back as soon as the end of its heap
is free (trim). With both thresholds at a gigabyte it keeps what it once got. Memory, once used, then stays with the
process: that is for a program to decide, so the library never makes this setting. A CNN's step takes 1.2 times as long
without it. (Shelves of our own, by reference counts, were as fast beside it and slower alone, and took 50 MB more.)
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h


def tune_allocator() -> bool:
    """Let plain allocation use memory again, in the whole process. False where it can't: only glibc has mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, 1 << 30) and mallopt(MMAP_THRESHOLD, 1 << 30))
