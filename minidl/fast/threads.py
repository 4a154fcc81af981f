"""The same bits, whichever thread works: work is cut by shape alone, and threads only decide who computes which part.

A sum of floats depends on the order of its terms, so a product cut for as many threads as there happen to be
has other last bits on another machine, or on the same one when it is busy. Here the cut follows from the shapes (see
`parts_for`): enough parts for 16 cores, each of them large enough to be worth handing over. Each part is computed
by one thread of BLAS; `split` lets some neighbouring parts be computed here and others in helper threads, where
NumPy lets go of Python's lock while it computes. With one thread all parts are computed here, to the same bits.

BLAS, which would cut a product for threads of its own, is held to one meanwhile: see blas.py.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from itertools import pairwise
from numbers import Integral
from queue import SimpleQueue
from typing import Any, TypeAlias

from minidl.backend import same_bits
from minidl.fast.blas import blas
from minidl.fast.cores import cores
from minidl.telling import block

PARTS = 16  # as many as work is cut into at most, unless the cache asks for more
WORTH = 1 << 22  # multiplications: some 90 microseconds, about what it costs to hand work over and back
CHUNK = 1 << 21  # bytes: about the cache of one core
Work: TypeAlias = Callable[[int, int], Any]  # does the parts [start, stop)


def parts_for(multiplications: int) -> int:
    """How many parts this work is cut into: a power of two, so that 2, 4, 8 or 16 threads get the same share."""
    return min(PARTS, 1 << max(0, (multiplications // WORTH).bit_length() - 1))


def split(work: Work, n: int) -> list[Any]:
    """[work(start, stop), ...] for ranges that cover range(n), the numbers of the parts, in order.

    How many ranges there are depends on the number of threads, so work(i, j) has to do each of its parts as if it
    were alone. Inside another split all is done in line.
    """
    with same_bits:
        count = min(threads(), n)
        if count < 2 or _here.at_work:
            return [work(0, n)]
        return _team.share(work, list(pairwise(n * i // count for i in range(count + 1))))


def in_parts(work: Callable[[slice], Any], n: int, size: int, multiplications: int = 0) -> list[Any]:
    """[work(part), ...] for slices that cover range(n), in order; each fits into the cache, if a single thing does.

    size             bytes of one of the n things
    multiplications  of one of them; 0: all is done here, for none of it is worth handing over
    """
    parts = parts_for(n * multiplications)
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
def use_threads(n: int | None) -> Iterator[None]:
    """`with use_threads(n):` compute with n threads; None: as many as BLAS would use. Changes no bit of any result.

    Raises ValueError for what is no whole number, 1 or more.
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, Integral) or n < 1):
        raise ValueError(f"threads must be a whole number, 1 or more, or None, got {n!r}")
    token = _wanted.set(n)
    try:
        yield
    finally:
        _wanted.reset(token)


def threads() -> int:
    """How many threads share the work here: what `use_threads` says, else what BLAS's limit was before we held it,
    but no more than there are cores for this process."""
    with same_bits:
        return _wanted.get() or min(blas.limit, cores())


# ---- helpers ----


class _Here(threading.local):
    """Of each thread: whether it is doing a part."""

    at_work = False


class _Job:
    """Some ranges of parts, and what came of them. A free thread takes the next: the leader from the front,
    helpers from the back. So on a busy machine no thread waits for a helper that has not begun."""

    def __init__(self, work: Work, ranges: list[tuple[int, int]]) -> None:
        self.work: Work | None = work
        self.todo = deque(enumerate(ranges))
        self.results: list[Any] = [None] * len(ranges)
        self.lock = threading.Lock()
        self.begun = 0  # ranges that helpers have taken
        self.ended: list[BaseException | None] = []  # an entry for each of those that is done
        self.bell: SimpleQueue[None] = SimpleQueue()  # rung after each entry

    def lead(self, jobs: SimpleQueue[tuple[Context, _Job]], helpers: int) -> list[Any]:
        """Ask so many helpers, do all ranges that none of them takes, and return when theirs are done too."""
        work = self.work
        assert work is not None
        try:
            for _ in range(helpers):
                # in a copy of our context: np.errstate and no_grad hold in the helpers as they do here
                jobs.put((copy_context(), self))
            while (taken := _take(self.todo.popleft)) is not None:
                self.results[taken[0]] = work(*taken[1])
        finally:  # even if our own part failed: the others still write into the caller's arrays
            self._close()
            self.work = None  # a helper that comes too late would keep the caller's arrays alive
        if errors := [error for error in self.ended if error is not None]:
            raise errors[0]
        return self.results

    def _close(self) -> None:
        """Let nobody take more, and wait for what helpers have taken. Ctrl-C waits as well, and is raised then."""
        interrupt: BaseException | None = None
        closed = False
        while not closed:
            try:
                with self.lock:  # so that none has taken a range without having counted it
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
            except BaseException as error:  # the one who leads raises it
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
    """The helper threads, which start as they are needed and help whichever thread of the program has work to share."""

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
                except RuntimeError:  # the system gives no more, or Python ends: we do without
                    return
                self.size += 1

    def _help(self) -> None:
        _here.at_work = True
        while True:
            context, job = self.jobs.get()
            context.run(job.help)
            del context, job


_here, _team = _Here(), _Team()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.__init__)  # type: ignore[misc] # threads do not survive a fork
