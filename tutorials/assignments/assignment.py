"""What an assignment is: the functions that are cut out of the library's files, and the items that are marked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from tutorials.assignments.check import Ledger

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAMES = ("A1", "A2", "A3", "A4", "A5")  # in the order of the course


class Call(Protocol):
    """call(name, **arguments): a function of the assignment's calls.py, run in the student's process."""

    ledger: Ledger

    def __call__(self, function: str, /, **arguments: Any) -> Any: ...


Check = Callable[[Call, np.random.Generator], None]  # raises check.Wrong
LESSONS = {
    2: "One neuron", 3: "The order of the walk", 4: "An MLP learns digits", 5: "SGD, momentum, Nesterov",
    6: "Adam, one line at a time", 7: "The switch", 8: "Convolution", 9: "Under-fit, good fit, over-fit",
    12: "Read the study's report",
}  # fmt: skip


class AssignmentError(Exception):
    """The request can't be carried out; the message says what to do instead."""


@dataclass(frozen=True)
class Item:
    """One row of the table of marks: it gets all its marks if its check passes, otherwise none.

    of      the functions that it tests, named as in the assignment's cuts
    lesson  the number of the lesson that explains it
    """

    name: str
    marks: int
    check: Check
    of: tuple[str, ...] = ()
    lesson: int = 0


@dataclass(frozen=True)
class Assignment:
    """One assignment.

    cuts      file -> qualified names of the functions that the student writes. Students hand in these files
    drop      file -> functions and assignment statements that are removed, because they give the solution away
    base      the folder that the files are relative to: the library, or for A5 the assignment's own folder
    library   packages that the hand-out contains whole, for A5; elsewhere it contains what the cut files import
    """

    name: str
    title: str
    cuts: Mapping[str, tuple[str, ...]]
    drop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base: Path = ROOT
    library: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return HERE / self.name


@dataclass
class Items:
    """The items of an assignment, collected by `@items.item(name, marks, of)` in its hidden.py.

    lesson  the lesson that explains an item which does not name another
    parts   functions that others build on -> the grader's versions. If a student has one of them wrong, items that
            use it are checked again with the grader's version, so that a student pays for the mistake once
    """

    lesson: int = 0
    parts: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    all: list[Item] = field(default_factory=list)

    def item(self, name: str, marks: int, *of: str, lesson: int = 0) -> Callable[[Check], Check]:
        def add(check: Check) -> Check:
            self.all.append(Item(name, marks, check, of, lesson or self.lesson))
            return check

        return add


def load(name: str) -> Assignment:
    """The assignment with this name. Raises AssignmentError if there is none."""
    if name.upper() not in NAMES:
        raise AssignmentError(f"there is no assignment {name!r}: choose one of {', '.join(NAMES)}")
    assignment: Assignment = _part(name.upper(), "spec").ASSIGNMENT
    return assignment


def load_items(assignment: Assignment) -> list[Item]:
    """The items, which are the teacher's part: no hand-out contains them."""
    return load_hidden(assignment).all


def load_hidden(assignment: Assignment) -> Items:
    """The items, with the lesson and the parts that they share."""
    items: Items = _part(assignment.name, "hidden").ITEMS
    return items


def later(assignment: Assignment) -> list[Assignment]:
    """The assignments that come after this one."""
    return [load(name) for name in NAMES[NAMES.index(assignment.name) + 1 :]]


def _part(name: str, module: str) -> ModuleType:
    return importlib.import_module(f"tutorials.assignments.{name}.{module}")
