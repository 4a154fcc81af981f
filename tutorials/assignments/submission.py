"""A submission: which of its files are the wanted ones. Nothing is written, and only the candidates are read.

A file is found by its path in the hand-out (optim/adam.py), by its name (adam.py), since many upload pages flatten
folders, or by a name as browsers, editors and upload pages change it (`adam (1).py`, `Adam.py`, `adam.py.txt`); as a
last resort, as a notebook of that name, from the code in its cells.
Of identical copies one is taken; an unchanged copy of the hand-out is never preferred to one that was edited.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tutorials.assignments.archive import LARGEST, Found, Problem, look
from tutorials.assignments.assignment import NAMES, Assignment, AssignmentError
from tutorials.assignments.handout import to_write
from tutorials.assignments.text import as_utf8

__all__ = ["LARGEST", "Submission", "choose", "read", "read_submission"]


@dataclass
class Submission:
    """A student's work.

    files     wanted path -> content
    problems  wanted path -> why there is none
    sources   wanted path -> where it was found, if the path is different
    skipped   what else was handed in -> why it is not graded
    ungraded  why this is not a submission at all, "" if it is one
    """

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    ungraded: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each graded file, the same as `sha256sum` of the student's own file."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}


def read(place: Path, assignment: Assignment) -> Submission:
    """The files of an assignment in a folder, an archive or a single file.

    Raises AssignmentError if there is nothing to read.
    """
    return made_of(place.name, _look(place), assignment)


def read_submission(place: Path, wanted: Iterable[str]) -> Submission:
    """The wanted files in a folder, an archive or a single file. Raises AssignmentError."""
    return choose(place.name, _look(place), list(wanted), {})


def made_of(name: str, found: Found, assignment: Assignment) -> Submission:
    """The submission of an assignment made of these files; ungraded if there is nothing that can be opened."""
    closed = [f"{path}: {why}" for path, why in found.skipped.items() if not path.endswith("/")]
    if closed and not found.files:
        return Submission(name, skipped=dict(found.skipped), ungraded="; ".join(closed))
    return choose(name, _without_others(found, assignment.name), list(assignment.cuts), to_write(assignment))


def _without_others(found: Found, own: str) -> Found:
    """Without the folders of other assignments, if this one has its own: A2/ beside A1/, as in nbgrader's layout."""
    folders = {path: path.lower().split("/")[:-1] for path in found.files}
    if not any(own.lower() in parts for parts in folders.values()):
        return found
    others = {name.lower() for name in NAMES} - {own.lower()}
    kept = Found(skipped=dict(found.skipped))
    for path, reading in found.files.items():
        at = next((i for i, part in enumerate(folders[path]) if part in others), None)
        if at is None or own.lower() in folders[path]:
            kept.files[path] = reading
        else:
            kept.skipped["/".join(path.split("/")[: at + 1]) + "/"] = "another assignment"
    return kept


def _look(place: Path) -> Found:
    if place.is_symlink() and not place.exists():
        raise AssignmentError(f"{place} is a broken link")
    if not (place.is_dir() or place.is_file()):
        raise AssignmentError(f"there is no submission at {place}: name a folder, a .zip or a .py file")
    try:
        return look(place)
    except Problem as problem:
        raise AssignmentError(f"{place}: {problem}") from problem
    except OSError as error:
        raise AssignmentError(f"{place} can't be read: {error.strerror}") from error


def choose(name: str, found: Found, wanted: list[str], bare: Mapping[str, str]) -> Submission:
    """The submission made of these files."""
    submission = Submission(name, skipped=dict(found.skipped))
    left = dict.fromkeys(found.files)
    for path in wanted:
        try:
            source, data = _pick(path, found, wanted, bare.get(path))
        except Problem as problem:
            submission.problems[path] = str(problem)
            continue
        submission.files[path] = data
        left.pop(source, None)
        if source != path:
            submission.sources[path] = source
    for source in left:
        taken = [path for path in submission.files if _rank(source, path) is not None]
        if taken:
            submission.skipped[source] = f"{taken[0]} was taken from {submission.sources.get(taken[0], taken[0])}"
    others = [source for source in left if source not in submission.skipped]
    if others:
        few = ", ".join(sorted(others)[:3]) + (", ..." if len(others) > 3 else "")
        many = "one other file" if len(others) == 1 else f"{len(others):,} other files"
        submission.skipped[many] = f"not asked for ({few})"
    return submission


def _pick(wanted: str, found: Found, all_wanted: list[str], bare: str | None) -> tuple[str, bytes]:
    """The path of the wanted file, and its contents. Raises Problem."""
    ranks: dict[int, list[str]] = {}
    own = PurePosixPath(wanted).name
    others = {PurePosixPath(each).name for each in all_wanted} - {own}
    for path in found.files:
        rank = _rank(path, wanted)
        if rank is not None and PurePosixPath(path).name.lower() not in others:
            ranks.setdefault(rank, []).append(path)
    by_ending = [[path for path in found.files if path.lower().endswith(end)] for end in (".py", ".ipynb")]
    scripts = by_ending[0] or by_ending[1]
    if not ranks and len(all_wanted) == len(scripts) == 1:
        ranks[0] = scripts
    empty, problem = None, None
    for rank in sorted(ranks):
        contents: dict[bytes, tuple[str, bytes]] = {}
        for path in sorted(ranks[rank], key=lambda path: (path.count("/"), path)):
            try:
                data = found.files[path]()
                contents.setdefault(_text(data), (path, data))
            except Problem as each:
                problem = problem or each
        for unedited in ("", bare or ""):
            empty = contents.pop(_text(unedited.encode()), None) or empty
        if len(contents) == 1:
            return next(iter(contents.values()))
        if contents:
            names = ", ".join(sorted(path for path, _ in contents.values())[:3])
            raise Problem(f"there are several files named {own} ({names}): hand in one")
        if problem:
            raise problem
    if empty and not _text(empty[1]):
        raise Problem(f"{empty[0]} is empty: hand in the file with your code")
    if empty:
        return empty
    there = ", ".join(sorted(found.files)[:5]) or "nothing"
    unread = "; ".join(f"{path}: {why}" for path, why in found.skipped.items() if not path.endswith("/"))
    raise Problem(
        f"there is no {own} in the submission (it has {there}): hand it in under this name"
        + (f"; {unread}" if unread else "")
    )


def _text(data: bytes) -> bytes:
    """The text without differences in encoding and line endings."""
    return b"\n".join(line.rstrip() for line in as_utf8(data).removeprefix(b"\xef\xbb\xbf").splitlines()).strip()


_LONGEST_NAME = 255  # characters, as on every file system; in an archive a name may have any length

# How a name may have been changed, the smallest change first.
_COPY = re.compile(r"( ?\(\d+\)| - copy| copy| kopie| - kopie|[-_ ]\d{1,2}| ?\[\d+\])+$")
_UPLOAD = re.compile(r"^.*_\d+_\d+_")  # Canvas: name_student_file_
_ENDINGS = "final|new|done|solved|fixed|version|ver|v|submission|edited"  # adam_final_v2.py
_OTHER = {"test", "tests", "old", "backup", "bak", "notes", "handout", "original", "solution", "conftest"}


def _rank(path: str, wanted: str) -> int | None:
    """How well a path matches a wanted one, 0 is best; None if it does not match."""
    name = PurePosixPath(wanted).name
    parts, low = path.split("/"), path.lower()
    if len(parts[-1]) > _LONGEST_NAME:
        return None
    if path == wanted:
        return 0
    if f"/{path}".endswith(f"/{wanted}"):
        return 1
    if parts[-1] == name:
        return 2
    if f"/{low}".endswith(f"/{wanted}"):
        return 3
    if parts[-1].lower() == name:
        return 4
    stem = re.sub(r"\.(py|txt)$", "", re.sub(r"\.(txt|bak)$", "", parts[-1].lower()))
    if parts[-1].lower().endswith(".ipynb"):
        written = stem.removesuffix(".ipynb").removesuffix(".py")
        return 7 if _COPY.sub("", written) == name.removesuffix(".py") else None
    if not re.search(r"\.(py|py\.txt|txt)$", parts[-1].lower()):
        return None
    own = name.removesuffix(".py")
    for each in (stem, _UPLOAD.sub("", stem)):
        if _COPY.sub("", each.removeprefix("copy of ")) == own:
            return 5
    is_other = _OTHER.intersection(re.split(r"[^a-z]+", stem))
    named = re.search(rf"(^|[^a-z]){own}([^a-z]|{_ENDINGS})*$", stem)
    return 6 if named and not is_other and low.endswith((".py", ".py.txt")) else None
