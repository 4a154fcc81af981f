"""Where the four files of a data set lie: under which names, and in which of the folders that may hold them.

The names are MNIST's own, and what others have made of them: with a dot, in capitals, `test` for `t10k`, and a folder
of the file's name around it, as Kaggle packs them. torchvision puts them into MNIST/raw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from minidl.data.idx import DataError
from minidl.telling import typed

# The four files of a data set: what they hold, and how many dimensions that has.
PARTS = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npz")  # what else `python -m minidl.data` takes
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".bz2", ".xz", ".zst", ".z", ".lzma")
PREFERRED = ("MNIST", "mnist")  # of several data sets in a folder


def names_of(part: str) -> list[str]:
    """Return the file names under which one of the four PARTS goes, in the order in which they are tried."""
    rank = PARTS[part]
    return [f"{part}{mark}idx{rank}-ubyte{end}" for end in (".gz", "") for mark in "-."]


def all_names_of(part: str) -> list[str]:
    """Return those of names_of, and for `t10k` those with `test`."""
    names = names_of(part)
    return names + [name.replace("t10k", "test", 1) for name in names if part.startswith("t10k")]


def files_under(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files in `folder` that go under one of the names: as it is written, in the order of the names; then in
    other capitals; then in a folder that is called so."""
    known = [name.lower() for name in names]
    there = sorted((known.index(name.lower()), name) for name in _listed(folder) if name.lower() in known)
    loose = [folder / name for _, name in there]
    inside = [path / name for path in loose for name in sorted(_listed(path)) if name.lower() in known]
    # os.path.isfile says False where the folder may not be entered; Path.is_file raises where it names what it holds.
    exact = [folder / name for name in names if os.path.isfile(folder / name)]
    return list(dict.fromkeys([*exact, *(path for path in (*loose, *inside) if path.is_file())]))


def parts_in(folder: Path, names: Callable[[str], Sequence[str]] = all_names_of) -> dict[str, Path]:
    """Return the paths of those of the four PARTS that lie in `folder`, each under one of its names."""
    found = {part: files_under(folder, names(part)) for part in PARTS}
    return {part: paths[0] for part, paths in found.items() if paths}


def find_parts(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the paths of the four files in `folder`, or in the one folder below it that holds all four.

    Raises DataError that names what is missing, or the folders among which to choose.
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
    """The folder below, raw, X or X/raw, that holds four files; `folder` itself where there is none.

    Raises DataError where there are several, and MNIST is none of them.
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
    """What to do with tables and pictures, for messages."""
    return f"make IDX files of it, python -m minidl.data {typed(str(place))} OUT"


def _meant(folder: Path, part: str) -> str:
    """Which file may be meant for a part that is missing, and what to do about its name; "" where none is."""
    names = [name for name in sorted(_listed(folder)) if not name.startswith(".")]
    packed = [name for name in names if name.lower().endswith(ARCHIVES)]
    if packed:
        return f"; unpack {packed[0]}, it may be in there"
    split, what = part.split("-")
    splits = (split, "test") if split == "t10k" else (split,)
    near = [name for name in names if what in name.lower() and any(word in name.lower() for word in splits)]
    near = [name for name in near if (folder / name).is_file()]
    return f"; if {near[0]} is it, rename it {names_of(part)[0]}" if near else ""


def _other_kind(folder: Path) -> str:
    """What `python -m minidl.data` can make a data set of, if it is that."""
    names = sorted(_listed(folder))
    if any(name.lower().endswith(TABLES) for name in names):
        return "a table, a CSV file or an archive of arrays"
    below = [folder / name for name in names if not name.startswith(".")]
    deeper = [path / name for path in below for name in sorted(_listed(path))[:20]]
    some = (name for path in (*below, *deeper) for name in list(_listed(path))[:20])
    return "folders of pictures" if any(name.lower().endswith(PICTURES) for name in some) else ""


def _listed(folder: Path) -> Iterable[str]:
    """The names in a folder; none where it can't be read, or is none."""
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
            raise DataError(f"{folder} is a table: {_to_idx(folder)}")
        if folder.exists():
            raise DataError(
                f"there is no folder {folder} (that is a file): give the folder that holds the four IDX files; what is "
                f"to be done with another file is said by python -m minidl.data {typed(str(folder))} OUT"
            )
        raise DataError(f"there is no folder {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"the folder {folder} may not be read: permission denied")


def _is_hidden(path: Path) -> bool:
    """Whether it lies in a folder that may not be entered, so that its existence can't be checked."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        pass
    return False
