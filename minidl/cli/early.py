"""Ctrl-C while a command's imports run: one line and the shell's status, as later on. To import this sets it up.

Python sets sys.argv to ["-m", ...] while it looks for the module that `python -m minidl.train` names, and imports
minidl for that. So minidl knows that it is a command, and not a part of somebody's program, whose Ctrl-C is its own.
It is imported before all else, and imports next to nothing: what comes before it is Python's.
"""

import os
import signal
import sys


def _is_command() -> bool:
    words = sys.orig_argv
    named = words[words.index("-m") + 1 :][:1] if sys.argv[:1] == ["-m"] and "-m" in words else []
    return bool(named) and named[0].split(".")[0] == "minidl"


def _end(number: int, frame: object) -> None:
    try:
        os.write(2, b"minidl: stopped by SIGINT\n")
    finally:  # also where stderr is closed. An exception could be lost in what is being imported
        os._exit(128 + number)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)  # until the command's own are set, see signals.py: there is nothing to keep yet
