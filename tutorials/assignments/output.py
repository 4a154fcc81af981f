"""What a submission prints: it arrives through a pipe; the beginning is kept, the rest is counted and dropped.

A file would let the submission write to the disk; and a right answer that prints a lot would hit the file's size limit.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

KEPT = 10_000  # characters


class TooMuch(Exception):
    """The submission has printed more than is allowed."""


class Output:
    """The output pipes of a submission's processes, one at a time, read while the grader waits for answers.

    most  bytes that one process may print
    size  bytes printed so far by all processes
    """

    def __init__(self, most: int) -> None:
        self.most, self.size, self._before = most, 0, 0
        self._kept = bytearray()
        self._pipe: int | None = None

    def open(self) -> int:
        """The write end of a new pipe, for a new process."""
        self._before = self.size
        self._pipe, end = os.pipe()
        os.set_blocking(self._pipe, False)
        return end

    def wait(self, descriptor: int, event: int, deadline: float) -> None:
        """Wait for an event of select.poll() while reading what is printed. Raises TimeoutError, TooMuch."""
        watch = select.poll()
        watch.register(descriptor, event)
        if self._pipe is not None:
            watch.register(self._pipe, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = [each for each, _ in watch.poll(max(left, 0) * 1000)]  # poll at least once, even when late
            if not ready:
                raise TimeoutError
            if self._pipe in ready and not self._take():
                watch.unregister(self._pipe)
            if self.size - self._before > self.most:
                raise TooMuch
            if descriptor in ready:
                return

    def close(self) -> None:
        """Read what is left in the pipe of a process that has ended."""
        if self._pipe is not None:
            self._take_rest()
            os.close(self._pipe)
            self._pipe = None

    @property
    def text(self) -> str:
        """The first 10,000 characters."""
        self._take_rest()
        return self._kept.decode("utf-8", "replace")[:KEPT]

    def _take_rest(self) -> None:
        """Read what is in the pipe now, at most as much as a pipe holds: endless printing must not block the grader."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):
                if self._pipe is None or not self._take():
                    break

    def _take(self) -> bool:
        """Read some; False at the end."""
        assert self._pipe is not None
        data = os.read(self._pipe, 1 << 16)
        self.size += len(data)
        self._kept += data[: 4 * KEPT - len(self._kept)]
        return bool(data)
