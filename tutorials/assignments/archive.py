"""The files in a submission: a folder or an archive, and the archives inside it. Nothing is extracted to disk.

Each file is listed with its path, and read only on request, up to a limit: an archive may be a bomb. Links are not
followed. What is skipped (a virtual environment, an editor's folders) is listed too, with the reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from tutorials.assignments.notebook import code_of
from tutorials.assignments.said import plain
from tutorials.assignments.unpack import (
    LARGEST_ARCHIVE,
    MOST_FILES,
    Member,
    Problem,
    is_archive,
    members_in,
    members_of,
)

__all__ = ["LARGEST", "LARGEST_ARCHIVE", "Found", "Problem", "collected", "look"]

LARGEST = 1 << 20  # bytes of one file
MOST_ARCHIVES = 256 << 20  # bytes of all archives inside another
LONGEST_PATH = 1000  # characters
DEEPEST = 3  # archives in archives

_JUNK = {".ds_store", "thumbs.db", "desktop.ini"}  # files that macOS and Windows leave in folders
_NOT_LOOKED_AT = {
    "__macosx": "macOS metadata", "__pycache__": "compiled files", "node_modules": "installed packages",
    "site-packages": "installed packages", "dist-packages": "installed packages",
}  # fmt: skip


@dataclass
class Found:
    """files: path -> how to read it, which may raise Problem;  skipped: file or folder -> why it is skipped."""

    files: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    archives: int = 0  # bytes of nested archives read so far


def look(place: Path) -> Found:
    """The files in a folder or an archive, or a single file. Raises Problem if it is an archive that can't be read."""
    members = _folder(place) if place.is_dir() else members_of(place)
    return collected([(place.name, partial(_read_at_most, place))] if members is None else members)


def collected(members: Iterable[Member]) -> Found:
    """The files among these members and in the archives among them."""
    found = Found()
    _collect(found, members, "", 0)
    return found


def _collect(found: Found, members: Iterable[Member], prefix: str, depth: int) -> None:
    """Add the members to `found`; archives among them are opened.

    If an archive contains a name twice, the last one counts, as when it is extracted, and a row says so.
    """
    listed = [(plain(path.replace("\\", "/").replace("\n", "?")).strip("/"), read) for path, read in members]
    environments = {str(PurePosixPath(path).parent) for path, _ in listed if path.endswith("pyvenv.cfg")} - {"."}
    for path, read in listed:
        if len(path) > LONGEST_PATH:
            found.skipped[f"{prefix}{path[:60]}..."] = f"a path of more than {LONGEST_PATH:,} characters"
            continue
        if len(found.files) >= MOST_FILES:
            found.skipped["more"] = f"there are more than {MOST_FILES:,} files"
            return
        name, left_out = PurePosixPath(path).name, _left_out(path, environments)
        if left_out:
            found.skipped[prefix + left_out[0]] = left_out[1]
        elif isinstance(read, partial) and read.func is _no_folder:
            found.skipped[f"{prefix}{path}/"] = "a link to a folder, which is not followed"
        elif name.lower() in _JUNK or name.startswith("._"):
            continue
        elif is_archive(name):
            try:
                _look_into(found, prefix + path, read, depth + 1)
            except Problem as problem:
                found.skipped[prefix + path] = str(problem)
        else:
            if prefix + path in found.files:
                found.skipped[f"{prefix}{path}, first copy"] = "the archive has it twice: the last one counts"
            reading = code_of if name.lower().endswith(".ipynb") else _limited
            found.files[prefix + path] = partial(reading, name, read)


def _look_into(found: Found, path: str, read: Callable[[int], bytes], depth: int) -> None:
    if depth > DEEPEST:
        raise Problem("archives are nested too deeply: hand in the files themselves")

    def counted(most: int) -> bytes:
        data = read(most)
        found.archives += len(data)
        if found.archives > MOST_ARCHIVES:
            raise Problem(f"archives of more than {MOST_ARCHIVES >> 20} MB in all")
        return data

    members = members_in((path, counted))
    if members is None:
        raise Problem("not an archive, despite its name")
    _collect(found, members, f"{path}/", depth)


def _left_out(path: str, environments: set[str]) -> tuple[str, str] | None:
    """The skipped folder that a path is in, and why it is skipped; None if there is none."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        folder = "/".join(parts[: i + 1])
        if folder in environments:
            return f"{folder}/", "a virtual environment"
        if part.lower() in _NOT_LOOKED_AT:
            return f"{folder}/", _NOT_LOOKED_AT[part.lower()]
        if part.startswith(".") and part not in (".", ".."):
            return f"{folder}/", "a hidden folder"
    return None


def _limited(name: str, read: Callable[[int], bytes]) -> bytes:
    data = read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Problem(f"{name} has more than {LARGEST:,} bytes")
    return data


# ---- a folder ----


def _folder(folder: Path) -> Iterator[Member]:
    for root, folders, names in os.walk(folder):  # follows no links
        inside = Path(root).relative_to(folder)
        if "pyvenv.cfg" in names and root != str(folder):
            folders[:], names = [], ["pyvenv.cfg"]
        for name in [f for f in folders if f.startswith(".") or f.lower() in _NOT_LOOKED_AT]:
            folders.remove(name)
            yield (inside / name / "...").as_posix(), lambda most: b""
        for name in [f for f in folders if Path(root, f).is_symlink()]:
            yield (inside / name).as_posix(), partial(_no_folder, name)
        folders.sort()
        for name in sorted(names):
            yield (inside / name).as_posix(), partial(_read_at_most, Path(root, name))


def _no_folder(name: str, most: int) -> bytes:
    raise Problem(f"{name} is a link to a folder")


def _read_at_most(path: Path, most: int) -> bytes:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        raise Problem(f"{path.name} is a link, not a file: hand in the file itself")
    if not stat.S_ISREG(state.st_mode):
        raise Problem(f"{path.name} is not a file")
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read(most)
    except OSError as error:
        raise Problem(f"{path.name} can't be read: {error.strerror}") from error
