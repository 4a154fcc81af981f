"""Data sets by name, besides MNIST itself: finding their files, verifying them, correcting their quirks.

They are looked for in a folder or zip that the user names, then in the cache, then on the mirrors (see known.py). A
`.gz` file must have the published hash. An uncompressed file can't be verified; the note says so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset, check_namesakes, make_dataset
from minidl.data.download import Patience, fetch, is_packed, md5_of, read_verified
from minidl.data.idx import DataError, idx_sha256
from minidl.data.known import EMNIST_ZIP, KNOWN, MNIST, Known
from minidl.data.layout import PARTS, check_folder, parts_in


def load_known(
    known: Known, place: str | None, only: bool, cache: Callable[[], Path], download: bool, patience: Patience
) -> Dataset:
    """Load a data set by name.

    place  a folder or a zip that may hold it, alone or among others.
    only   look nowhere else.
    cache  returns the folder for downloads; this data set has its own subfolder.

    Raises DataError that says where it was looked for.
    """
    if place is not None:
        dataset = look_in(known, place, sure=only)
        if dataset is not None:
            return dataset
        if only:
            raise DataError(f"{known.name} is not in {place}: {_looked_for(known)}")
    folder = cache() / known.name
    for there in (folder, cache() / "emnist"):
        dataset = look_in(known, os.fspath(there)) if there.is_dir() else None
        if dataset is not None:
            return dataset
    if known.mirrors and download:
        return _fetched(known, folder, patience)
    raise DataError(_by_hand(known, place, folder))


def look_in(known: Known, place: str | os.PathLike[str], sure: bool = False) -> Dataset | None:
    """Load it from a folder or a zip; None where it is not there. Raises DataError where its files are damaged.

    sure  whether files under MNIST's names in the folder are known to be this data set's, not another's.
    """
    path = Path(place)
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is neither a folder nor a zip file")
        return _from_zip(known, path)
    check_folder(path)
    for folder in [path, *(path / below for below in known.folders)]:
        parts = parts_in(folder, known.names)
        whole = len(parts) == len(PARTS)
        if whole and not (folder == path and not known.prefix and _are_others(known, path, parts, sure)):
            return _read(known, f"folder {folder}", parts)
        if known.prefix and parts:
            missing = ", ".join(known.names(part)[0] for part in PARTS if part not in parts)
            raise DataError(f"folder {folder} holds only a part of {known.name}: it lacks {missing}")
    zips = (_from_zip(known, each) for each in sorted(path.glob("[!.]*.zip")))  # ._X.zip is macOS's note on X.zip
    return next((dataset for dataset in zips if dataset is not None), None)


def held_in(place: Path) -> list[Known]:
    """The data sets that a folder or a zip holds under names that no other data set has."""
    return [known for known in KNOWN.values() if known.prefix and _is_there(known, place)]


def _is_there(known: Known, place: Path) -> bool:
    if place.is_file():
        return zipfile.is_zipfile(place) and len(_members(known, place)) == len(PARTS)
    folders = (place, *(place / below for below in known.folders))
    return any(len(parts_in(folder, known.names)) == len(PARTS) for folder in folders)


def _are_others(known: Known, folder: Path, parts: Mapping[str, Path], sure: bool) -> bool:
    """Whether files under MNIST's names are another data set's. Uncompressed files can't be recognized by a hash, so
    the folder's name decides, such as FashionMNIST/raw; then, unless the user is sure, the labels."""
    place = folder.absolute().as_posix().lower()
    theirs = (name for other in KNOWN.values() if other is not known for name in other.folders)
    if any(place.endswith(f"/{name.lower()}") for name in theirs) and not all(map(is_packed, parts.values())):
        return True
    try:
        labels = None if sure else read_verified(parts["train-labels"], known.files["train-labels"])
    except DataError:
        return True
    return labels is not None and idx_sha256(labels) == MNIST["train-labels"].sha256


def recognized(parts: Mapping[str, Path]) -> Known | None:
    """The known data set whose published files these are, under MNIST's names; None where there is none."""
    labels = md5_of(parts["train-labels"])
    known = next((known for known in KNOWN.values() if known.files["train-labels"].md5 == labels), None)
    if known is None or any(md5_of(parts[part]) != file.md5 for part, file in known.files.items()):
        return None
    return known


# ---- zip files ----


def _members(known: Known, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The four files in a zip, in any of its folders."""
    try:
        with zipfile.ZipFile(path) as packed:
            infos = [info for info in packed.infolist() if not info.is_dir()]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is damaged: it can't be opened as a zip file ({error}); get it again") from error
    there = {PurePosixPath(info.filename).name.lower(): info for info in infos}
    found = {}
    for part in PARTS:
        name = next((name for name in known.names(part) if name.lower() in there), None)
        if name is not None:
            found[part] = there[name.lower()]
    return found


def _from_zip(known: Known, path: Path) -> Dataset | None:
    if not known.prefix:
        return None  # MNIST's names: they do not tell which data set it is
    members = _members(known, path)
    if len(members) < len(PARTS):
        return None
    with _unpacked(path, members) as parts:
        return _read(known, f"zip {path}", parts)


@contextmanager
def _unpacked(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> Iterator[dict[str, Path]]:
    """The members as files, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="minidl-") as folder, zipfile.ZipFile(path) as packed:
        parts = {}
        for part, info in members.items():
            parts[part] = Path(folder, PurePosixPath(info.filename).name)
            try:
                with packed.open(info) as source, open(parts[part], "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
                raise DataError(f"{path} is damaged: {info.filename} can't be extracted ({error})") from error
        yield parts


# ---- reading ----


def _read(known: Known, source: str, parts: Mapping[str, Path]) -> Dataset:
    """Read and verify the four files."""
    arrays = [read_verified(parts[part], file) for part, file in known.files.items()]
    if not known.prefix and idx_sha256(arrays[1]) == MNIST["train-labels"].sha256:
        raise DataError(f"{source} holds MNIST itself, not {known.name}")
    plain = []
    for part, array in zip(PARTS, arrays, strict=True):
        if not is_packed(parts[part]):  # else its hash has verified it
            check_namesakes(parts[part], array, known.names(part))
            plain.append(parts[part].name)
    note = ""
    if plain:
        note = f"{known.name} is not verified: the published hashes are of the .gz files, {plain[0]} is uncompressed"
    return _put_right(known, source, arrays, note)


def _fetched(known: Known, folder: Path, patience: Patience) -> Dataset:
    arrays, mirrors = [], known.mirrors
    for file in known.files.values():
        array, mirror = fetch(file, folder, mirrors, patience, known.name)
        mirrors = (mirror, *(other for other in mirrors if other != mirror))  # the one that worked goes first
        arrays.append(array)
    return _put_right(known, f"downloaded from {mirrors[0]}", arrays)


def _put_right(known: Known, source: str, arrays: Sequence[NDArray[Any]], note: str = "") -> Dataset:
    """The Dataset of four arrays as read from the files, with images upright and labels from 0."""
    train, test = _labels(known, [arrays[1], arrays[3]])
    right = [_upright(known, arrays[0]), train, _upright(known, arrays[2]), test]
    dataset = make_dataset(known.name, source, right, note)
    if dataset.classes > len(known.class_names):
        raise DataError(
            f"{source}: {known.name} has {len(known.class_names)} classes, the labels say {dataset.classes}"
        )
    return replace(dataset, classes=len(known.class_names), class_names=known.class_names)


def _upright(known: Known, images: NDArray[Any]) -> NDArray[Any]:
    if not known.transposed or images.ndim != 3:
        return images
    return np.ascontiguousarray(images.transpose(0, 2, 1))


def _labels(known: Known, both: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The training and the test labels. Of QMNIST's eight numbers the first is the class."""
    columns = [labels[:, 0] if labels.ndim == 2 else labels for labels in both]
    if all(labels.size and labels.min() >= known.first_label for labels in columns):
        columns = [labels - known.first_label for labels in columns]
    fit = all(labels.ndim == 1 and labels.size and labels.min() >= 0 and labels.max() < 256 for labels in columns)
    return [labels.astype(np.uint8) if fit else labels for labels in columns]


# ---- words ----


def _looked_for(known: Known) -> str:
    name, below = known.files["train-images"].name, ", ".join(known.folders[:3])
    return f"{name}, compressed or not, was looked for there and in its subfolders {below}"


def _by_hand(known: Known, place: str | None, folder: Path) -> str:
    where = f"in {place} or in " if place else "in "
    if known.mirrors:
        return f"{known.name} is not {where}{folder}, and downloading is switched off: set MINIDL_DATA to its folder"
    return (
        f"{known.name} is not {where}{folder}, and it is not downloaded automatically: get {EMNIST_ZIP} (556 MB), and "
        "set MINIDL_DATA to that file or its folder"
    )
