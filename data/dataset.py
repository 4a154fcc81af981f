"""A data set: images with their labels, in two parts, one for training and one for testing.

On disk it is four IDX files in one folder, named as in MNIST. Nothing here is specific to MNIST: the images may have
any size and the labels any number of classes. The checks are for what silently spoils a training run: images and labels
that do not belong together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.idx import DataError, idx_sha256, read_idx
from minidl.data.layout import PARTS, all_names_of, files_under, find_parts
from minidl.data.polarity import polarity_of, was_inverted
from minidl.refuse import Named

CLASS_NAMES = "class-names.txt"  # beside the four files: the name of each class, one per line
LONGEST_NAME = 255  # characters of a class name: as long as a folder's may be


@dataclass(frozen=True, eq=False)
class Dataset(Named):
    """Images and labels, checked against each other.

    name                       "mnist", "mnist5k" or the folder as requested.
    source                     in words, where the data came from.
    train_images, test_images  uint8 (N, H, W), 0 to 255 as in the file.
    train_labels, test_labels  int64 (N,), 0 to classes - 1.
    sha256                     identifies the content, 64 hex digits: the SHA-256 of the four concatenated hex SHA-256
                               of the uncompressed files, in the order train images, train labels, test images, test
                               labels.
    note                       what a program should tell the user about the choice of this data set ("" if nothing).
    class_names                a name for each class, for tables and figures; () where none were given.
    inverted                   whether `python -m minidl.data` inverted all images; None: not known.
    known                      the name of a known data set that was requested by its folder: "emnist-letters".
    """

    _otherwise = "split(data) has .train, .val and .test; its arrays are train_images, train_labels, test_images, ..."

    name: str
    source: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    sha256: str
    note: str = ""
    class_names: tuple[str, ...] = ()
    inverted: bool | None = None
    known: str = ""

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """`(x_train, y_train), (x_test, y_test) = load_mnist()`, as with Keras's load_data()."""
        return iter(((self.train_images, self.train_labels), (self.test_images, self.test_labels)))

    @cached_property
    def polarity(self) -> str:
        """Whether its images are light on dark, dark on light or of both kinds: see polarity.py."""
        return polarity_of(self.train_images, self.inverted)

    def __repr__(self) -> str:
        counts = f"{len(self.train_labels):,} training, {len(self.test_labels):,} test"
        size = "x".join(map(str, self.train_images.shape[1:]))
        note = f"; {self.note}" if self.note else ""
        return f"{self.name} ({self.source}): {counts} images {size}, {self.classes} classes{note}"


def read_folder(folder: str | os.PathLike[str]) -> Dataset:
    """Read the data set in the four IDX files in `folder`, of any image size and number of classes.

    Raises DataError where a file is missing, is damaged (IdxError), or does not fit the others.
    """
    parts = find_parts(folder)
    dataset = make_dataset(
        os.fspath(folder), f"folder {os.fspath(folder)}", (_read_part(path, part) for part, path in parts.items())
    )
    place = parts["train-images"].parent
    return replace(dataset, class_names=_read_names(place / CLASS_NAMES, dataset.classes), inverted=was_inverted(place))


def _read_part(path: Path, part: str) -> NDArray[Any]:
    array = read_idx(path)
    check_namesakes(path, array, all_names_of(part))
    return array


def check_namesakes(path: Path, array: NDArray[Any], names: Sequence[str]) -> None:
    """Raise DataError where another file beside `path` has one of the names, but holds a different array."""
    for other in files_under(path.parent, names):
        if other != path and not np.array_equal(read_idx(other), array):
            raise DataError(f"{path} and {other} hold different arrays: remove the one that you do not want")


def _read_names(path: Path, classes: int) -> tuple[str, ...]:
    """The names of the classes, one per line; none where there is no such file."""
    if not path.is_file():
        return ()
    if path.stat().st_size > 1000 * (1 + classes) * LONGEST_NAME:
        raise DataError(f"{path} is too large for the names of {classes} classes, one per line: fix or remove it")
    try:
        names = tuple(path.read_text(encoding="utf-8-sig").splitlines())  # sig: Windows writes a byte order mark
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8, or remove it") from None
    if blank := [k for k, name in enumerate(names[:classes], 1) if not name.strip()]:
        raise DataError(f"{path} has no name in line {blank[0]}: it must have one class name per line, no empty lines")
    if len(names) < classes:
        raise DataError(f"{path} names {len(names)} of {classes} classes, one per line: add the others, or remove it")
    if long := [name for name in names[:classes] if len(name) > LONGEST_NAME]:
        raise DataError(f"{path} has a name of {len(long[0]):,} characters: at most {LONGEST_NAME} are allowed")
    return names[:classes]


def make_dataset(name: str, source: str, arrays: Iterable[NDArray[Any]], note: str = "") -> Dataset:
    """Check four arrays, in the order of PARTS, against each other and join them.

    images  uint8 (N, H, W)
    labels  any integer type, (N,).

    The number of classes is the largest training label plus one. Raises DataError that names `source`, the mismatch and
    the numbers.
    """
    content = dict(zip(PARTS, arrays, strict=True))
    for part, array in content.items():
        _check_array(source, part, array)
    for split in ("train", "t10k"):
        images, labels = content[f"{split}-images"], content[f"{split}-labels"]
        if len(images) != len(labels):
            raise DataError(
                f"{source}: {split}-images has {len(images)} images, but {split}-labels has "
                f"{len(labels)} labels; the two files do not belong together"
            )
    sizes = [content[part].shape[1:] for part in ("train-images", "t10k-images")]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{source}: train images are {sizes[0][0]}x{sizes[0][1]} pixels, "
            f"but test images are {sizes[1][0]}x{sizes[1][1]}"
        )
    classes = _count_classes(source, content["train-labels"], content["t10k-labels"])
    note = "; ".join(filter(None, [note, _empty_classes(content["train-labels"], classes)]))
    hashes = "".join(idx_sha256(array) for array in content.values())
    return Dataset(
        name,
        source,
        content["train-images"],
        content["train-labels"].astype(np.int64),
        content["t10k-images"],
        content["t10k-labels"].astype(np.int64),
        classes,
        hashlib.sha256(hashes.encode()).hexdigest(),
        note,
    )


def _empty_classes(labels: NDArray[Any], classes: int) -> str:
    """A note on labels below the largest that no training image has, or on a single label; else ""."""
    if classes == 1:
        return "every training image has the label 0, so there is only one class"
    empty = np.flatnonzero(np.bincount(labels.astype(np.int64), minlength=classes) == 0).tolist()
    if not empty:
        return ""
    some = ", ".join(map(str, empty[:8])) + (", ..." if len(empty) > 8 else "")
    return (
        f"no training image has the label {some}, so not all of the {classes} classes, 0 to {classes - 1}, can be "
        "learned"
    )


def _check_array(source: str, part: str, array: NDArray[Any]) -> None:
    if array.ndim != PARTS[part]:
        wanted = "3 dimensions (count, height, width)" if PARTS[part] == 3 else "1 dimension (count)"
        raise DataError(f"{source}: {part} must have {wanted}, its shape is {array.shape}")
    if array.size == 0:
        raise DataError(f"{source}: {part} is empty, its shape is {array.shape}")
    if PARTS[part] == 3 and array.dtype != np.uint8:
        raise DataError(
            f"{source}: {part} must hold uint8 pixels (0 to 255), it holds {array.dtype}; "
            "scale them to that range and write them with write_idx"
        )
    if PARTS[part] == 1 and array.dtype.kind not in "iu":
        raise DataError(f"{source}: {part} must hold integer labels, it holds {array.dtype}")


def _count_classes(source: str, train: NDArray[Any], test: NDArray[Any]) -> int:
    classes = int(train.max()) + 1
    for part, labels in (("train-labels", train), ("t10k-labels", test)):
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            raise DataError(
                f"{source}: {part} has the label {labels[wrong[0]]} at index {wrong[0]}; labels "
                f"start at 0, and the largest in the training data is {classes - 1}"
            )
    if classes > len(train):  # else a damaged label could give the model a billion outputs
        raise DataError(
            f"{source}: the largest label, {classes - 1}, means {classes} classes, "
            f"but there are only {len(train)} training images"
        )
    return classes
