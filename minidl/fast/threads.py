"""The same bits for any number of threads: work is split by shape alone; threads only decide who computes which part.

A sum of floats depends on the order of its terms, so a product split among however many threads there happen to be
has different last bits on another machine, or on the same one when it is busy. Here the split follows from the shapes
(see `parts_for`): enough parts for 16 cores, each large enough to be worth dispatching. Each part is computed by one
BLAS thread; `split` computes some adjacent parts here and the others in helper threads, where NumPy releases the GIL
while it computes. With one thread all parts are computed here, to the same bits.

BLAS, which would split a product among threads of its own, is limited to one meanwhile: see blas.py.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import pairwise
from numbers import Integral
from queue import SimpleQueue
from typing import Any, TypeAlias

from minidl.backend import same_bits
from minidl.fast.blas import blas
from minidl.fast.cores import cores
from minidl.telling import block, holding

PARTS = 16  # at most, unless the cache requires more
WORTH = 1 << 22  # multiplications: some 90 microseconds, about the cost of dispatching a part
CHUNK = 1 << 21  # bytes: about one core's cache
Work: TypeAlias = Callable[[int, int], Any]  # computes the parts [start, stop)


def parts_for(multiplications: int, worth: int) -> int:
    """How many parts this work is split into, if one should have so many multiplications, the number `worth`, or more:
    a power of two, so 2, 4, 8 or 16 threads get equal shares."""
    return min(PARTS, 1 << max(0, (multiplications // worth).bit_length() - 1))


def split(work: Work, n: int) -> list[Any]:
    """[work(start, stop), ...] for ranges that cover range(n), the indices of the parts, in order.

    How many ranges there are depends on the number of threads, so work(i, j) must compute each of its parts as if it
    were alone. Inside another split everything runs in the calling thread.
    """
    with same_bits:
        count = min(threads(), n)
        if count < 2 or _here.at_work:
            return [work(0, n)]
        return _team.share(work, list(pairwise(n * i // count for i in range(count + 1))))


def in_parts(work: Callable[[slice], Any], n: int, size: int, multiplications: int = 0) -> list[Any]:
    """[work(part), ...] for slices that cover range(n), in order; each fits into the cache, if a single item does.

    size             bytes of one of the n items
    multiplications  of one item; 0: everything is computed in this thread, as no part is worth dispatching
    """
    parts = parts_for(n * multiplications, WORTH)
    while parts < n and -(-n // parts) * size > CHUNK:
        parts *= 2
    parts = min(parts, n)

    def some(start: int, stop: int) -> list[Any]:
        return [work(slice(n * i // parts, n * (i + 1) // parts)) for i in range(start, stop)]

    if not multiplications:
        return some(0, parts)
    return [result for done in split(some, parts) for result in done]


# ---- how many threads ----

_wanted: ContextVar[int | None] = ContextVar("threads", default=None)


@block
@contextmanager
def use_threads(n: int | None) -> Iterator[None]:
    """`with use_threads(n):` compute with n threads; None: as many as BLAS would use. Changes no bit of any result.

    Raises ValueError unless n is a whole number, 1 or more, or None.
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, Integral) or n < 1):
        raise ValueError(f"threads must be a whole number, 1 or more, or None, got {n!r}")
    with holding(_wanted, n):
        yield


def threads() -> int:
    """The number of threads that share work here: that of `use_threads`, else BLAS's limit before we lowered it, but
    no more than the cores that this process may use."""
    with same_bits:
        return _wanted.get() or min(blas.own.limit, cores())


# ---- helpers ----


class _Here(threading.local):
    """Per thread: whether it is computing a part."""

    at_work = False


class _Job:
    """Some ranges of parts, and their results. A free thread takes the next range: the leader from the front,
    helpers from the back. So on a busy machine no thread waits for a helper that has not started."""

    def __init__(self, work: Work, ranges: list[tuple[int, int]]) -> None:
        self.work: Work | None = work
        self.todo = deque(enumerate(ranges))
        self.results: list[Any] = [None] * len(ranges)
        self.lock = threading.Lock()
        self.begun = 0  # ranges that helpers have taken
        self.ended: list[BaseException | None] = []  # an entry for each of these that is finished
        self.bell: SimpleQueue[None] = SimpleQueue()  # rung after each entry

    def lead(self, jobs: SimpleQueue[tuple[Context, _Job]], helpers: int) -> list[Any]:
        """Dispatch to this many helpers, compute the ranges that none of them takes, and return when all are done."""
        work = self.work
        assert work is not None
        try:
            for _ in range(helpers):
                # with a copy of our context: np.errstate and no_grad apply in the helpers as they do here
                jobs.put((copy_context(), self))
            while (taken := _take(self.todo.popleft)) is not None:
                self.results[taken[0]] = work(*taken[1])
        finally:  # even if our own part failed: the others still write into the caller's arrays
            self._close()
            self.work = None  # otherwise a late helper would keep the caller's arrays alive
        if errors := [error for error in self.ended if error is not None]:
            raise errors[0]
        return self.results

    def _close(self) -> None:
        """Stop handing out ranges, and wait for those that helpers have taken. Ctrl-C is raised only after that."""
        interrupt: BaseException | None = None
        closed = False
        while not closed:
            try:
                with self.lock:  # so no helper has taken a range and not yet counted it
                    self.todo.clear()
                while len(self.ended) < self.begun:
                    self.bell.get()
                closed = True
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def help(self) -> None:
        while (taken := self._taken()) is not None:
            try:
                assert self.work is not None
                self.results[taken[0]] = self.work(*taken[1])
                self.ended.append(None)
            except BaseException as error:  # the leader raises it
                self.ended.append(error)
            self.bell.put(None)

    def _taken(self) -> Any:
        with self.lock:
            taken = _take(self.todo.pop)
            self.begun += taken is not None
        return taken


def _take(pop: Callable[[], Any]) -> Any:
    try:
        return pop()
    except IndexError:  # none is left
        return None


class _Team:
    """The helper threads: started on demand, and shared by all threads of the program."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.size = 0
        self.jobs: SimpleQueue[tuple[Context, _Job]] = SimpleQueue()

    def share(self, work: Work, ranges: list[tuple[int, int]]) -> list[Any]:
        job = _Job(work, ranges)
        if self.size < len(ranges) - 1:
            self._grow(len(ranges) - 1)
        _here.at_work = True
        try:
            return job.lead(self.jobs, min(self.size, len(ranges) - 1))
        finally:
            _here.at_work = False

    def _grow(self, size: int) -> None:
        with self.lock:
            while self.size < size:
                try:
                    threading.Thread(target=self._help, name=f"minidl-{self.size + 1}", daemon=True).start()
                except RuntimeError:  # no more threads available, or Python is shutting down: continue without
                    return
                self.size += 1

    def _help(self) -> None:
        _here.at_work = True
        blas.help()
        while True:
            context, job = self.jobs.get()
            context.run(job.help)
            del context, job


_here, _team = _Here(), _Team()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.__init__)  # type: ignore[misc] # threads do not survive a fork
