"""Stopping cleanly: Ctrl-C, SIGTERM and SIGHUP become an observer's request to stop after this step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from minidl.training.observer import Observer, Step


class StopNow(BaseException):
    """A signal that must not wait; no Exception, so that no handler on its way takes it for an error."""

    told = False  # whether the user has been told what was kept


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopOnSignal(Observer):
    """These signals end the program. While it is `patient`, the first only asks to stop after this step."""

    signal = 0  # the number of the signal that came, 0 if none
    _patient = False
    _raised = False  # whether StopNow was, so that the program is ending
    _late = 0  # signals that came since

    @property
    def status(self) -> int:
        """The exit status, as shells have it."""
        return 128 + self.signal

    @contextmanager
    def patient(self) -> Iterator[None]:
        """While training, of which it is an observer."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def after_step(self, step: Step) -> bool:
        return self.signal != 0

    def after_epoch(self, record: dict[str, Any]) -> bool:
        return self.signal != 0

    def __enter__(self) -> StopOnSignal:
        self._before: dict[int, Any] = {}
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:  # as for a job in the background: leave it so
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # only the main thread may do this; elsewhere signals are the host's business
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = not self.signal, number
        if self._raised:
            self._late += 1
            if self._late > 1:  # what ends the program has got stuck
                os._exit(self.status)
            return
        if not (first and self._patient):
            self._raised = True
            raise StopNow
        # Not print: the signal may have come in the middle of one, which must not be entered again.
        with suppress(OSError):  # a terminal that was closed
            os.write(2, b"\nstopping after this step (once more: at once)\n")

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
