"""Marking a submission: every item is checked against the student's code, in its own process, and passes or fails.

A mistake costs one item. If it shows up again in a later item, which uses the same part or repeats the same slip but is
otherwise right, that item passes with a note.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tutorials.assignments.assignment import Assignment, Item, Items, load_hidden, load_items
from tutorials.assignments.check import Ledger, Wrong
from tutorials.assignments.feedback import explained
from tutorials.assignments.said import line
from tutorials.assignments.sandbox import Limits
from tutorials.assignments.session import Session
from tutorials.assignments.submission import Submission

SEED = 2017


@dataclass
class Mark:
    """An item's outcome: its marks or 0, and the feedback; an item with marks may have feedback, too.

    slip  the known mistake behind it, "" if none
    """

    item: Item
    score: int
    feedback: str
    slip: str = ""


@dataclass
class Report:
    """The result of grading a submission.

    protections    which are on; see sandbox.py
    unprotected    the essential ones that are off, if the grader was told to continue without them
    broken         files that can't be loaded -> why
    printed        the beginning of what was printed; `printed_bytes` counts all of it
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
    """Mark one submission. The seed determines the inputs: use one for a class. Raises session.Unprotected."""
    begin, items = time.monotonic(), load_items(assignment)
    report = Report(assignment, submission, [])
    if not submission.files:
        reason = submission.ungraded or "not run: there is no file to grade"
        report.marks = [Mark(item, 0, reason) for item in items]
        return report
    with Session(assignment, submission.files, limits, unsafe, without) as session:
        marker = _Marker(session, load_hidden(assignment), submission, seed)
        report.marks = [marker.mark(number, item) for number, item in enumerate(items)]
        report.protections, report.unprotected = session.states, session.missing()
        report.broken, report.printed, report.printed_bytes = session.broken, session.printed, session.output.size
    report.seconds = time.monotonic() - begin
    return report


class _Asked:
    """A session's calls, and the ledger of mistakes already charged."""

    def __init__(self, session: Session) -> None:
        self.session, self.ledger = session, Ledger()

    def __call__(self, function: str, /, **arguments: Any) -> Any:
        return self.session.call(function, **arguments)


class _Marker:
    """Marks the items of one submission, in order."""

    def __init__(self, session: Session, hidden: Items, submission: Submission, seed: int) -> None:
        self.session, self.hidden, self.submission, self.seed = session, hidden, submission, seed
        self.asked = _Asked(session)
        self.charged: list[str] = []  # parts that have cost an item its marks

    def mark(self, number: int, item: Item) -> Mark:
        """The item's mark: full if it is right, or right except for mistakes already charged."""
        wrong = self._wrong(number, item)
        if wrong is None:
            said = [f"Right apart from this, for which you lost marks above: {n}" for n in self.asked.ledger.notes]
            return Mark(item, item.marks, "\n".join(said))
        before = [name for name in self.charged if name not in item.of]
        if before and self._passes_with(number, item, before):
            names = ", ".join(before)
            return Mark(item, item.marks, f"Right apart from {names}, for which you lost marks above.")
        own = [name for name in self.hidden.parts if name in item.of]
        culprit = "" if own else self._culprit(number, item)
        if wrong.slip:
            self.asked.ledger.charged.add(wrong.slip)
        self.charged += [name for name in (*own, culprit) if name and name not in self.charged]
        told, places = str(wrong), item.of
        if culprit:
            told, places = f"{told}\n  With a correct {culprit} this item is right: look there.", (culprit,)
        told = explained(told, places, item.lesson, self.submission, self.session.broken)
        return Mark(item, 0, told, wrong.slip.strip())

    def _wrong(self, number: int, item: Item) -> Wrong | None:
        """What is wrong with an item; None if it is right."""
        self.asked.ledger.notes.clear()
        rng = np.random.default_rng([self.seed, number])
        try:
            item.check(self.asked, rng)
        except Wrong as wrong:
            return wrong
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            # A check assumes the structure that calls.py returns; a process that forges its answers breaks that.
            return Wrong(f"the grader can't use the structure of the answer ({line(str(error))})")
        return None

    def _culprit(self, number: int, item: Item) -> str:
        """The part that makes this item fail, by itself or with parts already charged; "" if there is none."""
        for name in self.hidden.parts:
            if name not in self.charged and self._passes_with(number, item, [*self.charged, name]):
                return name
        return ""

    def _passes_with(self, number: int, item: Item, parts: list[str]) -> bool:
        """Whether an item is right if the grader computes these parts."""
        try:
            self.session.give({name: self.hidden.parts[name] for name in parts})
            return self._wrong(number, item) is None
        except Wrong:
            return False
        finally:
            with contextlib.suppress(Wrong):  # the process may have ended: a new one starts with its own parts
                self.session.give({})
