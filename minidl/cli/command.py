"""How every command handles its streams and signals; tutorials/pages/streams-and-signals.md has the table.

    def main(argv=None):
        return command("minidl.predict", lambda stop: predict(argv))

A stream that is closed from the start shows nothing. If output can no longer be written, the command stops, because
nobody would see it: with status 141 if the reader is gone, 1 if the disk is full. A signal stops it with one line and
the shell's status. Messages that can't be written to stderr are dropped.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from minidl.cli.parser import FAILED, readable, shown, write_anything
from minidl.cli.signals import StopNow, StopOnSignal


class OutputLost(BaseException):
    """Output can't be written. A BaseException, so that no handler on the way catches it as its own error."""

    told = False  # whether the user has been told what was saved

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        gone = error.errno == errno.EPIPE or (os.name == "nt" and error.errno == errno.EINVAL)
        self.status = 128 + 13 if gone else FAILED  # 13 is SIGPIPE
        self.words = "nobody reads the output any more" if gone else f"the output can't be written: {error.strerror}"


def command(name: str, work: Callable[[StopOnSignal], int]) -> int:
    """Do the work of a command; returns its exit status.

    work  takes the signals' observer. StopNow and OutputLost may pass through it; if it has already told the user what
          was saved, it sets `told = True` on them
    """
    with StopOnSignal() as stop:
        try:
            with steady_streams(), _warnings_told(name):
                return _told(name, work, stop)
        except StopNow:  # a signal in the last moments
            return stop.status


def _told(name: str, work: Callable[[StopOnSignal], int], stop: StopOnSignal) -> int:
    try:
        try:
            return work(stop)
        finally:
            sys.stdout.flush()  # here: an error while Python exits could not be caught
    except StopNow as error:
        say(error, f"{name}: stopped by {signal.Signals(stop.signal).name}")
        return stop.status
    except OutputLost as error:
        say(error, f"{name}: {error.words}: stopped")
        return stop.status if stop.signal else error.status


@contextmanager
def _warnings_told(name: str) -> Iterator[None]:
    """In the block, a UserWarning is printed as one line, without a line of minidl's source."""
    usual, ours = warnings.showwarning, str(Path(__file__).parents[1])

    def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if category is not UserWarning:
            return usual(message, category, filename, lineno, file, line)
        where = "" if filename.startswith(ours) else f"{filename}, line {lineno}: "
        print(readable(f"{name}: note: {where}{message}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def say(error: StopNow | OutputLost, line: str) -> None:
    """Print the line on stderr, unless a better message was printed already (`error.told = True`)."""
    if not error.told:
        with suppress(OSError, ValueError):
            print(shown(line), file=sys.stderr, flush=True)


@contextmanager
def steady_streams() -> Iterator[None]:
    """In the block, a failing sys.stdout raises OutputLost, and a failing sys.stderr is ignored; both may be closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file opened would get its number, and receive the output
            os.open(os.devnull, os.O_RDWR)
    write_anything()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, _Stream(before[0], _lost)), cast(TextIO, _Stream(before[1], _pass))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Stream:
    """A text stream that handles OSErrors with `failed`; everything else is passed on to the stream."""

    def __init__(self, stream: Any, failed: Callable[[Any, OSError], Any]) -> None:
        self._stream, self._failed = stream, failed

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            return int(self._failed(self._stream, error) or 0)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _lost(stream: Any, error: OSError) -> NoReturn:
    _drop(stream)
    raise OutputLost(error)


def _pass(stream: Any, error: OSError) -> None:
    _drop(stream)


def _drop(stream: Any) -> None:
    """Redirect the stream to the null device, with what is buffered: Python would complain again when it exits."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
