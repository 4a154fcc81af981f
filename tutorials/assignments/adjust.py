"""Marks that a teacher overrides: a table of adjustments, applied in every grading that it is passed to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from tutorials.assignments.assignment import AssignmentError
from tutorials.assignments.marking import Report
from tutorials.assignments.table import cell, read_table

COLUMNS = ("submission", "item", "marks", "reason")
Adjustments = dict[tuple[str, str], tuple[int, str]]  # (submission, item) -> (marks, reason)


def read_adjustments(path: Path, submissions: Iterable[str]) -> tuple[Adjustments, list[str]]:
    """The adjustments in a CSV with the columns submission, item, marks and reason; and its names without a submission.

    submissions  all names. The CSV may have them as they are or as in the table of marks. Raises AssignmentError.
    """
    names = {name: name for name in submissions}
    names |= {str(cell(name)): name for name in names}
    composed = {normalize("NFC", each): name for each, name in names.items()}  # on macOS ü may be two characters
    found: Adjustments = {}
    nobodys: dict[str, None] = {}
    for number, row in enumerate(read_table(path, "adjustments"), 2):
        if any(not row.get(column) for column in COLUMNS) or not row["marks"].isdigit():
            raise AssignmentError(f"{path}, line {number}: expected {', '.join(COLUMNS)}, with marks a whole number")
        name = names.get(row["submission"]) or composed.get(normalize("NFC", row["submission"]))
        if name is not None:
            found[name, row["item"]] = int(row["marks"]), row["reason"]
        else:
            nobodys[row["submission"]] = None
    return found, list(nobodys)


def adjust(report: Report, adjustments: Adjustments) -> None:
    """Replace the grader's marks with the teacher's, with the reason in the feedback. Raises AssignmentError."""
    own = {item: new for (name, item), new in adjustments.items() if name == report.submission.name}
    work = report.submission
    if own and work.ungraded:  # now the teacher has graded it
        work.skipped, work.ungraded = {work.name: work.ungraded}, ""
    for i, mark in enumerate(report.marks):
        if mark.item.name in own:
            marks, reason = own.pop(mark.item.name)
            if marks > mark.item.marks:
                raise AssignmentError(
                    f"{mark.item.name!r} has {mark.item.marks} marks, but an adjustment gives {marks}"
                )
            said = f"Your teacher: {marks} marks, not {mark.score}: {reason}"
            report.marks[i] = replace(mark, score=marks, feedback=f"{said}\n{mark.feedback}".strip())
    if own:
        items = ", ".join(mark.item.name for mark in report.marks)
        raise AssignmentError(f"an adjustment is for {next(iter(own))!r}, which is not an item: {items}")
