"""An option is declared once, as a field of a dataclass: its help, default, group and check.

    epochs: int | None = option(None, "passes over the training split", group="run", metavar="N", check=at_least(1))

The command line (`add_options`), the validation of values from anywhere (`check_options`) and the dataclass's
docstring (`documented`) are derived from it. A value is parsed as the field's type.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import Field, field, fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Check = Callable[[Any], "str | None"]  # None for a valid value, else what it must be


def option(
    default: Any,
    help: str,
    *,
    group: str,
    metavar: str | None = None,
    check: Check | None = None,
    read: Callable[[str], Any] | None = None,
) -> Any:
    """A field of a dataclass that is a command-line option: `batch_size` is --batch-size.

    help     its help text; the default is appended if it is a value
    group    its heading in the help
    metavar  stands for the value in the help
    check    validates a value that is not None; see at_least, positive, share
    read     parses the word on the command line; default: the field's type
    """
    told = help if default is None or isinstance(default, bool) else f"{help} (default: {default})"
    metadata = {"help": told, "group": group, "metavar": metavar, "check": check, "read": read}
    return field(default=default, metadata=metadata)


def add_options(parser: argparse.ArgumentParser, *classes: type, only: Iterable[str] | None = None) -> None:
    """Add the options of these dataclasses, or only those named, under their groups, in the order of the fields.

    Options not given stay unset: the dataclass has the defaults.
    """
    groups: dict[str, Any] = {}
    for cls in classes:
        types = get_type_hints(cls)
        for each in _options(cls):
            if only is not None and each.name not in only:
                continue
            group = each.metadata["group"]
            if group not in groups:
                groups[group] = parser.add_argument_group(group)
            how: dict[str, Any] = {"default": argparse.SUPPRESS, "help": each.metadata["help"].replace("%", "%%")}
            if types[each.name] is bool:
                how["action"] = "store_true"
            else:
                how |= {"metavar": each.metadata["metavar"], "type": each.metadata["read"] or _type(types[each.name])}
            groups[group].add_argument(flag(each.name), **how)


def check_options(settings: Any) -> None:
    """Raise ValueError, with the option's name, for the first value that has a wrong type or fails its check."""
    types = get_type_hints(type(settings))
    for each in _options(type(settings)):
        value, check = getattr(settings, each.name), each.metadata["check"]
        if isinstance(value, str) and len(value) > LONGEST:
            raise ValueError(f"{flag(each.name)} has {len(value):,} characters: at most {LONGEST:,} are allowed")
        wanted = _kind(value, types[each.name])
        if wanted is None and value is not None and check is not None:
            wanted = check(value)
        if wanted is not None:
            told = f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
            raise ValueError(
                f"{flag(each.name)} must be {wanted}, got {told if len(told) <= 60 else told[:57] + '...'}"
            )


def _kind(value: Any, hint: Any) -> str | None:
    """None for a value of this type hint, else what it must be."""
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(_is_one(value, each) for each in hints):
        return None
    return " or ".join(_WORDS[get_origin(each) or each] for each in hints if each is not NoneType)


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", tuple: "two numbers"}
LONGEST = 4096  # characters of a string: the longest path


def _is_one(value: Any, hint: Any) -> bool:
    if get_origin(hint) is tuple:  # a list in JSON
        return isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_one(each, float) for each in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def documented(cls: type) -> None:
    """Add the options to the dataclass's docstring."""
    wide = max(len(each.name) for each in _options(cls)) + 2
    lines = [f"    {each.name:<{wide}}{each.metadata['help']}" for each in _options(cls)]
    cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", *lines, "    "])


def flag(name: str) -> str:
    """The command-line option of a field: --batch-size for batch_size."""
    return f"--{name.replace('_', '-')}"


def _options(cls: type) -> list[Field[Any]]:
    return [each for each in fields(cls) if "group" in each.metadata]


def _type(hint: Any) -> Callable[[str], Any]:
    """The type that a word is parsed as: int for `int | None`."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    kind: Callable[[str], Any] = kinds[0]
    return kind


# ---- checks ----


def at_least(low: int, unit: str = "", most: int = 2**31) -> Check:
    """A check for whole numbers from `low` to `most`, of a unit such as "step"."""
    wanted = f"at least {low} {unit}".rstrip() if low else "0 or more"
    return lambda value: wanted if value < low else f"at most {most:,}" if value > most else None


def positive(value: float) -> str | None:
    """A finite number above 0."""
    return None if math.isfinite(value) and value > 0 else "a positive number"


def share(value: float) -> str | None:
    """A number from 0 up to, but not including, 1."""
    return None if 0 <= value < 1 else "between 0 and 1"
