"""The commands' argument parser, with one-line errors, and their exit statuses."""

from __future__ import annotations

import argparse
import difflib
import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from minidl import __version__

STEERS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
NO_LINE = re.compile(r"\n(?!  +\S| *\^ |[A-Z])")  # a newline inside some name, not one between two lines of a message
DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit statuses; stopped by signal n: 128 + n, as in shells


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors, on any console, and --version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        write_anything()
        self.add_argument(
            "--version", action="version", version=f"minidl {__version__}", help="show minidl's version and exit"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if "" in words:
            before = words[words.index("") - 1] if words[0] else "the first argument"
            self.error(f"an argument is empty, after {before}: is a shell variable unset?")
        options = words[: words.index("--")] if "--" in words else words
        if empty := next((word for word in options if re.fullmatch("--[a-z-]+=", word)), None):
            self.error(f"{empty} has no value: is a shell variable unset?")
        return super().parse_known_args(words, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Turn -name after `--` into ./-name: Python parses the words twice, and has lost the `--` the second time."""
        words = list(sys.argv[1:] if args is None else args)
        if "--" in words:
            at = words.index("--")
            words[at:] = [f".{os.sep}{word}" if word.startswith("-") else word for word in words[at + 1 :]]
        return super().parse_intermixed_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {self._with_nearest(message)} (see --help)\n")

    def _with_nearest(self, message: str) -> str:
        """The message, with the option or choice that was probably meant."""
        found = re.search(r"unrecognized arguments: .*?(--?[^\s=]+)", message)
        known = list(self._option_string_actions)
        if not found:
            found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
            known = found[2].replace("'", "").split(", ") if found else []
        near = _nearest(found[1].lower(), known) if found else []
        message = readable(message)
        return f"{message}: did you mean {' or '.join(near)}?" if near else message


def _nearest(word: str, known: Sequence[str]) -> list[str]:
    """The known words that start with this one, else the most similar one; leading dashes are ignored."""
    bare = {each.lstrip("-"): each for each in known}
    word = word.lstrip("-")
    near = [each for each in bare if word and each.startswith(word)] or difflib.get_close_matches(word, bare, n=1)
    return [bare[each] for each in near]


def place(text: str) -> Path:
    """A path as typed, with `~` expanded: shells don't do that in --out=~/runs, nor inside quotes."""
    return Path(os.path.expanduser(text))


def matching(paths: Iterable[Path]) -> list[Path]:
    """The paths with * and ? expanded, which Windows' shells don't do; other paths are kept as they are."""
    found: list[Path] = []
    for path in paths:
        wild = re.search("[*?]", str(path)) and not os.path.lexists(path)
        pattern = str(path).replace("[", "[[]") if wild else ""  # a bracket in a folder's name is no pattern
        found += sorted(map(Path, glob.glob(pattern))) or [path]
    return found


def write_anything() -> None:
    """Escape characters that a console can't encode, as \\u6570; a closed stream becomes the null device."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the program runs)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def readable(message: str) -> str:
    """The message with words of hundreds of characters shortened and control characters escaped: it may quote any text
    that was typed or read from a file."""
    short = re.sub(r"[^\s/]{300,}", lambda word: f"{word[0][:60]}... ({len(word[0]):,} characters)", message)
    return NO_LINE.sub(r"\\n", shown(short))


def shown(text: object) -> str:
    """Text from a file or a user, safe for a terminal: control characters except tabs and newlines, and those that
    change the writing direction, are escaped: ESC as \\x1b."""
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def complain(error: object, status: int, program: str = "minidl.train") -> int:
    """Print an error as the parser does; returns the exit status."""
    prefix = f"{program}: error: "
    # A second line may point at a place in the first, so it is indented too.
    print(prefix + readable(str(error)).replace("\n", "\n" + " " * len(prefix)), file=sys.stderr)
    return status
