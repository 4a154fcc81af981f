"""Which examples: a data set split into those to train on, those to make choices with, and those to report once.

The order of the examples is drawn by NumPy on the host, so a seed means the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from numbers import Integral
from operator import index
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, get_backend, to_numpy
from minidl.data.dataset import Dataset
from minidl.data.idx import DataError
from minidl.data.polarity import LIGHT_ON_DARK
from minidl.refuse import Named, to_labels
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Examples(Named):
    """Images and their labels, on one device.

    images  (N, H, W) or (N, C, H, W): uint8, 0 to 255, or float, as the network takes them
    labels  (N,), integers from 0

    A pandas column, a list or a Tensor becomes an array; rows are taken by position, not by index.
    """

    _otherwise = "it has .images and .labels, and is the pair of them: x, y = examples"

    images: Array
    labels: Array

    def __init__(self, images: Any, labels: Any) -> None:
        object.__setattr__(self, "images", number_array(images))
        object.__setattr__(self, "labels", plain_array(labels))

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Array]:
        """`x, labels = examples`: the two arrays."""
        return iter((self.images, self.labels))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        classes = len(np.unique(to_numpy(self.labels)))
        return f"{len(self):,} examples: images {size} ({self.images.dtype}), {classes} classes"


@dataclass(frozen=True)
class Origin:
    """Where splits come from, so that a run can find them again.

    name, source, sha256   as in the Dataset; for arrays of the program's own, the sha256 of all their bytes
    val_fraction, counts, seed  as in `split`; all None for arrays
    class_names, note, polarity, known  as in the Dataset
    """

    name: str
    source: str
    sha256: str
    val_fraction: float | None = None
    counts: tuple[int, int] | None = None
    seed: int | None = None
    class_names: tuple[str, ...] = ()
    note: str = ""
    polarity: str = LIGHT_ON_DARK
    known: str = ""


@dataclass(frozen=True)
class Splits(Named):
    """The three parts of a data set.

    train, val, test  Examples, or pairs (images, labels): to train on, to make choices with, and to report once at the
                      end; the last two may be empty, (x[:0], y[:0])
    classes           number of classes
    image_size        (height, width) in pixels

    Raises DataError for other parts, and where the size is not two numbers. A Trainer checks that the parts fit both.
    """

    _otherwise = "its parts are .train, .val and .test, each with .images and .labels"

    train: Examples
    val: Examples
    test: Examples
    classes: int
    image_size: tuple[int, int]
    origin: Origin | None = field(default=None, init=False)  # set by `split`; lost in `replace`

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            object.__setattr__(self, name, examples_of(getattr(self, name)))
        object.__setattr__(self, "classes", int(self.classes))  # JSON has no NumPy numbers
        if len(size := np.ravel(self.image_size).tolist()) != 2:
            raise DataError(f"image_size must be (height, width), such as x.shape[-2:], got {self.image_size!r}")
        object.__setattr__(self, "image_size", (int(size[0]), int(size[1])))

    def __iter__(self) -> Iterator[Examples]:
        """`train, val, test = split(data)`."""
        return iter((self.train, self.val, self.test))

    def __repr__(self) -> str:
        of = f"{self.origin.name}: " if self.origin else ""
        counts = f"{len(self.train):,} training, {len(self.val):,} validation, {len(self.test):,} test"
        return f"{of}{counts} images {'x'.join(map(str, self.image_size))}, {self.classes} classes"


def split(
    dataset: Dataset,
    val_fraction: float = 0.1,
    seed: int = 0,
    device: str | None = None,
    *,
    counts: tuple[int, int] | None = None,
) -> Splits:
    """Draw the training and the validation examples by `seed`, without overlap, and copy them to the device.

    dataset       from `load_mnist`
    val_fraction  fraction of the training examples that is set aside for validation. 0: none, and `val` is empty
    device        "cpu", "gpu" or "auto"; None: the CPU
    counts        instead of val_fraction: how many to train on, and how many to validate on

    The test split is the data set's own. Raises DataError where a split would be empty, there are too few examples,
    or the seed is not a whole number.
    """
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"split takes what load_mnist returns, not a {type(dataset).__name__}: for arrays of your own, use "
            "Splits(Examples(x, y), Examples(...), Examples(...), classes, (height, width))"
        )
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"the seed of a split must be a whole number, 0 or more, so that it can be drawn again, "
                        f"got {seed!r}")  # fmt: skip
    seed, val_fraction = int(seed), float(val_fraction)
    counts = None if counts is None else (index(counts[0]), index(counts[1]))
    n = len(dataset.train_labels)
    order = np.random.default_rng(seed).permutation(n)
    drawn: dict[str, Any] = {"val_fraction": None if counts else val_fraction, "counts": counts, "seed": seed}
    same = {f.name: getattr(dataset, f.name) for f in fields(Origin) if f.name not in drawn}
    origin = Origin(**same, **drawn)
    if counts is None:
        n_train, n_val = sizes(n, val_fraction)
        return _pick(dataset, order[n_val:], order[:n_val], device, origin)
    n_train, n_val = counts
    if n_train < 1 or n_val < 0:
        raise DataError(f"counts=({n_train}, {n_val}): at least 1 image to train on, and 0 or more to validate on")
    if n_train + n_val > n:
        raise DataError(
            f"{n_train:,} training and {n_val:,} validation images were requested, but {dataset.name} has "
            f"{n:,} training images in all: request fewer"
        )
    return _pick(dataset, order[:n_train], order[n - n_val :], device, origin)


def examples_of(given: Any) -> Examples:
    """Examples from a pair of arrays (images, labels); Examples unchanged. Raises DataError for anything else."""
    if isinstance(given, Examples):
        return given
    if isinstance(given, tuple) and all(isinstance(each, tuple) and len(each) == 2 for each in given):
        raise DataError("these are pairs of arrays, as from Keras's load_data(): pass one, (x_train, y_train), and "
                        "the other to evaluate((x_test, y_test))")  # fmt: skip
    if isinstance(given, (tuple, list)) and len(given) == 2:
        images, labels = pair_of(*given)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise DataError(f"labels must be whole numbers (N,), these are {labels.dtype} of shape {labels.shape}: "
                            f"{to_labels(labels)}")  # fmt: skip
        return Examples(images, labels)
    some = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
    raise DataError(f"examples are Examples, such as split(data).test, or a pair (images, labels), not a "
                    f"{type(given).__name__}{some}")  # fmt: skip


def pair_of(images: Any, labels: Any) -> tuple[Array, Array]:
    """Images and labels as arrays. Raises DataError unless the images are numbers and there are as many labels."""
    images, labels = number_array(images), plain_array(labels)
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images but {len(labels)} labels")
    return images, labels


def plain_array(given: Any) -> Array:
    """An array unchanged, on any device; for anything else, the array of its values."""
    if isinstance(given, Tensor):
        return given.data
    try:
        backend_of(given)
    except TypeError:
        return _array_of_list(given)
    return given


def number_array(given: Any) -> Array:
    """The same for images or other inputs; an array of objects, as of a table with columns of several types, becomes
    floats. Raises DataError for what is not real numbers."""
    array = plain_array(given)
    if array.dtype.kind == "O":
        if array.ndim == 1 and len(array) and np.ndim(array[0]):
            raise DataError("these are arrays within an array: np.stack(list(images)) makes one array of them")
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"inputs must be numbers: {error}") from error
    if array.dtype.kind in "USMmc":
        raise DataError(f"inputs must be real numbers, these are {array.dtype}")
    return array


def _array_of_list(given: Any) -> Array:
    if hasattr(given, "toarray"):
        raise DataError("this is a sparse matrix: convert it with X.toarray()")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise DataError("these arrays have different shapes: images of one size make one array, (N, H, W); a network "
                        "with several inputs needs a loop of your own") from error  # fmt: skip


def splits_of(data: Any, seed: int = 0, device: str | None = None) -> Splits:
    """Splits unchanged; for a Dataset, `split(data, seed=seed)`; for Examples or a pair of arrays, all of them for
    training. Raises DataError for anything else."""
    if isinstance(data, Splits):
        return data
    if isinstance(data, Dataset):
        return split(data, seed=seed, device=device)
    train = examples_of(data)
    none = Examples(train.images[:0], train.labels[:0])
    size = train.images.shape[-2:]  # of one axis or two: a Trainer rejects these
    return Splits(train, none, none, int(train.labels.max()) + 1 if len(train) else 0, (size[0], size[-1]))


def sizes(n: int, val_fraction: float) -> tuple[int, int]:
    """How many of n examples to train on, and how many to set aside; none for a fraction of 0.

    Raises DataError where another fraction leaves either empty, or is not a finite number.
    """
    if not math.isfinite(val_fraction):
        raise DataError(f"a validation fraction must be in [0, 1), got {val_fraction}")
    n_val = round(n * val_fraction)
    if val_fraction != 0 and not 0 < n_val < n:
        raise DataError(
            f"a validation fraction of {val_fraction} sets {n_val} of {n} training images aside; each part needs at "
            f"least one: choose a {'larger' if n_val < 1 else 'smaller'} fraction, or 0 to set none aside"
        )
    return n - n_val, n_val


def _pick(dataset: Dataset, train: Array, val: Array, device: str | None, origin: Origin) -> Splits:
    """The training and validation examples at these indices, and all test examples, on the device."""
    backend = get_backend(device)

    def examples(images: Array, labels: Array) -> Examples:
        return Examples(backend.from_host(images), backend.from_host(labels))

    splits = Splits(
        train=examples(dataset.train_images[train], dataset.train_labels[train]),
        val=examples(dataset.train_images[val], dataset.train_labels[val]),
        test=examples(dataset.test_images, dataset.test_labels),
        classes=dataset.classes,
        image_size=(dataset.train_images.shape[1], dataset.train_images.shape[2]),
    )
    object.__setattr__(splits, "origin", origin)
    return splits
