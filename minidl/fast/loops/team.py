"""A thread pool for compiled loops: work is dispatched in a microsecond, and no thread waits for one that is late.

Dispatching work to a thread through Python takes some 100 microseconds: the thread must wake up and acquire the GIL.
Here the helpers spin in compiled code, without the GIL, and poll a board: a small array that all threads share.

    share(team, parts, entry(part, (parts, x, y)))      calls part(i, parts, x, y) once for each i in range(parts)

The leader writes the address of the function to the board, and each thread takes parts while there are any, the leader
from the front, helpers from the back. So from step to step a core has much the same part of the weights, their gradient
and their update, which its cache may still hold. `TAKEN` holds the number of the job and how many parts are taken from
either end in one word, so a late helper takes nothing. Which thread computes which part is chance; what a part computes
depends on its index alone. So the bits are the same for any number of threads.

A helper that has found no work for a while goes to sleep in Python. On a busy machine the system may preempt a helper
in the middle of a part. The leader notices, since it has to wait; it then works alone for twenty times as long as it
has lost, and tries again. So such stalls cost a twentieth at most.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np

from minidl.backend import Array
from minidl.fast.blas import blas
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.words import add, call, load, pause, store, swap, ticks
from minidl.fast.threads import threads

TAKEN, DONE, BUSY, AWAKE = 0, 16, 32, 48  # written by all threads: each on a cache line, 128 bytes on Apple's
CODE, ARGS, PARTS, HELPERS, FAILED, ALONE_UNTIL, SIZE = 64, 65, 66, 67, 68, 69, 80  # written by the leader
HALF = 8  # bits of TAKEN for the parts taken from the front, and as many for those from the back
BITS, MOST = 2 * HALF, (1 << HALF) - 1  # of both; parts of a job that is shared
PATIENCE = 60_000  # polls of the board, some two milliseconds: waking up may take longer
ENOUGH = 1 << 20  # multiplications; below this nothing is dispatched
Team: TypeAlias = "tuple[Array, int]"  # the board, and how many helpers may join


@part
def take(board, job, helps):
    """Compute parts of this job while any are left, from the front or, as a helper, the back; returns how many."""
    code, args, parts, count = load(board, CODE), load(board, ARGS), load(board, PARTS), 0
    while True:
        word = load(board, TAKEN)
        front, back = word & MOST, (word >> HALF) & MOST
        if word >> BITS != job or front + back >= parts:  # it is another job, or all parts are taken
            return count
        i, one = (parts - 1 - back, 1 << HALF) if helps else (front, 1)
        if swap(board, TAKEN, word, word + one):  # then the job has not ended, so code and args are its own
            if call(code, i, args):
                store(board, FAILED, 1)
            count += 1
            add(board, DONE, 1)


@part
def share(team, parts, job):
    """Compute all parts of a job, with helpers if there are any."""
    board, helpers = team
    code, args = job
    failed = 0
    if parts < 2 or parts > MOST or helpers < 1 or not swap(board, BUSY, 0, 1):
        for i in range(parts):
            failed += call(code, i, args)
    else:
        failed = _lead(board, helpers, parts, code, args)
        store(board, BUSY, 0)
    if failed:
        raise MemoryError


@part
def _lead(board, helpers, parts, code, args):
    store(board, DONE, 0)
    store(board, FAILED, 0)
    store(board, HELPERS, helpers)
    store(board, PARTS, parts)
    store(board, CODE, code)
    store(board, ARGS, args)
    job = (load(board, TAKEN) >> BITS) + 1
    begun = ticks()
    store(board, TAKEN, job << BITS)
    count = take(board, job, False)
    done = ticks()
    while load(board, DONE) < parts:
        pause()
    waited = ticks() - done
    if waited > 2 * (done - begun) // max(count, 1) + LATE:  # more than twice what a part takes
        store(board, ALONE_UNTIL, ticks() + 20 * waited)
    store(board, TAKEN, (job << BITS) + MOST)  # closed before anything of the next job is written
    return load(board, FAILED)


LATE = 100_000  # ticks: some tens of microseconds


@loop
def help_out(board, me):
    """Spin for jobs and help with them, until there has been none for a while."""
    add(board, AWAKE, 1)
    seen, looks = -1, 0
    while looks < PATIENCE:
        job = load(board, TAKEN) >> BITS
        looks += 1
        if job != seen:
            seen = job
            if me < load(board, HELPERS):
                take(board, job, True)
                looks = 0
        pause()
    add(board, AWAKE, -1)


@loop
def now():
    """The clock that the board uses."""
    return ticks()


class _Helper:
    """A thread that sleeps, is woken, polls the board for a while, and sleeps again."""

    def __init__(self, board: Array, me: int) -> None:
        self.board, self.me, self.id = board, me, 0
        self.wanted: SimpleQueue[None] = SimpleQueue()  # reentrant: a signal handler may call `wake` inside `wake`
        threading.Thread(target=self._live, name=f"minidl-loops-{me}", daemon=True).start()

    def wake(self, cores: set[int]) -> None:
        """Wake it on one of these cores. The system would wake it on the core of the waking thread, where the two
        compete, and move it only some hundredths of a second later."""
        if self.wanted.empty():  # else it has been woken already
            if cores and self.id:
                os.sched_setaffinity(self.id, cores)
            self.wanted.put(None)

    def _live(self) -> None:
        self.id = threading.get_native_id()
        blas.help()
        while True:
            self.wanted.get()
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))  # allow all cores again
            help_out(self.board, self.me)


class _Team:
    """The helper threads of this process, and their board."""

    def __init__(self) -> None:
        self.board = np.zeros(SIZE, np.int64)
        self.words = memoryview(self.board.data)  # fast to read from Python
        self.lock = threading.RLock()
        self.helpers: list[_Helper] = []

    def ready(self, multiplications: int = ENOUGH) -> Team:
        """What compiled loops take as their first argument. Wakes sleeping helpers if there is enough work."""
        helpers = threads() - 1 if multiplications >= ENOUGH else 0
        if helpers > 0 and self.words[AWAKE] < helpers:
            if self.words[ALONE_UNTIL] and now() < self.words[ALONE_UNTIL]:
                helpers = 0
            else:
                self._wake(helpers)
        return self.board, helpers

    def _wake(self, count: int) -> None:
        with self.lock, suppress(RuntimeError):  # no more threads, or Python is shutting down: continue without
            while len(self.helpers) < count:
                self.helpers.append(_Helper(self.board, len(self.helpers)))
        cores = os.sched_getaffinity(0) - {_core()} if _core() >= 0 else set()
        for helper in self.helpers[:count]:
            helper.wake(cores)


def _find_core() -> Callable[[], int]:
    """A function that returns the number of the current core; -1 on systems other than Linux."""
    try:
        found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return lambda: -1
    return found


_core = _find_core()
_team = _Team()
ready = _team.ready

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.__init__)  # type: ignore[misc] # threads do not survive a fork
