"""Which images in a folder are of which class: one subfolder per class, perhaps below `train` and `test`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from minidl.data.idx import DataError
from minidl.telling import counted

PARTED = {"train": "train", "training": "train", "test": "test", "testing": "test"}  # folders that split the images
CHOOSING = ("val", "valid", "validation", "dev", "eval", "evaluation")  # a third split, which minidl draws itself
MOST_PARTS = 4  # the most splits of a data set: more folders than that are classes
# What operating systems leave in folders, besides hidden files; @eaDir is Synology's, with thumbnails.
JUNK = ("thumbs.db", "desktop.ini", "icon\r", "@eadir", "lost+found", "$recycle.bin", "system volume information")
LISTED = 5  # files that are named before "and so many more"


@dataclass
class Found:
    """The images in a folder: for each class, the training files and, where folders split them, the test files."""

    classes: list[str]
    train: list[list[Path]]
    test: list[list[Path]] | None
    notes: list[str] = field(default_factory=list)


def find_pictures(folder: Path) -> Found:
    """The files below each subfolder, in natural order: 2 before 10. Hidden files are skipped.

    A folder with `train` and `test` in it is already split; `valid` stands in for a missing `test`. If there is nothing
    but one folder, its subfolders are used. Raises DataError where there are fewer than two classes.
    """
    if not folder.is_dir():
        what = f"there is no folder {folder} (that is a file)" if folder.exists() else f"there is no {folder}"
        raise DataError(f"{what}: give a folder of images, a CSV file or an .npz file")
    inner = _inner(folder)
    notes = [f"the classes are the folders in {inner.name}"] if inner != folder else []
    folder, below = inner, folders_in(inner)
    found = _parted(below) or Found(list(below), [_files(path) for path in below.values()], None)
    found.notes[:0] = notes
    if loose := loose_files(folder):
        found.notes.append(f"skipped, because they are not in a class folder: {listed(loose)}")
    _check_classes(folder, found.classes)
    for name, files in zip(found.classes, found.train, strict=True):
        if not files:
            raise DataError(f"the class {name} has no images: add some, or remove that folder")
    return found


def _inner(folder: Path) -> Path:
    """The innermost folder, while there is nothing but one folder of folders in it, as archives are extracted."""
    while len(below := list(folders_in(folder).values())) == 1 and not loose_files(folder) and folders_in(below[0]):
        folder = below[0]
    return folder


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    if (n := len(classes)) < 2:
        raise DataError(
            f"{folder} has {counted(n, 'folder')} in it: two or more are needed, one per class, as in "
            f"{folder / 'cat' / '1.png'} and {folder / 'dog' / '1.png'}"
        )


def _parted(below: dict[str, Path]) -> Found | None:
    """The splits, where the folders are splits; None where they are classes."""
    kinds = {name: re.sub(r"[-_ ]?set$", "", name.lower()) for name in below}  # training_set, TestSet
    named = {PARTED[kinds[name]]: name for name in below if kinds[name] in PARTED}
    choosing = [name for name in below if kinds[name] in CHOOSING]
    notes = []
    if "train" in named and "test" not in named and len(choosing) == 1:
        named["test"] = choosing[0]
        notes = [f"there is no folder test: the images in {choosing[0]} are used for testing"]
    if set(named) != {"train", "test"}:
        _check_no_parts(below)
        return None
    parted = {part: _inner(below[name]) for part, name in named.items()}
    classes = folders_in(parted["train"])
    _check_classes(parted["train"], list(classes))
    if not folders_in(parted["test"]) and loose_files(parted["test"]):
        raise DataError(
            f"the images in {parted['test']} are not in class folders: sort them into folders as in train, or move "
            "that folder away to have a fraction of each class set aside for testing"
        )
    found = _of_parts(classes, folders_in(parted["test"]))
    unused = sorted(set(below) - set(named.values()))
    found.notes = [*notes, *(f"skipped: the folder {name} beside train and test" for name in unused)]
    return found


def _check_no_parts(below: dict[str, Path]) -> None:
    """Raise DataError where a few folders hold subfolders of the same names: those are probably the classes."""
    inside = [list(folders_in(path)) for path in below.values()]
    if 2 <= len(inside) <= MOST_PARTS and len(inside[0]) >= 2 and all(names == inside[0] for names in inside):
        *most, last = below
        raise DataError(
            f"{', '.join(most)} and {last} hold the same folders {listed(inside[0])}: rename them train and test; if "
            "they are classes, move the images out of their subfolders"
        )


def _of_parts(train: dict[str, Path], test: dict[str, Path]) -> Found:
    for name in test:
        if name not in train:
            raise DataError(f"the class {name} is in the folder test, but not in train")
    parts = [[_files(part[name]) if name in part else [] for name in train] for part in (train, test)]
    return Found(list(train), parts[0], parts[1])


def loose_files(folder: Path) -> list[str]:
    """The names of the files in the folder itself."""
    return sorted(path.name for path in folder.iterdir() if not (path.is_dir() or _is_junk(path.name)))


def folders_in(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, in natural order. A name is the same however its accents are coded: macOS may
    write an é in two characters."""
    below = [path for path in folder.iterdir() if path.is_dir() and not _is_junk(path.name)]
    below.sort(key=lambda path: natural(path.name))
    named = {normalize("NFC", path.name): path for path in below}
    return named if len(named) == len(below) else {path.name: path for path in below}


def _files(folder: Path) -> list[Path]:
    files = []
    for top, below, names in os.walk(folder, onerror=_fail):
        linked = [name for name in below if os.path.islink(os.path.join(top, name))]  # not followed, but reported
        files += [Path(top, name) for name in names + linked]
    shown = (path for path in files if not any(_is_junk(part) for part in path.relative_to(folder).parts))
    return sorted(shown, key=lambda path: natural(path.as_posix()))  # one order on all systems


def _fail(error: OSError) -> None:
    raise error  # else the images in an unreadable folder would be missed silently


def _is_junk(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in JUNK


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: numbers in a name by value; ties, such as 1 and 01, by the name."""
    parts = re.split(r"([0-9]+)", normalize("NFC", name))
    return [*((int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts), (-1, name)]


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
