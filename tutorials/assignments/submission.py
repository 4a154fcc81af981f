"""A submission: which of its files are the ones that were asked for. It is only read, and only what is named is read.

It may be a folder, a .zip or a single .py file. A file is found at its place in the hand-out (optim/adam.py) or, since
many upload pages flatten folders, by its name alone (adam.py). Links are not followed, archives not unpacked.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from tutorials.assignments.assignment import AssignmentError

LARGEST = 1 << 20  # bytes of one file
MOST_FILES = 2000


@dataclass
class Submission:
    """files: wanted path -> content;  problems: wanted path -> why there is none."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that is graded: what `sha256sum` says of the student's own."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}


def read_submission(place: Path, wanted: Iterable[str]) -> Submission:
    """Raises AssignmentError where there is nothing to read at all."""
    submission = Submission(place.name)
    if place.is_symlink() and not place.exists():
        raise AssignmentError(f"{place} is a link that leads nowhere")
    if place.is_dir():
        present = _in_folder(place)
    elif place.suffix == ".zip" and place.is_file():
        present = _in_zip(place)
    elif place.is_file():
        present = {place.name: partial(_read_file, place)}
    else:
        raise AssignmentError(f"there is no submission at {place}: name a folder, a .zip or a .py file")
    for path in wanted:
        try:
            submission.files[path] = present[_find(path, list(present))]()
        except _Problem as problem:
            submission.problems[path] = str(problem)
    return submission


class _Problem(Exception):
    """Why a file can't be graded."""


Present = dict[str, Callable[[], bytes]]  # path in the submission -> how to read it


def _find(wanted: str, present: list[str]) -> str:
    if wanted in present:
        return wanted
    for ending in (wanted, PurePosixPath(wanted).name):
        found = [path for path in present if PurePosixPath(path).match(ending)]
        if len(found) == 1:
            return found[0]
        if found:
            raise _Problem(f"there are several files named {ending} ({', '.join(sorted(found)[:3])}): hand in one")
    others = ", ".join(sorted(present)[:5]) or "nothing"
    raise _Problem(f"there is no {PurePosixPath(wanted).name} in the submission (it has {others}): the name matters")


def _in_folder(folder: Path) -> Present:
    present: Present = {}
    for root, folders, names in os.walk(folder):  # follows no links
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for name in sorted(names):
            if len(present) >= MOST_FILES:
                return present
            path = Path(root, name)
            present[path.relative_to(folder).as_posix()] = partial(_read_file, path)
    return present


def _read_file(path: Path) -> bytes:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        raise _Problem(f"{path.name} is a link, not a file: hand in the file itself")
    if not stat.S_ISREG(state.st_mode):
        raise _Problem(f"{path.name} is not a file")
    if state.st_size > LARGEST:
        raise _Problem(f"{path.name} has {state.st_size:,} bytes, more than {LARGEST:,}")
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise _Problem(f"{path.name} can't be read: {error.strerror}") from error


def _in_zip(place: Path) -> Present:
    try:
        with zipfile.ZipFile(place) as archive:
            names = [i.filename for i in archive.infolist()[:MOST_FILES] if not i.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise AssignmentError(f"{place} can't be read as a zip archive: {error}") from error
    names = [name for name in names if not name.startswith("__MACOSX/")]
    return {name: partial(_read_member, place, name) for name in names}


def _read_member(place: Path, name: str) -> bytes:
    """At most LARGEST bytes are unpacked, whatever the archive says: it may be a bomb."""
    try:
        with zipfile.ZipFile(place) as archive:
            if stat.S_ISLNK(archive.getinfo(name).external_attr >> 16):
                raise _Problem(f"{name} is a link, not a file: hand in the file itself")
            with archive.open(name) as file:
                data = file.read(LARGEST + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise _Problem(f"{name} can't be read from the archive: {error}") from error
    if len(data) > LARGEST:
        raise _Problem(f"{name} has more than {LARGEST:,} bytes")
    return data
