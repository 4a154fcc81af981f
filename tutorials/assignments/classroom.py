"""A class: a folder or an archive with all submissions, as collected or as a learning platform exports them.

ada/, bob.zip, cy.py       one folder, archive or file for each student
submitted/ada/A2/          nbgrader, where a student's folder may contain other assignments, too
layouts.py                 Moodle, Canvas, Blackboard, Brightspace

Links are not followed. What is not a submission gets a row that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from tutorials.assignments.archive import Found, Problem, collected, look
from tutorials.assignments.assignment import Assignment, AssignmentError
from tutorials.assignments.layouts import handed_in, own_names, owners
from tutorials.assignments.submission import Submission, made_of, read
from tutorials.assignments.unpack import Member, empty_folders, is_archive, members_in, members_of

Reader = Callable[[], Submission]
_JUNK = ("thumbs.db", "desktop.ini")


def students(place: Path, assignment: Assignment) -> dict[str, Reader]:
    """All students in a folder or an archive, by name, and how to read their work. Raises AssignmentError if none."""
    if place.is_dir():
        found = _of_folder(place, assignment)
    elif place.is_file():
        found = _of_archive(place, assignment)
    else:
        raise AssignmentError(f"{place} is not a folder: with --csv, name the folder that holds a class's work")
    if not found:
        raise AssignmentError(f"{place} holds no folder, .zip or .py file to grade")
    return found


def _check_class(place: Path, paths: set[str], assignment: Assignment) -> None:
    """Raise AssignmentError if this folder or archive itself contains the files of one submission."""
    found = [path for path in assignment.cuts if path in paths or PurePosixPath(path).name in paths]
    if len(found) > 1:
        raise AssignmentError(
            f"{place} looks like one submission, because it contains {', '.join(found)}: leave out --csv, which "
            "expects a folder or an archive for each student"
        )


def _is_work(name: str) -> bool:
    return name.lower().endswith((".py", ".ipynb")) or is_archive(name)


def _no_work(name: str) -> Submission:
    return Submission(name, ungraded=f"{name} is not a folder, an archive or a .py file")


# ---- a folder ----


def _of_folder(place: Path, assignment: Assignment) -> dict[str, Reader]:
    groups: dict[str, list[Path]] = {}
    paths = [
        path
        for path in sorted(place.iterdir())
        if not path.name.startswith((".", "__MACOSX")) and path.name.lower() not in _JUNK
    ]
    whose = owners(path.name for path in paths)
    for path in paths:
        groups.setdefault(whose[path.name], []).append(path)
    _check_class(place, {*groups, *(path for path in assignment.cuts if (place / path).is_file())}, assignment)
    readers: dict[str, Reader] = {}
    graded = False
    for name, own in groups.items():
        if len(own) == 1 and own[0].name == name:
            readers[name] = partial(_one, own[0], assignment)
            graded |= own[0].is_dir() or _is_work(name)
        else:
            readers[name] = partial(_together, name, own, assignment)
            graded = True
    return readers if graded else {}


def _one(place: Path, assignment: Assignment) -> Submission:
    if place.is_symlink():
        return Submission(
            place.name, ungraded=f"{place.name} is a link, which is not followed: put the work itself here"
        )
    if place.is_file() and not _is_work(place.name):
        try:
            opened = place.name not in look(place).files  # an archive under another name
        except (Problem, OSError):
            opened = True
        if not opened:
            return _no_work(place.name)
    try:
        return read(place, assignment)
    except AssignmentError as error:
        return Submission(place.name, ungraded=str(error).replace(str(place), place.name))


def _together(student: str, places: list[Path], assignment: Assignment) -> Submission:
    """The submission in a platform's folders or files for one student."""
    own, why = own_names(place.name for place in places)
    found = Found(skipped=why)
    by_name = {place.name: place for place in places}
    for name, own_name in own.items():
        place = by_name[name]
        if place.is_symlink():
            found.skipped[name] = "a link, which is not followed"
            continue
        try:
            part = look(place)
        except (Problem, OSError) as problem:
            found.skipped[own_name] = str(problem)
            continue
        for path, reader in part.files.items():
            inside = path if place.is_dir() else own_name if path == name else f"{own_name}/{path}"
            if inside in found.files:
                found.skipped[f"{inside}, first copy"] = f"handed in before the one in {name}"
            found.files[inside] = reader
        found.skipped |= part.skipped
    return made_of(student, found, assignment)


# ---- an archive ----


def _of_archive(place: Path, assignment: Assignment) -> dict[str, Reader]:
    """Each student's files are read separately, so the limits for one student do not affect the others."""
    try:
        members = members_of(place)
        while members is not None and len(members) == 1 and is_archive(members[0][0]):
            members = members_in(members[0])
    except Problem as problem:
        raise AssignmentError(f"{place}: {problem}") from problem
    if members is None:
        raise AssignmentError(f"{place} is not an archive: with --csv, name a folder or an archive of a class's work")
    named = [(path.replace("\\", "/").strip("/"), read) for path, read in members]
    named = [(path, read) for path, read in named if not _is_junk(path)]
    empty = [path for path in empty_folders(place) if "__MACOSX" not in path]
    shared = _shared_folder([*(path for path, _ in named), *empty], {path.split("/")[0] for path in assignment.cuts})
    inside = [(path.removeprefix(shared), reading) for path, reading in named]
    _check_class(place, {path for path, _ in inside}, assignment)
    nothing = [path.removeprefix(shared).partition("/")[0] for path in empty]  # these students get a row, too
    nothing = [top for top in nothing if not top.startswith(".")]
    whose = owners([*(path.partition("/")[0] for path, _ in inside), *nothing])
    groups: dict[str, list[Member]] = {student: [] for student in whose.values()}
    for member in inside:
        groups[whose[member[0].partition("/")[0]]].append(member)
    return {name: partial(_of_members, name, groups[name], assignment) for name in sorted(groups)}


def _is_junk(path: str) -> bool:
    parts = path.lower().split("/")
    return parts[0] == "__macosx" or parts[-1] in (".ds_store", *_JUNK) or parts[-1].startswith("._")


def _of_members(name: str, members: list[Member], assignment: Assignment) -> Submission:
    """The submission in one student's members of a class's archive."""
    if [path for path, _ in members] == [name] and not _is_work(name):
        return _no_work(name)
    own, why = own_names(dict.fromkeys(path.partition("/")[0] for path, _ in members))
    inside = [
        (path.partition("/")[2] or own_name, reading)
        for top, own_name in own.items()
        for path, reading in members
        if path.partition("/")[0] == top
    ]
    found = collected(inside)
    found.skipped |= why
    return made_of(name, found, assignment)


def _shared_folder(paths: list[str], places: set[str]) -> str:
    """The folder that contains the whole class, with its slash; "" if there is none."""
    shared = ""
    while True:
        tops = {path.removeprefix(shared).partition("/")[0] for path in paths if "/" in path.removeprefix(shared)}
        if len(tops) != 1 or len({p for p in paths if "/" not in p.removeprefix(shared)}) > 0:
            return shared
        top = tops.pop()
        inside = f"{shared}{top}/"
        below = {path.removeprefix(inside).partition("/")[0] for path in paths}
        if below & places or any(name.endswith(".py") and not handed_in(name) for name in below) or handed_in(top):
            return shared
        shared = inside
