"""NumPy archives, .npz, such as Keras's MNIST: arrays of images and of labels, recognized by their shapes."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minidl.backend import Array
from minidl.data.idx import DataError

NEEDED = "one array of greyscale images (N, H, W) and one of labels (N,) are needed"


def read_arrays(path: Path, notes: list[str], learn: bool = True) -> dict[str, tuple[Array, Array]]:
    """{"train": (labels (N,), images (N, H, W)), "test": ...}, values unchanged; without "test" where no array name has
    it, and without "train" where all have and `learn` is False. What is skipped is added to `notes`. Raises DataError,
    with the shapes, where it is not clear which array is which."""
    parts: dict[str, dict[str, Array]] = {"train": {}, "test": {}}
    try:
        for name, array in _arrays_of(path):
            words = [word.lower().lstrip("xy") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
            if any(word.startswith("val") and not word.startswith("value") for word in words):
                notes.append(f"skipped: {name}, as minidl draws its own validation images")
            else:
                tested = any(word.startswith("test") for word in words)
                parts["test" if tested else "train"][name] = array
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        why = " ".join(str(error).split())
        if "pickle" in why:  # NumPy advises allow_pickle, which can run any code, and takes any bytes for a pickle
            why = "it has Python objects in place of numbers" if zipfile.is_zipfile(path) else "it is not one"
        raise DataError(f"{path} can't be read as a NumPy archive: {why}") from None
    if not parts["train"] and (learn or not parts["test"]):
        called = f"only {', '.join(parts['test'])}, for testing" if parts["test"] else "nothing to train on"
        raise DataError(f"{path} holds {called}: {NEEDED}")
    return {part: _pair(path, arrays, notes) for part, arrays in parts.items() if arrays}


def labels_beside(path: Path) -> Path | None:
    """The archive with the labels for an archive of images, as in KMNIST: kmnist-train-labels.npz for
    kmnist-train-imgs.npz."""
    other = path.with_name(re.sub(r"imgs|images", "labels", path.name))
    return other if path.name.endswith(".npz") and other != path and other.is_file() else None


def _arrays_of(path: Path) -> Iterator[tuple[str, Array]]:
    for place, called in ((path, ""), (labels_beside(path), "labels/")):
        if place is not None:
            with open(place, "rb") as file, np.load(file, allow_pickle=False) as archive:
                yield from ((called + name, archive[name]) for name in archive.files)


def _pair(path: Path, arrays: dict[str, Array], notes: list[str]) -> tuple[Array, Array]:
    """The labels and the images among a part's arrays. Arrays with another number of rows, such as class names, are
    skipped and added to `notes`."""
    plain = {
        name: array[..., 0] if array.ndim > 1 and array.shape[-1] == 1 else array for name, array in arrays.items()
    }
    pictures = {name: image for name, array in plain.items() if (image := _unrolled(array)).ndim == 3}
    n = len(next(iter(pictures.values()), ()))
    labels = {name: array for name, array in plain.items() if array.shape[:1] == (n,) and name not in pictures}
    if len(pictures) != 1 or [array.ndim for array in labels.values()] != [1] or not n:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DataError(f"{path} holds {shapes}: {NEEDED}; write such arrays with minidl.data.write_idx")
    ((name, images),), (truth,) = pictures.items(), labels.values()
    notes += [
        f"skipped: {other} {arrays[other].shape}, which does not have a row for each of the {n:,} images in {name}"
        for other in arrays
        if other not in pictures and other not in labels
    ]
    if not all(array.dtype.kind in "uif" for array in (truth, images)):
        raise DataError(f"{path} holds {images.dtype} and {truth.dtype}, where numbers are needed")
    return truth, images


def _unrolled(array: Array) -> Array:
    """Images that are rows of pixels (N, side * side) as (N, side, side); any other array unchanged."""
    side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
    return array.reshape(-1, side, side) if side > 1 and side * side == array.shape[1] else array
