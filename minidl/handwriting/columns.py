"""A CSV file: its values, and which of its columns are the label and the pixels.

Programs write CSV files in many ways. Lines are split at commas, semicolons or tabs, or at spaces where there are none
of these; a header, quotes and a compressed file (.gz) are accepted too.
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

SEPARATORS = "\t;,"  # the first of these that occurs: beside the others a comma may be a decimal comma
LABELS = ("label", "labels", "class", "target", "digit", "y")  # names of the label column
NUMBERING = ("", "unnamed: 0", "index", "id")  # names of a column that only numbers the rows
RARE = 0.05  # of the rows: a label column differs from its most common value in more of them
MISSING = ("", "nan", "na", "null", "none", "?")  # cells with a missing value
COMMON = 0.5  # of the rows: an image's corner has one value, the background's, in more of them
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


def read_columns(path: Path) -> tuple[Array | None, Array]:
    """The labels (N,), None where there are only pixels, and the pixels (N, side * side), values unchanged.

    The label column has one of the names in LABELS, or the only name that differs from the others in more than its
    number; without a header it is the first or the last, judged by their values. Raises DataError, with the line, where
    the file is not all numbers, the pixels make no square, or it is not clear which column is the label.
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
    numbers = _numbers(titles if where is None or not titles else [*np.delete(titles, where)])
    if len(numbers) == pixels.shape[1]:
        pixels = pixels[:, np.argsort(numbers)]
    if not _is_square(pixels.shape[1]):
        raise DataError(
            f"{path} has {columns} values per row: a label and the pixels of a square are needed, as 785 for 28x28"
        )
    return None if where is None else values[:, where], pixels


def _is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def _odd_one(titles: list[str]) -> list[int]:
    """The index of the one column name that differs from the others in more than its number: Klasse, p0, p1, p2."""
    kinds = [re.sub(r"\d+", "", title.lower()) for title in titles]
    rare = [i for i, kind in enumerate(kinds) if kinds.count(kind) == 1]
    return rare if len(rare) == 1 and len(set(kinds)) == 2 else []


def _numbers(titles: list[str]) -> list[int]:
    """The numbers in the pixels' names, pixel0, pixel1, ...: a program may have sorted them, pixel10 before pixel2.
    Empty where a name has no number or several, as in 1x1, or where two have the same."""
    found = [re.findall(r"\d+", title) for title in titles]
    numbers = [int(each[0]) for each in found if len(each) == 1]
    return numbers if len(set(numbers)) == len(titles) else []


def _label_column(path: Path, values: Array) -> int:
    """0 or -1: labels vary from row to row, which an image's corner seldom does. Where both vary, most label values are
    not pixel values; or they have no gaps, and the other column is mostly background."""
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
            f"{path} does not show whether its first or its last column is the label: add a header, such as "
            "label,pixel0,pixel1,..."
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
    """The column names, [] without a header, and the values (N, columns): int16 where they fit, else float32."""
    try:
        with _opened(path) as file:
            first = next((line for line in file if line.strip()), "")
        first = first.lstrip("# ").rstrip(" \r\n")  # np.savetxt writes a # before the header
        separator = next((each for each in SEPARATORS if each in first), " " if " " in first else ",")
        head = [cell.strip() for cell in next(_cells([first], separator), [])]
        titled = _are_titles(head)
        if _were_numbers(head[1:] if head[:1] == [""] else head):
            raise DataError(f"{path}: its first line was an image, which pandas took for the header "
                            f"({', '.join(head[:4])}, ...): read the CSV file with header=None")  # fmt: skip
        values = _loaded(path, separator, titled)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as CSV, UTF-8") from None
    except (EOFError, OSError, csv.Error) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if not values.size:
        raise DataError(f"{path} has no rows of numbers")
    return (head if titled else []), values


def _cells(lines: Iterable[str], separator: str) -> Any:
    """A csv.reader of the lines; several spaces count as one separator, and spaces at a line's ends as none."""
    blank = separator == " "
    return csv.reader(map(str.strip, lines) if blank else lines, delimiter=separator, skipinitialspace=blank)


def _are_titles(head: list[str]) -> bool:
    """Whether the first line is a header: of words, or of numbers from 0 as in pandas."""
    words = [cell for cell in head if not NUMBER.fullmatch(cell.replace(",", ".")) and cell.lower() not in MISSING]
    names = head[1:] if head[:1] == [""] else head
    return bool(words) or names == [str(i) for i in range(len(names))]


def _were_numbers(head: list[str]) -> bool:
    """Whether these are pixel values that pandas renamed as duplicate columns: 0, 0.1, 0.2 are 0 three times."""
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
            warnings.simplefilter("ignore")  # the caller reports an empty file
            warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 makes 0 of 0.5, and only warns
            lines = (line for line in file if line.strip())
            if titled:
                next(lines, None)
            try:
                between = None if separator == " " else separator  # None: any number of spaces
                values = np.loadtxt(lines, kind, delimiter=between, quotechar='"', comments=None, ndmin=2)
            except UnicodeDecodeError:
                raise
            except (ValueError, OverflowError):
                continue
        if not np.isnan(values).any():
            return values
    raise DataError(f"{path} is not a CSV file of numbers: {_odd_line(path, separator, titled)}")


def _odd_line(path: Path, separator: str, titled: bool) -> str:
    """What is wrong with the first line that can't be read."""
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
                return f"line {reader.line_num} repeats the header: remove it"
            if len(cells) == 1 and len(cells[0].split()) > 1:
                return f"line {reader.line_num} has no comma, semicolon or tab: put one between the values"
            if columns and len(cells) != columns:
                more = ", because it ends with a separator" if len(cells) > 1 and not cells[-1].strip() else ""
                return f"line {reader.line_num} has {len(cells)} columns, those before have {columns}{more}"
            columns = len(cells)
            for k, cell in enumerate(map(str.strip, cells), 1):
                if cell.lower().endswith(PICTURES):
                    return f"line {reader.line_num} names {cell[-40:]!r}; sort the images into one folder per class"
                if cell.lower() in MISSING:
                    end = ", or there is an extra separator at the end" if 1 < k == len(cells) and not cell else ""
                    held = f"holds {cell!r}" if cell else "is empty"
                    return f"line {reader.line_num}, column {k} {held}: a value is missing{end}"
                if not NUMBER.fullmatch(cell):
                    digits = "need a decimal point" if "," in cell else "consist of digits, 0 to 9, and a point"
                    need = f"numbers {digits}" if cell[0].isdigit() else "labels must be numbers from 0"
                    return f"line {reader.line_num}, column {k} holds {cell[:20]!r}, but {need}"
    return "its lines differ in form"
