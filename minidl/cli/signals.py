"""Clean stops: Ctrl-C, SIGTERM and SIGHUP become an observer's request to stop after the current step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from minidl.training.observer import Observer, Step


class StopNow(BaseException):
    """A signal that must not wait. A BaseException, so that no handler on the way catches it as an error."""

    told = False  # whether the user has been told what was saved


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopOnSignal(Observer):
    """These signals stop the program. While it is `patient`, the first only asks to stop after the work in progress."""

    signal = 0  # the number of the signal received, 0 if none
    _patient = ""  # what the first signal waits for; "": nothing
    _raised = False  # whether StopNow was raised, so that the program is ending
    _late = 0  # signals received since then

    @property
    def status(self) -> int:
        """The exit status, as in shells."""
        return 128 + self.signal

    @contextmanager
    def patient(self, work: str = "this step") -> Iterator[None]:
        """In the block, which ends its `work` once `signal` is set, the first signal waits for that."""
        self._patient = work
        try:
            yield
        finally:
            self._patient = ""

    def after_step(self, step: Step) -> bool:
        return self.signal != 0

    def after_epoch(self, record: dict[str, Any]) -> bool:
        return self.signal != 0

    def __enter__(self) -> StopOnSignal:
        self._before: dict[int, Any] = {}
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:  # as for a background job: leave it so
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # only the main thread may do this; elsewhere signals belong to the host program
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = not self.signal, number
        if self._raised:
            self._late += 1
            if self._late > 1:  # the shutdown is stuck
                os._exit(self.status)
            return
        if not (first and self._patient):
            self._raised = True
            raise StopNow
        # Not print: the signal may have come inside a print, which is not reentrant.
        with suppress(OSError):  # the terminal may be closed
            os.write(2, f"\nstopping after {self._patient} (once more: at once)\n".encode())

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
