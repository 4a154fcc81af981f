"""Concurrent runs on one GPU: a small network's step leaves most of a card idle, so many runs fit at once.

Each run has a thread and a stream. Work on one stream runs in order, and concurrently with that on other streams; each
run's steps are captured (fast/gpu/graph.py), so a thread holds the GIL only briefly in each step. A run has the same
bits alone and beside others.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from minidl.backend import get_backend
from minidl.fast.gpu.graph import CAPTURING
from minidl.study.pool import LocalPool

AT_ONCE = 16  # runs of an MLP that saturate an H200: twice as many were no faster


class SideBySide(ThreadPoolExecutor):
    """Threads, each with its own stream on a device. The first run goes alone: it compiles the kernels.

    Weights and the vectors that they are parts of refer to each other, as do a Trainer and its graphs, so only Python's
    garbage collector frees their memory on the card. It is called each time `at_once` runs have ended: on its own it
    knows nothing of the card's memory.
    """

    def __init__(self, device: str, at_once: int) -> None:
        self._xp, self._mine = get_backend(device).xp, threading.local()
        self._first, self._compiled = threading.Lock(), False
        self._at_once, self._ended = at_once, count(1)
        super().__init__(at_once, "minidl-run", self._settle_in)

    def _settle_in(self) -> None:
        if hasattr(self._xp, "cuda"):  # not the tests' device
            self._mine.stream = self._xp.cuda.Stream(non_blocking=True)
            self._mine.stream.use()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand work to an idle thread."""
        return super().submit(self._carry_out, fn, *args, **kwargs)

    def _carry_out(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return self._first_or_beside(fn, *args, **kwargs)
        finally:
            if next(self._ended) % self._at_once == 0:
                with CAPTURING:
                    gc.collect()

    def _first_or_beside(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._compiled:
            with self._first:
                if not self._compiled:
                    result = fn(*args, **kwargs)
                    self._compiled = True
                    return result
        return fn(*args, **kwargs)


def local_pool(device: str, workers: int | None, with_pins: bool) -> tuple[Executor, int]:
    """The executor for runs on this machine, and how many at a time: processes on the CPU, threads for a GPU.

    workers  None: a process per core, or AT_ONCE threads

    Raises RuntimeError if no process can start.
    """
    if device == "cpu":
        workers = workers or os.cpu_count() or 1
        return LocalPool(workers, with_pins), workers
    return SideBySide(device, workers or AT_ONCE), workers or AT_ONCE
