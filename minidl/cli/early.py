"""Before anything else is imported: can this Python run minidl? And Ctrl-C while a command is still importing.

Either ends a command with one line and its usual status. Importing this sets it up.
For `python -m minidl.train`, Python sets sys.argv to ["-m", ...] and imports minidl to find the module. That is how
minidl knows that it runs as a command, and not inside a user's program, whose Ctrl-C it must leave alone.
This module is imported first and imports next to nothing: a Ctrl-C before it is handled by Python.
"""

import importlib.util
import os
import signal
import sys

NEEDS = ("numpy", "matplotlib", "PIL", "tqdm", "pooch", "requests", "safetensors", "threadpoolctl")
PYTHON = r".venv\Scripts\python" if os.name == "nt" else ".venv/bin/python"
HERE = f"this is Python {sys.version.split()[0]}, {sys.executable}"

if sys.version_info < (3, 10):  # noqa: UP036 (a clone runs without pip, which would refuse)
    if sys.argv[:1] != ["-m"]:
        raise ImportError(f"minidl needs Python 3.10 or later; {HERE}")
    sys.stderr.write(f"minidl: error: minidl needs Python 3.10 or later; {HERE}\n")
    sys.exit(2)


def _is_command() -> bool:
    words = sys.orig_argv
    named = words[words.index("-m") + 1 :][:1] if sys.argv[:1] == ["-m"] and "-m" in words else []
    return bool(named) and named[0].split(".")[0] == "minidl"


def _end(number: int, frame: object) -> None:
    try:
        os.write(2, b"minidl: stopped by SIGINT\n")
    finally:  # also if stderr is closed. An exception could be swallowed by the module being imported
        os._exit(128 + number)


if _is_command():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)  # until signals.py sets the command's own: there is nothing to save yet
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:
            sys.stderr.write(
                f"minidl: error: {name} is not installed; {HERE}: use the one that minidl was installed with, as in "
                f"{PYTHON}, or install minidl from its clone: python -m pip install .\n"
            )
            sys.exit(2)
