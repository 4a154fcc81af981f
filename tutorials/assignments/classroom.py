"""A class: a folder or an archive with everybody's work, as it was collected or as Moodle and Canvas export it.

ada/, bob.zip, cy.py                                 one of each for a student
Ada Lovelace_123_assignsubmission_file_/adam.py      Moodle: a folder for each student, and each kind of hand-in
lovelaceada_LATE_123_4567_adam-1.py                  Canvas: all files side by side
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tutorials.assignments.archive import Found, Problem, look
from tutorials.assignments.assignment import Assignment, AssignmentError
from tutorials.assignments.handout import to_write
from tutorials.assignments.submission import Submission, choose, read

_MOODLE = re.compile(r"^(?P<student>.+_\d+)_assignsubmission_[a-z]+_?$")
_CANVAS = re.compile(r"^(?P<student>[^_/]+)(_LATE)?_(?P<id>\d+)_\d+_(?P<file>[^/]+)$")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")

Reader = Callable[[], Submission]


def students(place: Path, assignment: Assignment) -> dict[str, Reader]:
    """Everybody in a folder or an archive, by name, and how to read their work. Raises AssignmentError if nobody is."""
    if place.is_dir():
        found = _of_folder(place, assignment)
    elif place.is_file():
        found = _of_archive(place, assignment)
    else:
        raise AssignmentError(f"{place} is not a folder: with --csv, name the folder that holds a class's work")
    if not found:
        raise AssignmentError(f"{place} holds no folder, .zip or .py file to grade")
    return found


def _of_folder(place: Path, assignment: Assignment) -> dict[str, Reader]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()):
        if not path.name.startswith((".", "__MACOSX")) and path.name.lower() not in ("thumbs.db", "desktop.ini"):
            groups.setdefault(_student(path.name), []).append(path)
    readers: dict[str, Reader] = {}
    graded = False
    for name, paths in groups.items():
        if len(paths) == 1 and paths[0].name == name:
            readers[name] = partial(_one, paths[0], assignment)
            graded |= paths[0].is_dir() or _is_work(name)
        else:
            readers[name] = partial(_together, name, paths, assignment)
            graded = True
    return readers if graded else {}


def _of_archive(place: Path, assignment: Assignment) -> dict[str, Reader]:
    try:
        whole = look(place)
    except Problem as problem:
        raise AssignmentError(f"{place}: {problem}") from problem
    shared = _shared_folder(list(whole.files), {path.split("/")[0] for path in assignment.cuts})
    groups: dict[str, Found] = {}
    for kind in ("files", "skipped"):
        for path, value in getattr(whole, kind).items():
            top, _, rest = path.removeprefix(shared).partition("/")
            getattr(groups.setdefault(_student(top), Found()), kind)[rest or _own_name(top)] = value
    return {
        name: partial(choose, name, found, list(assignment.cuts), to_write(assignment))
        for name, found in sorted(groups.items())
    }


def _shared_folder(paths: list[str], places: set[str]) -> str:
    """The folder in which all of a class lies, with its slash; "" if there is none."""
    shared = ""
    while True:
        tops = {path.removeprefix(shared).partition("/")[0] for path in paths if "/" in path.removeprefix(shared)}
        if len(tops) != 1 or len({p for p in paths if "/" not in p.removeprefix(shared)}) > 0:
            return shared
        inside = f"{shared}{tops.pop()}/"
        below = {path.removeprefix(inside).partition("/")[0] for path in paths}
        if below & places or any(name.endswith(".py") and not _CANVAS.match(name) for name in below):
            return shared
        shared = inside


def _student(name: str) -> str:
    """Whose this folder or file is, by the name that Moodle or Canvas has given it; else the name itself."""
    if moodle := _MOODLE.match(name):
        return moodle["student"]
    if canvas := _CANVAS.match(name):
        return f"{canvas['student']}_{canvas['id']}"
    return name


def _own_name(name: str) -> str:
    canvas = _CANVAS.match(name)
    return canvas["file"] if canvas else name


def _is_work(name: str) -> bool:
    return name.lower().endswith((".py", *_ARCHIVES))


def _one(place: Path, assignment: Assignment) -> Submission:
    if place.is_file() and not _is_work(place.name):
        try:
            opened = place.name not in look(place).files  # an archive by another name
        except (Problem, OSError):
            opened = True
        if not opened:
            return Submission(place.name, ungraded=f"{place.name} is no folder, no archive and no .py file")
    try:
        return read(place, assignment)
    except AssignmentError as error:
        return Submission(place.name, problems={path: str(error) for path in assignment.cuts})


def _together(name: str, places: list[Path], assignment: Assignment) -> Submission:
    """What Moodle's folders or Canvas's files of one student hold together."""
    found = Found()
    for place in places:
        own = _own_name(place.name)
        try:
            part = look(place)
        except (Problem, OSError) as problem:
            found.skipped[own] = str(problem)
            continue
        for path, reader in part.files.items():
            inside = path if place.is_dir() else own if path == place.name else f"{own}/{path}"
            found.files[inside] = reader
        found.skipped |= part.skipped
    return choose(name, found, list(assignment.cuts), to_write(assignment))
