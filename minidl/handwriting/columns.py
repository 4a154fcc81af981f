"""A table as text: its numbers, and which of its columns are the label and the pixels.

Programs write tables in many ways. Lines are cut at commas, semicolons or tabs, or at blanks where there are none of
these; titles, quotes, and a packed file (.gz) are taken too.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from minidl.backend import Array
from minidl.data.idx import DataError
from minidl.data.layout import PICTURES

SEPARATORS = "\t;,"  # the first of these that is there: beside the others a comma may be a decimal one
LABELS = ("label", "labels", "class", "target", "digit", "y")  # what the column of the labels is called
NUMBERING = ("", "unnamed: 0", "index", "id")  # what a column is called that only counts the lines
RARE = 0.05  # of the lines: a label's column has other values than its commonest in more of them
MISSING = ("", "nan", "na", "null", "none", "?")  # what stands where a number is missing
COMMON = 0.5  # a picture's corner has one value, its background's, in more of them
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


def read_columns(path: Path) -> tuple[Array | None, Array]:
    """The labels (N,), None where there are only pixels, and the pixels (N, side * side), numbers as they stand.

    The label's column has one of the names in LABELS, or the only name that differs from the others in more than its
    number; without names it is the first or the last, as their values say. Raises DataError, with the line, where it is
    no table of numbers, holds no square of pixels, or where the label's column is not clear.
    """
    titles, values = _read_numbers(path)
    if titles and titles[0].lower() in NUMBERING:
        titles, values = titles[1:], values[:, 1:]
    columns = values.shape[1]
    named = [i for i, title in enumerate(titles) if title.lower() in LABELS]
    if not named and _is_square(columns - 1):
        named = _odd_one(titles)
    where = named[0] if named else None
    if not named and _is_square(columns - 1) and not _is_square(columns):
        where = _label_column(path, values)
    pixels = values if where is None else np.delete(values, where, axis=1)
    if not _is_square(pixels.shape[1]):
        raise DataError(
            f"{path} has {columns} numbers in a line: a label and the pixels of a square are needed, as 785 for 28x28"
        )
    return None if where is None else values[:, where], pixels


def _is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def _odd_one(titles: list[str]) -> list[int]:
    """The place of the one title that differs from the others in more than its numbers, as in Klasse, p0, p1, p2."""
    kinds = [re.sub(r"\d+", "", title.lower()) for title in titles]
    rare = [i for i, kind in enumerate(kinds) if kinds.count(kind) == 1]
    return rare if len(rare) == 1 and len(set(kinds)) == 2 else []


def _label_column(path: Path, values: Array) -> int:
    """0 or -1: labels vary from line to line, which a picture's corner seldom does. Where both do, most of the label's
    numbers are none of a pixel; or they leave out none, and the other column is mostly background."""
    of = {column: np.unique(values[:, column], return_counts=True) for column in (0, -1)}
    most = {column: counts.max() / len(values) for column, (_, counts) in of.items()}
    found = [column for column, (kinds, _) in of.items() if len(kinds) > 1 and most[column] <= 1 - RARE]
    if len(found) == 2:
        pixels = np.unique(values[:, 1:-1])
        odd = [column for column, (kinds, _) in of.items() if 2 * len(np.setdiff1d(kinds, pixels)) > len(kinds)]
        whole = [column for column, (kinds, _) in of.items() if np.array_equal(kinds, kinds[0] + np.arange(len(kinds)))]
        found = odd or [column for column in whole if most[-1 - column] > COMMON]
    if len(found) != 1:
        raise DataError(
            f"{path} does not say whether its first or its last column is the label: write a first line of names into "
            "it, as label,pixel0,pixel1,..."
        )
    return found[0]


# ---- from text to numbers ----


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8-sig") if packed else open(path, encoding="utf-8-sig") as text:
        yield text


def _read_numbers(path: Path) -> tuple[list[str], Array]:
    """The names of the columns, [] without a line of names, and the numbers (N, columns): int16 where that holds them,
    else float32."""
    try:
        with _opened(path) as file:
            first = next((line for line in file if line.strip()), "")
        first = first.lstrip("# ").rstrip(" \r\n")  # np.savetxt writes a # before its names
        separator = next((each for each in SEPARATORS if each in first), " " if " " in first else ",")
        head = [cell.strip() for cell in next(_cells([first], separator), [])]
        titled = _are_titles(head)
        if _were_numbers(head[1:] if head[:1] == [""] else head):
            raise DataError(f"{path}: its first line was a picture, which pandas took for the names of the columns "
                            f"({', '.join(head[:4])}, ...): read the table with header=None")  # fmt: skip
        values = _loaded(path, separator, titled)
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8: save it as CSV, UTF-8") from None
    except (EOFError, OSError, csv.Error) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if not values.size:
        raise DataError(f"{path} has no line of numbers in it")
    return (head if titled else []), values


def _cells(lines: Iterable[str], separator: str) -> Any:
    """A csv.reader of the lines; several blanks are one, and none at a line's ends is one."""
    blank = separator == " "
    return csv.reader(map(str.strip, lines) if blank else lines, delimiter=separator, skipinitialspace=blank)


def _are_titles(head: list[str]) -> bool:
    """Whether a first line names its columns: by words, or by numbers from 0 as pandas does."""
    words = [cell for cell in head if not NUMBER.fullmatch(cell.replace(",", ".")) and cell.lower() not in MISSING]
    names = head[1:] if head[:1] == [""] else head
    return bool(words) or names == [str(i) for i in range(len(names))]


def _were_numbers(head: list[str]) -> bool:
    """Whether these are numbers told apart as pandas tells equal names apart: 0, 0.1, 0.2 are 0 three times."""
    seen: Counter[str] = Counter()
    for cell in head:
        base, _, again = cell.partition(".")
        if not base.isdigit() or (again or "0") != str(seen[base]):
            return False
        seen[base] += 1
    return len(seen) < len(head)


def _loaded(path: Path, separator: str, titled: bool) -> Array:
    for kind in (np.int16, np.float32):
        with _opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty table is told by its reader
            warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 makes 0 of 0.5, and only warns
            lines = (line for line in file if line.strip())
            if titled:
                next(lines, None)
            try:
                between = None if separator == " " else separator  # None: as many blanks as there are
                values = np.loadtxt(lines, kind, delimiter=between, quotechar='"', comments=None, ndmin=2)
            except UnicodeDecodeError:
                raise
            except (ValueError, OverflowError):
                continue
        if not np.isnan(values).any():
            return values
    raise DataError(f"{path} is no table of numbers: {_odd_line(path, separator, titled)}")


def _odd_line(path: Path, separator: str, titled: bool) -> str:
    """The first line that can't be read, in words."""
    columns, titles = 0, None
    with _opened(path) as file:
        reader = _cells(file, separator)
        for cells in reader:
            if not "".join(cells).strip() and len(cells) < 2:
                continue
            if titled and titles is None:
                columns, titles = len(cells), cells
                continue
            if cells == titles:
                return f"line {reader.line_num} has the names of the columns once more: remove it"
            if len(cells) == 1 and len(cells[0].split()) > 1:
                return f"line {reader.line_num} has no comma, semicolon or tab in it: put one between the numbers"
            if columns and len(cells) != columns:
                more = ", for a separator stands at its end" if len(cells) > 1 and not cells[-1].strip() else ""
                return f"line {reader.line_num} has {len(cells)} columns, those before have {columns}{more}"
            columns = len(cells)
            for k, cell in enumerate(map(str.strip, cells), 1):
                if cell.lower().endswith(PICTURES):
                    return (
                        f"line {reader.line_num} names {cell[-40:]!r}; sort the pictures into a folder for each class"
                    )
                if cell.lower() in MISSING:
                    end = ", or a separator at its end is too much" if 1 < k == len(cells) and not cell else ""
                    held = f"holds {cell!r}" if cell else "is empty"
                    return f"line {reader.line_num}, column {k} {held}: a number is missing{end}"
                if not NUMBER.fullmatch(cell):
                    digits = "have a decimal point" if "," in cell else "are digits, 0 to 9, and a point"
                    need = f"numbers {digits}" if cell[0].isdigit() else "labels are numbered from 0"
                    return f"line {reader.line_num}, column {k} holds {cell[:20]!r}, and {need}"
    return "its lines are not alike"
