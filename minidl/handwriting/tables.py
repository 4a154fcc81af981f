"""A table of pictures, a CSV file as Kaggle's of MNIST: a line each, its label first, then its pixels row by row."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import numpy as np

from minidl.backend import Array
from minidl.data.idx import DataError
from minidl.handwriting.collect import Collected, class_split
from minidl.handwriting.folders import folders_in, loose_files

LABELS = ("label", "class", "target", "y")  # what the column of the labels is called


def tables_in(place: Path) -> dict[str, Path] | None:
    """The tables to learn from, and perhaps to test on, {"train": ..., "test": ...}: a file, or those of a folder that
    has no classes in it. None where there is none. Raises DataError where it is not clear which."""
    if place.is_file():
        return {"train": place} if place.suffix.lower() == ".csv" else None
    if not place.is_dir() or len(folders_in(place)) > 1:
        return None
    found = [name for name in loose_files(place) if name.lower().endswith(".csv")]
    if not found:
        return None
    test = [name for name in found if "test" in name.lower()]
    train = [name for name in found if name not in test and (len(found) == 1 or "train" in name.lower())]
    if len(train) != 1 or len(test) > 1:
        raise DataError(f"{place} holds {', '.join(found)}: give the one to learn from, as in {place / found[0]}")
    return {"train": place / train[0]} | ({"test": place / test[0]} if test else {})


def collect_tables(tables: dict[str, Path], test_share: float = 0.2, seed: int = 0) -> Collected:
    """Read the tables. Where there is none to test on, or it has no labels, a share of each class is set aside by
    `seed`. Raises DataError where a table is not as it must be."""
    notes = []
    labels, images = read_table(tables["train"])
    if labels is None:
        raise DataError(f"{tables['train']} has no labels, only pixels: there is nothing to learn from it")
    tested = read_table(tables["test"]) if "test" in tables else None
    if tested is not None and tested[0] is None:
        notes.append(f"left out: {tables['test'].name} has no labels, so it can't be tested on")
        tested = None
    names = [str(k) for k in range(int(labels.max()) + 1)]
    if tested is None:
        groups = [list(images[labels == k]) for k in range(len(names))]
        some = [k for k, group in enumerate(groups) if group]
        parts = class_split([groups[k] for k in some], [names[k] for k in some], test_share, seed)
        arrays = [each for part in parts for each in _joined(part, some)]
    else:
        assert tested[0] is not None
        arrays = [images, labels, tested[1], tested[0]]
    return Collected(arrays, names, notes)


def _joined(groups: list[list[Array]], classes: list[int]) -> tuple[Array, Array]:
    labels = [k for k, group in zip(classes, groups, strict=True) for _ in group]
    return np.array([image for group in groups for image in group], np.uint8), np.array(labels, np.uint8)


def read_table(path: Path) -> tuple[Array | None, Array]:
    """The labels (N,), None where there are only pixels, and the images (N, side, side), bytes.

    Raises DataError, with the numbers, where a line is not of whole numbers from 0 to 255, or no square of pixels.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            head = [word.strip().strip('"') for word in file.readline().split(",")]
        titled = not all(re.fullmatch(r"[-+.\de]+", word) for word in head)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty table is told below
            values = np.loadtxt(path, np.int16, delimiter=",", skiprows=int(titled), ndmin=2, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as a table of whole numbers: {' '.join(str(error).split())}") from None
    if not values.size:
        raise DataError(f"{path} has no line of numbers in it")
    where = next((i for i, word in enumerate(head) if titled and word.lower() in LABELS), None)
    columns = values.shape[1]
    if where is None and math.isqrt(columns - 1) ** 2 == columns - 1 and not _is_square(columns):
        where = 0
    labels = None if where is None else values[:, where]
    pixels = values if where is None else np.delete(values, where, axis=1)
    side = math.isqrt(pixels.shape[1])
    if side * side != pixels.shape[1]:
        raise DataError(
            f"{path} has {columns} numbers in a line: a label and the pixels of a square are needed, as 785 for 28x28"
        )
    for what, array in (("pixels", pixels), ("labels", labels)):
        if array is not None and (array.min() < 0 or array.max() > 255):
            raise DataError(f"{path}: its {what} go from {array.min()} to {array.max()}, they must be 0 to 255")
    images = pixels.astype(np.uint8).reshape(-1, side, side)
    return None if labels is None else labels.astype(np.uint8), images


def _is_square(n: int) -> bool:
    return math.isqrt(n) ** 2 == n
