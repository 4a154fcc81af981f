"""What the command lines have in common: errors in one line, and exit statuses."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit statuses; stopped by signal n: 128 + n, as shells have it


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (--help lists what there is)\n")


def complain(error: object, status: int, program: str = "minidl.train") -> int:
    """Print an error as the command lines have them; returns the exit status."""
    prefix = f"{program}: error: "
    # A second line may point at a place in the first, so it moves along.
    print(prefix + str(error).replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    return status
