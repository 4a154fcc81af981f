"""Ctrl-C while a command is still importing: one line and the shell's status, as later on. Importing this sets it up.

For `python -m minidl.train`, Python sets sys.argv to ["-m", ...] and imports minidl to find the module. That is how
minidl knows that it runs as a command, and not inside a user's program, whose Ctrl-C it must leave alone.
This module is imported first and imports next to nothing: a Ctrl-C before it is handled by Python.
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
    finally:  # also if stderr is closed. An exception could be swallowed by the module being imported
        os._exit(128 + number)


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)  # until signals.py sets the command's own handler: there is nothing to save yet
