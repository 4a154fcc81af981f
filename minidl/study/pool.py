"""Carrying out runs in processes of this machine or on any executor, and what happens when a process dies.

Any concurrent.futures.Executor will do, including Dask's. Runs are independent and each is exact, so neither their
order nor their place can change a result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from minidl.study.made import pinned
from minidl.study.runs import Trial, perform
from minidl.training.loader import UserError

UNGUARDED = (
    "the study's worker processes can't start. Each runs your script again to find its functions: put the call of "
    'run_study under  if __name__ == "__main__":'
)
ATTEMPTS = 3  # a run whose process died this many times is given up until the study is next started


class LocalPool(Executor):
    """Several processes, each a pool of its own: if one is killed, only its own run is lost.

    with_pins  restrict their libraries to AVX2 instructions, see made.py

    Raises RuntimeError if no process can start.
    """

    def __init__(self, workers: int, with_pins: bool = False) -> None:
        self._with_pins = with_pins
        self._pools = [self._process() for _ in range(workers)]
        self._busy: list[Future[Any] | None] = [None] * workers
        try:
            with pinned(with_pins):
                self._pools[0].submit(os.getpid).result()
        except BrokenProcessPool:
            self.shutdown(wait=False)
            raise RuntimeError(UNGUARDED) from None

    def _process(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_settle_in)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand work to an idle process; if all are busy, to the first."""
        free = (i for i, future in enumerate(self._busy) if future is None or future.done())
        i = next(free, 0)
        with pinned(self._with_pins):  # the process may start only now
            try:
                future = self._pools[i].submit(fn, *args, **kwargs)
            except BrokenProcessPool:
                self._pools[i].shutdown(wait=False)
                self._pools[i] = self._process()
                future = self._pools[i].submit(fn, *args, **kwargs)
        self._busy[i] = future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the processes exit once their work is done."""
        for pool in self._pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)


def end_if_a_worker_is_starting() -> None:
    """In a worker that runs an unguarded script to get its functions: exit quietly; the main process says why."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(1)


def _settle_in() -> None:
    """In a new worker: leave Ctrl-C to the main process, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="minidl-parent", daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def carry_out(
    runs: Iterable[Trial],
    executor: Executor,
    at_once: int,
    done: Callable[[Trial, dict[str, Any]], None],
    failed: Callable[[Trial, str], None],
    stopped: Callable[[], bool],
    work: Callable[[Trial], dict[str, Any]] = perform,
) -> None:
    """Carry out the runs, at most `at_once` at a time, and report the result or the error of each when it ends.

    Once `stopped` returns True, no further run starts, and those in progress are waited for.
    """
    waiting, flying, attempts = deque(runs), dict[Future[Any], Trial](), Counter[str]()
    while flying or (waiting and not stopped()):
        while waiting and len(flying) < at_once and not stopped():
            run = waiting.popleft()
            flying[executor.submit(work, run)] = run
        finished, _ = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in finished:
            run = flying.pop(future)
            attempts[run.key] += 1
            error = CancelledError("the executor cancelled it") if future.cancelled() else future.exception()
            if error is None:
                done(run, future.result())
            elif isinstance(error, BrokenProcessPool) and attempts[run.key] < ATTEMPTS:
                waiting.appendleft(run)
            elif isinstance(error, BrokenProcessPool):
                failed(run, f"its process died {ATTEMPTS} times: did it run out of memory?")
            else:
                failed(run, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
