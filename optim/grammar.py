"""The mini-language of `--switch` and `--schedule`: a name, then a colon and its arguments.

    plateau:metric=val_accuracy,patience=3      step:1000      swats

An error shows the text with a caret under the position, what is wrong there and what was expected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

Convert: TypeAlias = Callable[[str], Any]  # text of a value -> the value; ValueError says what was expected

_WORD = re.compile(r"[^\s:,=|&()]+")


class GrammarError(ValueError):
    """A text that can't be parsed. The message has two lines: the text, and a caret under the position with the reason.

    text    what was to be parsed
    at      the position of the error, counted from 0; `position` counts from 1
    reason  what was expected there
    """

    def __init__(self, text: str, at: int, reason: str) -> None:
        super().__init__(text, at, reason)  # the arguments that pickle rebuilds it from
        self.text, self.at, self.reason, self.position = text, at, reason, at + 1

    def __str__(self) -> str:
        shown = re.sub(r"\s", " ", self.text)  # one line, whatever the text holds
        return f"{shown}\n{' ' * self.at}^ position {self.position}: {self.reason}"


@dataclass(frozen=True)
class Word:
    """A piece of the text and where it starts, counted from 0."""

    text: str
    at: int


@dataclass(frozen=True)
class Call:
    """`name:key=value,value`: the name and its arguments, each with its key (None for a bare value)."""

    name: Word
    arguments: tuple[tuple[Word | None, Word], ...]


class Reader:
    """Reads a text from left to right. `error` is the kind of GrammarError to raise."""

    def __init__(self, text: str, error: type[GrammarError]) -> None:
        self.text, self.error, self.at = text, error, 0
        self.skip_space()

    def fail(self, at: int, reason: str) -> NoReturn:
        """Raise the error for this position."""
        raise self.error(self.text, at, reason)

    def skip_space(self) -> None:
        """Skip white space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, mark: str) -> bool:
        """Consume this mark and return True, if it comes next."""
        found = self.text.startswith(mark, self.at)
        if found:
            self.at += len(mark)
            self.skip_space()
        return found

    def word(self, expected: str) -> Word:
        """Consume the next word."""
        match = _WORD.match(self.text, self.at)
        if not match:
            self.fail(self.at, f"expected {expected}")
        word = Word(match[0], self.at)
        self.at = match.end()
        self.skip_space()
        return word

    def call(self, expected: str) -> Call:
        """Consume `name`, or `name:arguments`."""
        name = self.word(expected)
        arguments: list[tuple[Word | None, Word]] = []
        if self.take(":"):
            while not arguments or self.take(","):
                first = self.word(f"a value for '{name.text}'")
                if self.take("="):
                    arguments.append((first, self.word(f"a value for '{first.text}'")))
                else:
                    arguments.append((None, first))
        return Call(name, tuple(arguments))

    def choose(self, word: Word, names: Iterable[str], what: str) -> str:
        """The word's text, if it is one of the names."""
        if word.text not in (names := list(names)):
            self.fail(word.at, unknown(what, word.text, names))
        return word.text

    def convert(self, word: Word, convert: Convert) -> Any:
        """The word's value."""
        try:
            return convert(word.text)
        except ValueError as error:
            got = "" if f"'{word.text}'" in str(error) else f", got '{word.text}'"
            self.fail(word.at, f"{error}{got}")

    def values(self, call: Call, keys: Mapping[str, Convert], bare: str | None = None) -> dict[str, Any]:
        """The call's arguments by key. A value without a key belongs to `bare`."""
        found: dict[str, Any] = {}
        for word, value in call.arguments:
            if word is None and bare is None:
                self.fail(value.at, f"expected key=value, with a key of '{call.name.text}': {', '.join(keys)}")
            key = bare if word is None else self.choose(word, keys, f"argument of '{call.name.text}'")
            assert key is not None
            if key in found:
                self.fail((word or value).at, f"'{key}' is given twice")
            found[key] = self.convert(value, keys[key])
        return found

    def build(self, call: Call, make: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """make(**values); an error that it raises becomes an error at this position."""
        try:
            return make(**values)
        except (ValueError, TypeError) as error:
            self.fail(call.name.at, str(error))


def unknown(what: str, name: str, names: Iterable[str]) -> str:
    """'unknown `what` ...', with the closest name if one is close, else all of them."""
    names = list(names)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(names)}"
    return f"unknown {what} '{name}': {hint}"


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("expected a number") from None
    if value - value != 0:  # inf or nan
        raise ValueError("expected a finite number")
    return value
