"""`python -m minidl` names the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minidl import __version__
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, complain

COMMANDS = {
    "train": "train a network: python -m minidl.train --opt hybrid",
    "predict": "classify pictures with a trained run",
    "report": "a page about a run: curves, confusion matrix, worst mistakes",
    "compare": "runs side by side, in the terminal and as a page",
    "data": "make a data set of a folder of pictures",
    "tune": "find the switch that suits a model and data of your own",
    "study": "compare optimizers fairly, over many seeds",
    "trace": "lay the replays of two runs side by side",
    "fast": "compile the fast loops beforehand",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the commands; returns the exit status."""
    return command("minidl", lambda stop: list_commands(sys.argv[1:] if argv is None else argv))


def list_commands(words: Sequence[str]) -> int:
    """The command itself. Words that ask for something else are an error: a script would take it for done."""
    if words and words[0] not in ("-h", "--help", "--version"):
        meant = f"write python -m minidl.{words[0]}" if words[0] in COMMANDS else "python -m minidl lists the commands"
        return complain(f"{words[0]} is no argument of python -m minidl: {meant}", BAD_INPUT, "minidl")
    print(f"minidl {__version__}: the commands are\n")
    for name, words in COMMANDS.items():
        print(f"  python -m minidl.{name:<9} {words}")
    print("\nEach has --help. In Python: import minidl; help(minidl).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
