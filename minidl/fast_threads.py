"""Work on both halves of a batch at once: NumPy lets go of Python's lock while it computes, so threads really help.

`split(work, n)` runs `work(0, n/2)` here and `work(n/2, n)` in a helper thread (or more parts, where there are more
cores), and returns when all are done. BLAS, which would start threads of its own inside each half, is held to one
thread meanwhile. Handing work over and back costs some 20 microseconds, so small work stays in one piece. The parts
depend on the number of threads only, never on timing: same seed, same number of threads, same bits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeAlias

LATELY = 64  # some steps of a small network
Work: TypeAlias = Callable[[int, int], Any]  # does the part [start, stop)


class _Team:
    """The helper threads, started when they are first needed, and the BLAS libraries of this process."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController  # here: it searches the process's libraries, some milliseconds

        controllers = ThreadpoolController().select(user_api="blas").lib_controllers
        self.blas = [c for c in controllers if "numpy" in (c.filepath or "")] or controllers
        self.tasks: SimpleQueue[Any] = SimpleQueue()
        self.helpers = 0
        self.busy = threading.Lock()
        self.calls_since_work = 0

    def run(self, work: Work, n: int, count: int, limits: list[int]) -> list[Any]:
        """Run `count` parts of range(n), one of them here. The caller holds self.busy."""
        while self.helpers < count - 1:
            threading.Thread(target=_help, args=(self.tasks,), name="minidl", daemon=True).start()
            self.helpers += 1
        bounds = [n * i // count for i in range(count + 1)]
        done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        results: list[Any] = [None] * count
        for library in self.blas:
            library.set_num_threads(1)
        try:
            for i in range(1, count):
                here = copy_context()  # np.errstate and no_grad hold in the helpers as they do here
                self.tasks.put((here, work, bounds[i], bounds[i + 1], i, done))
            try:
                results[0] = work(0, bounds[1])
            finally:  # wait even if our own part failed: the others still write into the caller's arrays
                answers = [done.get() for _ in range(1, count)]
        finally:
            for library, limit in zip(self.blas, limits, strict=True):
                library.set_num_threads(limit)
        for i, result, error in answers:
            if error is not None:
                raise error
            results[i] = result
        return results


def _help(tasks: SimpleQueue[Any]) -> None:
    while True:
        context, work, start, stop, i, done = tasks.get()
        try:
            done.put((i, context.run(work, start, stop), None))
        except BaseException as error:  # handed to the caller, who raises it
            done.put((i, None, error))
        del context, work, done  # while waiting for the next task, hold on to nobody's arrays


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


def split(work: Work, n: int, worthwhile: bool = True, own: bool = True) -> list[Any]:
    """[work(start, stop), ...] for parts that cover range(n), in order; one part if it is not worthwhile.

    own  False for work that goes to the helpers only because they are awake, see `lately_at_work`

    There are as many parts as BLAS may use threads (so a process that limits BLAS limits us too), and one if another
    thread is splitting its work at the moment, as in a study that trains two models at once.
    """
    global _team
    if not worthwhile or n < 2:
        return [work(0, n)]
    if _team is None:
        _team = _Team()
    team = _team
    if team.busy.acquire(blocking=False):
        try:
            if own:
                team.calls_since_work = 0
            limits = [library.num_threads for library in team.blas]
            count = min(max(limits, default=1), n)
            if count > 1:
                return team.run(work, n, count, limits)
        finally:
            team.busy.release()
    return [work(0, n)]
