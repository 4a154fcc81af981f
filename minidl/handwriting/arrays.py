"""NumPy's archives, .npz, as Keras's of MNIST: arrays of pictures and of labels, known by their shapes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from minidl.backend import Array
from minidl.data.idx import DataError


def read_arrays(path: Path, notes: list[str]) -> dict[str, tuple[Array, Array]]:
    """{"train": (labels (N,), pictures (N, H, W)), "test": ...}, numbers as they are; without "test" where no array is
    called so. What is left out is added to `notes`. Raises DataError, with the shapes, where it is not clear."""
    parts: dict[str, dict[str, Array]] = {"train": {}, "test": {}}
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                if "val" in name.lower():
                    notes.append(f"left out: {name}, as minidl draws its own pictures to validate on")
                else:
                    parts["test" if "test" in name.lower() else "train"][name] = archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        why = " ".join(str(error).split())
        if "pickle" in why:  # NumPy says how to load what may run any program; and of any bytes that they are a pickle
            why = "it has Python objects, where numbers are needed" if zipfile.is_zipfile(path) else "it is none"
        raise DataError(f"{path} can't be read as an archive of arrays: {why}") from None
    return {part: _pair(path, arrays) for part, arrays in parts.items() if arrays or part == "train"}


def _pair(path: Path, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """The labels and the pictures among a part's arrays."""
    plain = {
        name: array[..., 0] if array.ndim > 1 and array.shape[-1] == 1 else array for name, array in arrays.items()
    }
    labels = [array for array in plain.values() if array.ndim == 1]
    pictures = [array for array in map(_unrolled, plain.values()) if array.ndim == 3]
    if len(labels) != 1 or len(pictures) != 1 or len(labels[0]) != len(pictures[0]) or not labels[0].size:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no array to learn from"
        raise DataError(
            f"{path} holds {shapes}: one array of grey pictures (N, H, W) and one of labels (N,) are needed; "
            "write such arrays with minidl.data.write_idx"
        )
    if not all(array.dtype.kind in "uif" for array in (labels[0], pictures[0])):
        raise DataError(f"{path} holds {pictures[0].dtype} and {labels[0].dtype}, where numbers are needed")
    return labels[0], pictures[0]


def _unrolled(array: Array) -> Array:
    """Pictures that are rows of numbers (N, side * side) as (N, side, side); another array as it is."""
    side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
    return array.reshape(-1, side, side) if side > 1 and side * side == array.shape[1] else array
