"""Images in one file: a CSV file like Kaggle's MNIST, with a label and the pixels of one image per row, or a NumPy
archive."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minidl.backend import Array
from minidl.data.foreign import foreign_format
from minidl.data.idx import DataError
from minidl.data.known import EMNIST
from minidl.data.layout import PICTURES, TABLES
from minidl.data.pictures import FAINT, read_head, starts_as_picture
from minidl.handwriting.arrays import labels_beside, read_arrays
from minidl.handwriting.collect import Collected, class_split
from minidl.handwriting.columns import read_columns
from minidl.handwriting.folders import LISTED, folders_in, listed, loose_files
from minidl.handwriting.look import is_idx

HEAD = 1024  # bytes by which a file is recognized; a TAR archive has its mark at byte 257

Part: TypeAlias = "tuple[Array | None, Array]"  # labels (N,), None where there are none, and images (N, H, W)


def tables_in(place: Path) -> dict[str, Path] | None:
    """The CSV files or archives for training, and perhaps for testing, {"train": ..., "test": ...}: one file, or those
    in a folder without class folders. None where there are none. Raises DataError where a file is something else, or it
    is not clear which one to use.
    """
    if place.is_file():
        check_table(place)
        return {"train": place}
    if not place.is_dir() or len(folders_in(place)) > 1:
        return None
    found = [name for name in loose_files(place) if name.lower().endswith(TABLES) and (place / name).is_file()]
    beside = {labels_beside(place / name) for name in found}  # read with their images
    found = [name for name in found if place / name not in beside]
    if not found:
        if not folders_in(place):
            _check_others(place)
        return None
    test = [name for name in found if "test" in name.lower()]
    train = [name for name in found if name not in test and (len(found) == 1 or "train" in name.lower())]
    if len(train) != 1 or len(test) > 1:
        first = (train or found)[0]
        raise DataError(f"{place} holds {', '.join(found)}: give the one to train on, as in {place / first}")
    return {"train": place / train[0]} | ({"test": place / test[0]} if test else {})


def _check_others(folder: Path) -> None:
    """Raise DataError, which says what to do, where a folder has only files of another kind, such as CIFAR's."""
    for name in loose_files(folder)[:LISTED]:
        if not name.lower().endswith(PICTURES) and (folder / name).is_file() and (folder / name).stat().st_size:
            check_table(folder / name)


def check_table(path: Path) -> None:
    """Raise DataError, which says what to do, for a file that is something else."""
    head = read_head(path, HEAD)
    if is_archive(path, head):
        return
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(31).decompress(head)  # 31: with gzip's header
        except zlib.error as error:
            raise DataError(f"{path} can't be decompressed: {error}") from None
    if starts_as_picture(head):
        raise DataError(f"{path} is one image: give the folder that holds a folder of images for each class")
    if is_idx(str(path), head) and not path.name.lower().endswith(TABLES):
        raise DataError(f"{path} is already an IDX file: train with --dataset {path.parent}, the folder of all four")
    if other := foreign_format(str(path), head):
        raise DataError(f"{path} is {other[0]}, not a CSV file: {other[1]}")
    if b"\0" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is not a CSV file: save it as CSV, or its arrays with minidl.data.write_idx")


def is_archive(path: Path, head: bytes) -> bool:
    """Whether it is a NumPy archive: a zip with that extension."""
    return head.startswith(b"PK\x03\x04") and path.suffix.lower() == ".npz"


def collect_tables(tables: dict[str, Path], test_share: float = 0.2, seed: int = 0) -> Collected:
    """Read the CSV files or archives. Where there is none for testing, or it has no labels, a fraction of each class is
    set aside by `seed`. Raises DataError where a file is not as it must be."""
    notes: list[str] = []
    train, test = _parts(tables, notes)
    if train[0] is None:
        raise DataError(f"{tables['train']} has no labels, only pixels: it can't be used for training")
    if test is not None and test[0] is None:
        notes.append(f"skipped: {tables['test'].name} has no labels, so it can't be used for testing")
        test = None
    known = _of_emnist(tables["train"], [part[0] for part in (train, test) if part and part[0] is not None], notes)
    white = _white(train[1], notes)
    labels, images = _as_bytes(tables["train"], train, white)
    classes = int(labels.max()) + 1
    names = list(known[:classes]) if classes <= len(known) else [str(k) for k in range(classes)]
    _check_classes(tables["train"], labels, notes)
    if test is None:
        groups = [list(images[labels == k]) for k in range(len(names))]
        some = [k for k, group in enumerate(groups) if group]
        parts = class_split([groups[k] for k in some], [names[k] for k in some], test_share, seed)
        arrays = [each for part in parts for each in _joined(part, some)]
    else:
        path = tables.get("test", tables["train"])
        if 0 < test[1].max() <= white * FAINT / 255:
            raise DataError(f"{path}: the test pixels go up to {test[1].max():g}, the training pixels up to "
                            f"{train[1].max():g}: bring both to one scale")  # fmt: skip
        tested = _as_bytes(path, test, white)
        arrays = [images, labels, tested[1], tested[0]]
    return Collected(arrays, names, notes)


def _of_emnist(path: Path, labels: list[Array], notes: list[str]) -> tuple[str, ...]:
    """The class names of a file that is named like a part of EMNIST, else (). Labels that start at 1, those of the
    letters, start at 0 afterwards."""
    known = next((each for each in EMNIST if path.name.lower().startswith(each.name)), None)
    if known is None:
        return ()
    if known.first_label and all(each.min() >= known.first_label for each in labels):
        for each in labels:
            each -= known.first_label
        notes.append(f"{path.name}: labels shifted to start at 0, not {known.first_label} as in {known.name}")
    return known.class_names


def _check_classes(path: Path, labels: Array, notes: list[str]) -> None:
    """Note classes without an image. Raises DataError where there is only one class, or more classes than images."""
    counts = np.bincount(labels)
    if (counts > 0).sum() == 1:
        raise DataError(f"{path} has images of one class only, {labels[0]}: two or more are needed")
    if len(counts) > len(labels):
        raise DataError(
            f"{path} has {len(labels)} images, but labels up to {labels.max()}: labels must be numbered from 0, "
            "without gaps"
        )
    empty = [str(k) for k in np.flatnonzero(counts == 0)]
    if empty == ["0"]:
        notes.append("no image of class 0: do the labels start at 1?")
    elif empty:
        notes.append(f"no image of class {listed(empty)}: labels should be numbered from 0, without gaps")


def _parts(tables: dict[str, Path], notes: list[str]) -> tuple[Part, Part | None]:
    """The training part and the test part."""
    found: dict[str, Part] = {}
    for part, path in tables.items():
        if path.suffix.lower() == ".npz":
            arrays = read_arrays(path, notes, learn=part == "train")
            found[part] = arrays["train"] if part == "train" or "test" not in arrays else arrays["test"]
            if part == "train" and len(tables) == 1 and "test" in arrays:
                found["test"] = arrays["test"]
        else:
            labels, pixels = read_columns(path)
            side = math.isqrt(pixels.shape[1])
            found[part] = labels, pixels.reshape(-1, side, side)
        if path.name.lower().startswith("emnist-"):
            found[part] = found[part][0], found[part][1].transpose(0, 2, 1)
            notes.append(
                f"{path.name}: images transposed, because EMNIST's files are (rename the file to prevent this)"
            )
    return found["train"], found.get("test")


def _joined(groups: list[list[Array]], classes: list[int]) -> tuple[Array, Array]:
    labels = [k for k, group in zip(classes, groups, strict=True) for _ in group]
    return np.array([image for group in groups for image in group], np.uint8), np.array(labels, np.uint8)


# ---- from numbers to bytes ----


def _white(pixels: Array, notes: list[str]) -> float:
    """The pixel value of white. Values from 0 to 1, or to 16, are fractions of it, and this is noted."""
    top = float(pixels.max())
    if not 0 < top <= FAINT:
        return 255.0
    white = max(top, 1.0)
    notes.append(f"pixel values are from {pixels.min():g} to {top:g}: scaled so that {white:g} becomes 255, white")
    return white


def _as_bytes(path: Path, part: Part, white: float) -> tuple[Array, Array]:
    """Labels and images as uint8. Raises DataError where the values are out of range or not whole."""
    labels, pixels = part
    assert labels is not None
    for what, array, most in (("pixels", pixels, white), ("labels", labels, 255)):
        rows = array.reshape(len(array), -1)
        if not (right := (rows.min(1) >= 0) & (rows.max(1) <= most)).all():
            allowed = "0 to 255" if most == 255 else "0 to 1 or 0 to 255"
            raise DataError(
                f"{path}: the {what} are from {array.min():g} to {array.max():g}, they must be {allowed}: see "
                f"image {right.argmin() + 1:,} of {len(right):,}"
            )
    if (broken := labels[labels != np.round(labels)]).size:
        raise DataError(f"{path}: {broken[0]:g} is not a label: labels are whole numbers, 0 for the first class")
    if white == 255 and (broken := pixels[pixels != np.round(pixels)]).size:
        raise DataError(f"{path}: pixels up to {pixels.max():g} must be whole numbers, but one is {broken[0]:g}")
    scaled = pixels if white == 255 else pixels * np.float32(255 / white)
    return labels.astype(np.uint8), np.round(scaled).astype(np.uint8)
