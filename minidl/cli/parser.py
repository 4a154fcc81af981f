"""What the command lines have in common: errors in one line, and exit statuses."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import Any, NoReturn

from minidl import __version__

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit statuses; stopped by signal n: 128 + n, as shells have it


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, on any console, and that knows --version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        write_anything()
        self.add_argument(
            "--version", action="version", version=f"minidl {__version__}", help="show minidl's version and exit"
        )

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (--help lists what there is)\n")


def write_anything() -> None:
    """A console that is not UTF-8 shows what it has no letter for as \\u6570; one that is closed shows nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the program runs)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(error: object, status: int, program: str = "minidl.train") -> int:
    """Print an error as the command lines have them; returns the exit status."""
    prefix = f"{program}: error: "
    # A second line may point at a place in the first, so it moves along.
    print(prefix + str(error).replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    return status
