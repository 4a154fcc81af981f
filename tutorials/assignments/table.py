"""The marks of a class as CSV: a row for each submission, a column for each item. Safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from tutorials.assignments.assignment import AssignmentError
from tutorials.assignments.marking import Report
from tutorials.assignments.said import line
from tutorials.assignments.sandbox import is_on
from tutorials.assignments.text import as_utf8

_FORMULA = re.compile(
    r"(^\s*|;[\s\"]*)([=+\-@|%\uff1d\uff0b\uff0d\uff20])"
)  # the last four: full-width = + - @, which Excel accepts in Japanese
FIRST = ("submission", "score", "of")


def table(reports: list[Report]) -> str:
    """The whole table. A submission that is not graded has a row without marks and with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    items = [mark.item.name for mark in reports[0].marks]
    writer.writerow([*FIRST, *items, "sha256", "problems", "not graded", "unprotected"])
    for report in reports:
        writer.writerow([cell(value) for value in _row(report, len(items))])
    whole = text.getvalue()
    return whole if whole.isascii() else "\ufeff" + whole  # a byte order mark, by which Excel recognizes UTF-8


def read_table(path: Path, what: str) -> list[dict[str, str]]:
    """The rows of a CSV as a spreadsheet may save it: with commas, semicolons or tabs, in UTF-8 or its own encoding.

    Empty rows are skipped. Raises AssignmentError; `what` says what the table should contain.
    """
    try:
        text = as_utf8(path.read_bytes()).decode("utf-8-sig")
        head = text.partition("\n")[0]
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AssignmentError(f"{path} can't be read as a table of {what}: {error}") from error
    return [row for row in rows if any(row.values())]


def _row(report: Report, items: int) -> list[Any]:
    work = report.submission
    if work.ungraded:
        return [work.name, "", "", *[""] * items, "", "", work.ungraded, ""]
    hashes = "; ".join(f"{path} {digest}" for path, digest in work.hashes.items())
    problems = "; ".join(f"{path}: {why}" for path, why in (work.problems | report.broken).items())
    skipped = "; ".join(f"{path}: {why}" for path, why in work.skipped.items())
    off = [f"{name} {state}" for name, state in report.protections.items() if not is_on(state)]
    unprotected = "; ".join(off) if report.unprotected else ""
    scores = [mark.score for mark in report.marks]
    return [work.name, report.score, report.most, *scores, hashes, problems, skipped, unprotected]


def cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: text that starts like one gets an apostrophe in front.

    Many locales separate cells by semicolons, so the same holds after a semicolon, even before a quotation mark.
    """
    return _FORMULA.sub(r"\1'\2", line(value, 2000)) if isinstance(value, str) else value
