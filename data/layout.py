"""Where the four files of a data set are: under which names, and in which of the possible folders.

The names are MNIST's own and their variants: with a dot, in capitals, with `test` for `t10k`, or inside a folder of the
same name, as in Kaggle's archive. torchvision puts them into MNIST/raw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISREG

from minidl.data.idx import DataError
from minidl.telling import typed

# The four files of a data set: what they hold, and its number of dimensions.
PARTS = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npz")  # other inputs that `python -m minidl.data` takes
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".z", ".lzma")
PREFERRED = ("MNIST", "mnist")  # if a folder holds several data sets


def names_of(part: str) -> list[str]:
    """Return the possible file names of one of the four PARTS, in the order in which they are tried."""
    rank = PARTS[part]
    return [f"{part}{mark}idx{rank}-ubyte{end}" for end in (".gz", "") for mark in "-."]


def all_names_of(part: str) -> list[str]:
    """Return the names from names_of, and for `t10k` also those with `test`."""
    names = names_of(part)
    return names + [name.replace("t10k", "test", 1) for name in names if part.startswith("t10k")]


def files_under(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files in `folder` with one of the names: exact matches, in the order of the names; then matches that
    differ in case; then matches inside a folder of such a name."""
    known = [name.lower() for name in names]
    there = sorted((known.index(name.lower()), name) for name in _listed(folder) if name.lower() in known)
    loose = [folder / name for _, name in there]
    inside = [path / name for path in loose for name in sorted(_listed(path)) if name.lower() in known]
    exact = [folder / name for name in names if os.path.isfile(folder / name)]
    return list(dict.fromkeys([*exact, *(path for path in (*loose, *inside) if _is_file(path))]))


def _is_file(path: Path) -> bool:
    """Whether a path that was listed is a file. Raises PermissionError where its folder may be listed but not entered;
    since Python 3.14 Path.is_file is False there, and the file would be told to be missing."""
    try:
        return S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, ELOOP):  # a link to nothing
            return False
        raise


def parts_in(folder: Path, names: Callable[[str], Sequence[str]] = all_names_of) -> dict[str, Path]:
    """Return the paths of those of the four PARTS that are in `folder`, each under one of its names."""
    found = {part: files_under(folder, names(part)) for part in PARTS}
    return {part: paths[0] for part, paths in found.items() if paths}


def find_parts(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the paths of the four files in `folder`, or in the one folder below it that holds all four.

    Raises DataError that names what is missing, or the folders to choose from.
    """
    folder = Path(folder)
    check_folder(folder)
    found = parts_in(folder)
    if not found:
        found = parts_in(_below(folder))
    missing = [part for part in PARTS if part not in found]
    if missing:
        if not found and (other := _other_kind(folder)):
            raise DataError(f"folder {folder} holds {other}: {_to_idx(folder)}")
        looked_for = " or ".join(names_of(missing[0]))
        raise DataError(
            f"folder {folder} lacks {', '.join(missing)} (a data set is four IDX files; "
            f"{missing[0]} was looked for as {looked_for}){_meant(folder, missing[0])}"
        )
    return found


def _below(folder: Path) -> Path:
    """The subfolder, raw, X or X/raw, that holds four files; `folder` itself where there is none.

    Raises DataError where there are several, and none of them is MNIST.
    """
    names = sorted(_listed(folder))
    below = [folder / "raw", *(folder / name / more for name in names for more in (".", "raw"))]
    whole = list(dict.fromkeys(path for path in below if len(parts_in(path)) == len(PARTS)))
    first = [path for path in whole if path.relative_to(folder).parts[0] in PREFERRED]
    if len(whole) > 1 and len(first) != 1:
        listed = ", ".join(map(str, whole))
        raise DataError(f"folder {folder} holds several data sets: name one of {listed}")
    return next(iter(first or whole), folder)


def _to_idx(place: str | os.PathLike[str]) -> str:
    """What to do with CSV files, archives and images, for messages."""
    return f"convert it to IDX files, python -m minidl.data {typed(str(place))} OUT"


def _meant(folder: Path, part: str) -> str:
    """Which file may be the missing part, and how to rename it; "" where there is none."""
    names = [name for name in sorted(_listed(folder)) if not name.startswith(".")]
    packed = [name for name in names if name.lower().endswith(ARCHIVES)]
    if packed:
        return f"; extract {packed[0]}, it may be in there"
    split, what = part.split("-")
    splits = (split, "test") if split == "t10k" else (split,)
    near = [name for name in names if what in name.lower() and any(word in name.lower() for word in splits)]
    near = [name for name in near if (folder / name).is_file()]
    return f"; if {near[0]} is it, rename it {names_of(part)[0]}" if near else ""


def _other_kind(folder: Path) -> str:
    """What the folder holds, if `python -m minidl.data` can make a data set of it."""
    names = sorted(_listed(folder))
    if any(name.lower().endswith(TABLES) for name in names):
        return "a CSV file or a NumPy archive"
    below = [folder / name for name in names if not name.startswith(".")]
    deeper = [path / name for path in below for name in sorted(_listed(path))[:20]]
    some = (name for path in (*below, *deeper) for name in list(_listed(path))[:20])
    return "folders of images" if any(name.lower().endswith(PICTURES) for name in some) else ""


def _listed(folder: Path) -> Iterable[str]:
    """The names in a folder; none where it can't be read, or is not a folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def check_folder(folder: Path) -> None:
    """Raise DataError where there is no folder of this name, or it may not be read."""
    if not os.path.isdir(folder):
        if _is_hidden(folder):
            raise DataError(f"the folder {folder} may not be read: permission denied")
        if folder.name.lower().endswith(TABLES) and folder.exists():
            raise DataError(f"{folder} is a CSV or NumPy file: {_to_idx(folder)}")
        if folder.exists():
            raise DataError(
                f"there is no folder {folder} (that is a file): give the folder that holds the four IDX files; for "
                f"another kind of file, try python -m minidl.data {typed(str(folder))} OUT"
            )
        raise DataError(f"there is no folder {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"the folder {folder} may not be read: permission denied")


def _is_hidden(path: Path) -> bool:
    """Whether it is in a folder without permission to enter, so that its existence can't be checked."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        pass
    return False
