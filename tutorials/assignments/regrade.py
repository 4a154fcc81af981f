"""What a second grading changes: whose marks, in which items, and whether the files or the grader changed."""

from __future__ import annotations

from pathlib import Path

from tutorials.assignments.assignment import AssignmentError
from tutorials.assignments.marking import Mark, Report
from tutorials.assignments.said import line
from tutorials.assignments.table import cell, read_table


def read_marks(path: Path) -> dict[str, dict[str, str]]:
    """An earlier table of marks, by submission. Raises AssignmentError if the file is not one."""
    rows = read_table(path, "marks")
    if not rows or not {"submission", "score", "sha256"} <= rows[0].keys():
        raise AssignmentError(f"{path} is not a table of marks: name a file that --csv has written")
    return {row["submission"]: row for row in rows}


def changes(before: dict[str, dict[str, str]], reports: list[Report]) -> list[str]:
    """Lines about changed marks, with items and reasons, and about submissions that are new or no longer there."""
    lines = []
    now = {str(cell(report.submission.name)): report for report in reports}
    for name, report in now.items():
        old, graded = before.get(name), not report.submission.ungraded
        score = report.score if graded else "not graded"
        if old is None:
            lines.append(f"{name}: {score}, new")
        elif changed := [said for mark in report.marks if (said := _change(old.get(mark.item.name), mark, graded))]:
            hashes = "; ".join(f"{path} {digest}" for path, digest in report.submission.hashes.items())
            why = "same files, different grader" if old["sha256"] == hashes else "different files"
            lines.append(f"{name}: {old['score'] or '-'} -> {score} ({why})")
            lines += [f"    {each}" for each in changed]
    lines += [f"{line(name)}: {row['score']}, no longer there" for name, row in before.items() if name not in now]
    return lines


def _change(before: str | None, mark: Mark, graded: bool) -> str:
    """How an item's marks have changed, with the feedback if there is any; "" if they have not."""
    now = str(mark.score) if graded else ""
    if before == now:
        return ""
    reason = f": {line(mark.feedback, 200)}" if mark.feedback else ""
    return f"{mark.item.name}: {'no such item' if before is None else before or '-'} -> {now or '-'}{reason}"
