"""The command line of this folder's commands: a study's folder and which study it is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from minidl.study import STUDIES, Study


def command(name: str, words: str | None, lines: Callable[[Study, Path], Iterable[str]]) -> int:
    """Run a command and print its lines; returns the exit status: 2, and one line, for bad input.

    name   the command's, before an error
    words  its help
    lines  of a study and its folder; raises ValueError or OSError for bad input
    """
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the study's folder")
    parser.add_argument("--preset", choices=STUDIES, default="paper", help="which study (default: paper)")
    args = parser.parse_args()
    try:
        print("\n".join(lines(STUDIES[args.preset], args.folder)))
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
