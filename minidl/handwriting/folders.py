"""Which pictures of a folder are of which class: a subfolder each, perhaps below `train` and `test`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minidl.data.idx import DataError
from minidl.telling import counted

PARTED = {"train": "train", "training": "train", "test": "test", "testing": "test"}  # folders that part the pictures
CHOOSING = ("val", "valid", "validation", "dev", "eval", "evaluation")  # a third part, which minidl draws itself
MOST_PARTS = 4  # that anybody makes of a data set: more folders than that are classes
# What systems leave in folders, beside hidden files; @eaDir is a Synology's, with small copies of the pictures.
JUNK = ("thumbs.db", "desktop.ini", "icon\r", "@eadir", "lost+found", "$recycle.bin", "system volume information")
LISTED = 5  # files that are named before "and so many more"


@dataclass
class Found:
    """The pictures of a folder: for each class, the files to learn from and, where folders say so, to be tested on."""

    classes: list[str]
    train: list[list[Path]]
    test: list[list[Path]] | None
    notes: list[str] = field(default_factory=list)


def find_pictures(folder: Path) -> Found:
    """The files below each subfolder, in natural order: 2 before 10. Hidden ones are left out.

    A folder with `train` and `test` in it is parted already; `valid` stands in for a `test` that is not there. Where
    there is nothing but one folder, its folders are meant. Raises DataError where there are fewer than two classes.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}" + (" (that is a file)" if folder.exists() else ""))
    inner = _inner(folder)
    notes = [f"the classes are the folders in {inner.name}"] if inner != folder else []
    folder, below = inner, folders_in(inner)
    found = _parted(below) or Found(list(below), [_files(path) for path in below.values()], None)
    found.notes[:0] = notes
    if loose := loose_files(folder):
        found.notes.append(f"left out, for they lie in no class's folder: {listed(loose)}")
    _check_classes(folder, found.classes)
    for name, files in zip(found.classes, found.train, strict=True):
        if not files:
            raise DataError(f"the class {name} has no picture in it: put some there, or remove that folder")
    return found


def _inner(folder: Path) -> Path:
    """The folder that is meant where there is nothing but one folder of folders in it, as archives unpack."""
    while len(below := list(folders_in(folder).values())) == 1 and not loose_files(folder) and folders_in(below[0]):
        folder = below[0]
    return folder


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    if (n := len(classes)) < 2:
        raise DataError(
            f"{folder} has {counted(n, 'folder')} in it: two or more are needed, one for each class, as in "
            f"{folder / 'cat' / '1.png'} and {folder / 'dog' / '1.png'}"
        )


def _parted(below: dict[str, Path]) -> Found | None:
    """The parts where folders make them; None where they are classes."""
    kinds = {name: re.sub(r"[-_ ]?set$", "", name.lower()) for name in below}  # training_set, TestSet
    named = {PARTED[kinds[name]]: name for name in below if kinds[name] in PARTED}
    choosing = [name for name in below if kinds[name] in CHOOSING]
    notes = []
    if "train" in named and "test" not in named and len(choosing) == 1:
        named["test"] = choosing[0]
        notes = [f"there is no folder test: the pictures in {choosing[0]} are the test pictures"]
    if set(named) != {"train", "test"}:
        _check_no_parts(below)
        return None
    parted = {part: _inner(below[name]) for part, name in named.items()}
    classes = folders_in(parted["train"])
    _check_classes(parted["train"], list(classes))
    if not folders_in(parted["test"]) and loose_files(parted["test"]):
        raise DataError(
            f"the pictures in {parted['test']} lie in no class's folder: sort them into folders as in train, or move "
            "that folder away, and a share of each class is set aside for testing"
        )
    found = _of_parts(classes, folders_in(parted["test"]))
    unused = sorted(set(below) - set(named.values()))
    found.notes = [*notes, *(f"left out: the folder {name} beside train and test" for name in unused)]
    return found


def _check_no_parts(below: dict[str, Path]) -> None:
    """Raise DataError where a few folders hold folders of the same names: those are the classes, in all likelihood."""
    inside = [list(folders_in(path)) for path in below.values()]
    if 2 <= len(inside) <= MOST_PARTS and len(inside[0]) >= 2 and all(names == inside[0] for names in inside):
        *most, last = below
        raise DataError(
            f"{', '.join(most)} and {last} hold the same folders {listed(inside[0])}: call them train and test; where "
            "they are classes all the same, take the pictures out of the folders in them"
        )


def _of_parts(train: dict[str, Path], test: dict[str, Path]) -> Found:
    for name in test:
        if name not in train:
            raise DataError(f"the class {name} is in the folder test, but not in train, to be learned from")
    parts = [[_files(part[name]) if name in part else [] for name in train] for part in (train, test)]
    return Found(list(train), parts[0], parts[1])


def loose_files(folder: Path) -> list[str]:
    """The names of the files that lie in the folder itself."""
    return sorted(path.name for path in folder.iterdir() if not (path.is_dir() or _is_junk(path.name)))


def folders_in(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, in natural order."""
    below = [path for path in folder.iterdir() if path.is_dir() and not _is_junk(path.name)]
    return {path.name: path for path in sorted(below, key=lambda path: natural(path.name))}


def _files(folder: Path) -> list[Path]:
    files = []
    for top, below, names in os.walk(folder, onerror=_fail):
        linked = [name for name in below if os.path.islink(os.path.join(top, name))]  # not followed, so they are said
        files += [Path(top, name) for name in names + linked]
    shown = (path for path in files if not any(_is_junk(part) for part in path.relative_to(folder).parts))
    return sorted(shown, key=lambda path: natural(path.as_posix()))  # one order on all systems


def _fail(error: OSError) -> None:
    raise error  # else the pictures in a folder that may not be read go unsaid


def _is_junk(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in JUNK


def natural(name: str) -> list[tuple[int, str]]:
    """For sorting: numbers in a name by their value, and of two that are alike so, 1 and 01, always the same first."""
    parts = re.split(r"([0-9]+)", name)
    return [*((int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts), (-1, name)]


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
