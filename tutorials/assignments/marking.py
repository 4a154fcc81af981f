"""Marking a submission: every item is asked of the student's code in its own process, and either passes or doesn't."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from tutorials.assignments.assignment import Assignment, Item, load_items
from tutorials.assignments.check import Wrong
from tutorials.assignments.sandbox import Limits
from tutorials.assignments.session import Session
from tutorials.assignments.submission import Submission

SEED = 2017


@dataclass
class Mark:
    """An item's outcome: its marks or 0, and why; with marks, what is to be said all the same."""

    item: Item
    score: int
    feedback: str


@dataclass
class Report:
    """What became of a submission.

    protections    which are on; see sandbox.py
    unprotected    what is missing of them, where the grader was told to go on all the same
    broken         files that can't be loaded -> why
    printed        the beginning of what was printed, and `printed_bytes`, all of it
    """

    assignment: Assignment
    submission: Submission
    marks: list[Mark]
    protections: dict[str, str] = field(default_factory=dict)
    unprotected: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    printed_bytes: int = 0
    seconds: float = 0.0

    @property
    def score(self) -> int:
        return sum(mark.score for mark in self.marks)

    @property
    def most(self) -> int:
        return sum(mark.item.marks for mark in self.marks)


def grade(
    assignment: Assignment,
    submission: Submission,
    seed: int = SEED,
    limits: Limits | None = None,
    unsafe: bool = False,
    without: Iterable[str] = (),
) -> Report:
    """Mark one submission. The seed decides the inputs: the same for all of a class. Raises session.Unprotected."""
    begin, items = time.monotonic(), load_items(assignment)
    report = Report(assignment, submission, [])
    if not submission.files:
        reason = submission.ungraded or "not run: there is no file to grade"
        report.marks = [Mark(item, 0, reason) for item in items]
        return report
    with Session(assignment, submission.files, limits, unsafe, without) as session:
        for number, item in enumerate(items):
            try:
                note = item.check(session.call, np.random.default_rng([seed, number]))
                report.marks.append(Mark(item, item.marks, note or ""))
            except Wrong as wrong:
                report.marks.append(Mark(item, 0, str(wrong)))
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
                # A check trusts the form of what calls.py returns; a process that forges its answers breaks that trust.
                report.marks.append(Mark(item, 0, f"the answer has a form that the grader can't use ({error})"))
        report.protections, report.unprotected = session.states, session.missing()
        report.broken, report.printed, report.printed_bytes = session.broken, session.printed, session.output.size
    report.seconds = time.monotonic() - begin
    return report
