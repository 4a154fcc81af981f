"""Work on both halves of a batch at once: NumPy lets go of Python's lock while it computes, so threads really help.

`split(work, n)` runs `work(0, n/2)` here and `work(n/2, n)` in a helper thread (or more parts, where there are more
cores), and returns when all are done. BLAS, which would start threads of its own inside each half, is held to one
thread meanwhile. Handing work over and back costs 30 microseconds, 90 on a virtual machine, so small work stays in one
piece. And it has to be a few long calls: between two of them a thread needs Python's lock for a moment, and if the
other one has it then, it sleeps, and wakes up late. Adam's dozen passes over short blocks gain nothing. The parts
depend on the number of threads only, never on timing: same seed, same number of threads, same bits.

`in_parts` cuts each half further, into parts small enough for the cache of a core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

CHUNK = 1 << 21  # bytes: about the cache of one core
LATELY = 64  # some steps of a small network
Work: TypeAlias = Callable[[int, int], Any]  # does the part [start, stop)

_busy = threading.Lock()  # held while work is split
_calls_since_work = LATELY  # of `lately_at_work`


@cache
def _team() -> tuple[list[Any], ThreadPoolExecutor]:
    """NumPy's BLAS libraries in this process, and the helper threads, which start as they are needed."""
    from threadpoolctl import ThreadpoolController  # here: it searches the process's libraries, some milliseconds

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    blas = [library for library in found if "numpy" in (library.filepath or "")] or found
    return blas, ThreadPoolExecutor(thread_name_prefix="minidl")


def _forget() -> None:
    global _busy
    _busy = threading.Lock()
    _team.cache_clear()  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def split(work: Work, n: int, worthwhile: bool = True, own: bool = True) -> list[Any]:
    """[work(start, stop), ...] for parts that cover range(n), in order; one part if it is not worthwhile.

    own  False for work that goes to the helpers only because they are awake, see `lately_at_work`

    There are as many parts as BLAS may use threads (so a process that limits BLAS limits us too), and one if another
    thread is splitting its work at the moment, as in a study that trains two models at once.
    """
    global _calls_since_work
    if not (worthwhile and n > 1 and _busy.acquire(blocking=False)):
        return [work(0, n)]
    try:
        _calls_since_work = 0 if own else _calls_since_work
        return _together(work, n)
    finally:
        _busy.release()


def _together(work: Work, n: int) -> list[Any]:
    """Do the work in as many parts as BLAS may use threads, the first of them here."""
    blas, helpers = _team()
    limits = [library.num_threads for library in blas]
    count = min(max(limits, default=1), n)
    bounds = [n * i // count for i in range(count + 1)]
    try:
        for library in blas:
            library.set_num_threads(1)
        # in a copy of our context: np.errstate and no_grad hold in the helpers as they do here
        others = [helpers.submit(copy_context().run, work, i, j) for i, j in pairwise(bounds[1:])]
        try:
            first = work(0, bounds[1])
        finally:  # even if our own part failed: the others still write into the caller's arrays
            wait(others)
        return [first, *(other.result() for other in others)]
    finally:
        for library, limit in zip(blas, limits, strict=True):
            library.set_num_threads(limit)


def in_parts(work: Callable[[slice], Any], n: int, size: int, worthwhile: bool = True) -> list[Any]:
    """[work(part), ...] for slices that cover range(n), in order, each of as many things of `size` bytes as the cache
    can hold, at least one. The halves of them are done side by side if that is worthwhile."""
    most = max(1, CHUNK // size)

    def some(start: int, stop: int) -> list[Any]:
        return [work(slice(i, min(i + most, stop))) for i in range(start, stop, most)]

    return [result for half in split(some, n, worthwhile) for result in half]


def lately_at_work() -> bool:
    """Whether the helper threads had work of their own (see `split`) within the last LATELY calls of this function."""
    global _calls_since_work
    _calls_since_work += 1
    return _calls_since_work < LATELY


def start_afresh() -> None:
    """Forget that the helpers were at work: a training must not get other bits from one that ran before it."""
    global _calls_since_work
    _calls_since_work = LATELY
