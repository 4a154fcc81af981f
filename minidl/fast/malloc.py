"""A setting of the C library's allocator that programs make once, when they start. The library never makes it.

glibc asks the system for fresh pages for every large block (mmap) and gives pages back as soon as the end of its heap
is free (trim). Fresh pages are slow (buffers.py says why). With both thresholds at a gigabyte it keeps what it once
got. That speeds up every large array that no kernel makes, such as a student's own operation; it also means that
memory, once used, stays with the process, which is for the program to decide.
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
