"""`python -m minidl` lists the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minidl import __version__
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, complain

COMMANDS = {
    "train": "train a network: python -m minidl.train --opt hybrid",
    "predict": "classify pictures with a trained run",
    "report": "write an HTML report of a run: curves, confusion matrix, worst mistakes",
    "compare": "compare runs, in the terminal and as a page",
    "data": "make a data set from a folder of images",
    "tune": "find a hybrid switch for your own model and data",
    "study": "compare optimizers fairly, over many seeds",
    "trace": "put the replays of two runs side by side",
    "fast": "compile the fast loops ahead of time",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the commands; returns the exit status."""
    return command("minidl", lambda stop: list_commands(sys.argv[1:] if argv is None else argv))


def list_commands(words: Sequence[str]) -> int:
    """The command itself. Any other argument is an error: a script would otherwise take it as done."""
    if words and words[0] not in ("-h", "--help", "--version"):
        meant = f"use python -m minidl.{words[0]}" if words[0] in COMMANDS else "python -m minidl lists the commands"
        return complain(f"python -m minidl has no argument {words[0]}: {meant}", BAD_INPUT, "minidl")
    print(f"minidl {__version__} has these commands:\n")
    for name, words in COMMANDS.items():
        print(f"  python -m minidl.{name:<9} {words}")
    print("\nEach takes --help. In Python: import minidl; help(minidl).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
