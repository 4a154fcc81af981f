"""Work on both halves of a batch at once: NumPy lets go of Python's lock while it computes, so threads really help.

`split(work, n)` runs `work(0, n/2)` here and `work(n/2, n)` in a helper thread (or more parts, where there are more
cores), and returns when all are done. BLAS, which would start threads of its own inside each half, is held to one
thread meanwhile. Handing work over and back costs 30 microseconds, 90 on a virtual machine, so small work stays in one
piece. And it has to be a few long calls: between two of them a thread needs Python's lock for a moment, and if the
other one has it then, it sleeps, and wakes up late. Adam's dozen passes over short blocks gain nothing. The parts
depend on the number of threads only, never on timing: same seed, same number of threads, same bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import pairwise
from typing import Any, TypeAlias

LATELY = 64  # some steps of a small network
Work: TypeAlias = Callable[[int, int], Any]  # does the part [start, stop)


class _Team:
    """The helper threads, started as they are needed, and the BLAS libraries of this process."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController  # here: it searches the process's libraries, some milliseconds

        controllers = ThreadpoolController().select(user_api="blas").lib_controllers
        self.blas = [c for c in controllers if "numpy" in (c.filepath or "")] or controllers
        self.helpers = ThreadPoolExecutor(thread_name_prefix="minidl")
        self.busy = threading.Lock()
        self.calls_since_work = 0

    def run(self, work: Work, n: int) -> list[Any]:
        """Do the work in as many parts as BLAS may use threads, the first of them here. The caller holds self.busy."""
        limits = [library.num_threads for library in self.blas]
        count = min(max(limits, default=1), n)
        bounds = [n * i // count for i in range(count + 1)]
        try:
            for library in self.blas:
                library.set_num_threads(1)
            # in a copy of our context: np.errstate and no_grad hold in the helpers as they do here
            others = [
                self.helpers.submit(copy_context().run, work, start, stop) for start, stop in pairwise(bounds[1:])
            ]
            try:
                first = work(0, bounds[1])
            finally:  # even if our own part failed: the others still write into the caller's arrays
                wait(others)
            return [first, *(other.result() for other in others)]
        finally:
            for library, limit in zip(self.blas, limits, strict=True):
                library.set_num_threads(limit)


_team: _Team | None = None


def _forget() -> None:
    global _team
    _team = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def lately_at_work() -> bool:
    """Whether the helper threads had work of their own (see `split`) within the last LATELY calls of this function."""
    if _team is None:
        return False
    _team.calls_since_work += 1
    return _team.calls_since_work < LATELY


def start_afresh() -> None:
    """Forget that the helpers were at work: a training must not get other bits from one that ran before it."""
    if _team is not None:
        _team.calls_since_work = LATELY


def split(work: Work, n: int, worthwhile: bool = True, own: bool = True) -> list[Any]:
    """[work(start, stop), ...] for parts that cover range(n), in order; one part if it is not worthwhile.

    own  False for work that goes to the helpers only because they are awake, see `lately_at_work`

    There are as many parts as BLAS may use threads (so a process that limits BLAS limits us too), and one if another
    thread is splitting its work at the moment, as in a study that trains two models at once.
    """
    global _team
    if worthwhile and n > 1:
        team = _team = _team or _Team()
        if team.busy.acquire(blocking=False):
            try:
                team.calls_since_work = 0 if own else team.calls_since_work
                return team.run(work, n)
            finally:
                team.busy.release()
    return [work(0, n)]


CHUNK = 1 << 21  # bytes: about the cache of one core


def fitting(n: int, size: int) -> int:
    """How many of n things of `size` bytes to work on at a time: as many as fit into the cache, at least one."""
    return max(1, min(n, CHUNK // size))


def parts(start: int, stop: int, most: int) -> Iterator[slice]:
    """The slices that cover [start, stop), of `most` each but for the last."""
    return (slice(i, min(i + most, stop)) for i in range(start, stop, most))
