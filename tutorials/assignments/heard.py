"""How the grader handles streams and signals: like every command of minidl (minidl/cli/command.py, which this process
does not import: it loads nothing of the library). tutorials/pages/streams-and-signals.md has the table."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Unheard(Exception):
    """The output can't be written."""


class Stopped(BaseException):
    """A signal; not an Exception, so no `except Exception` catches it."""


def tell(text: str) -> None:
    """Print on stdout. Raises Unheard if that fails."""
    try:
        print(text, flush=True)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # otherwise Python reports the error again at exit
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise Unheard(error) from None


def heard(name: str, work: Callable[[], int]) -> int:
    """Run a command; returns its exit status, even if the output can't be written or a signal stops it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file opened would get its number, and with it the output
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # show characters that the console lacks, as in a name, as escapes
            stream.reconfigure(errors="backslashreplace")
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        with suppress(ValueError):  # only the main thread may; in other threads the host handles signals
            for number, handler in before:
                if handler is not signal.SIG_IGN:
                    signal.signal(number, _stop)
        return work()
    except Stopped as stopped:
        (number,) = stopped.args
        print(f"{name}: stopped by {signal.Signals(number).name}", file=sys.stderr)
        return 128 + int(number)
    except Unheard as unheard:
        (error,) = unheard.args
        gone = error.errno == errno.EPIPE
        why = "nobody reads the output any more" if gone else f"the output can't be written: {error.strerror}"
        print(f"{name}: {why}: stopped", file=sys.stderr)
        return 128 + 13 if gone else 1  # 13 is SIGPIPE
    finally:
        with suppress(ValueError):
            for number, handler in before:
                signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)
