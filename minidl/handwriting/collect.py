"""A folder of images, one subfolder per class, as a data set of four IDX files: see `python -m minidl.data`.

Every loss is reported: colour, further frames, another size, images that can't be read, duplicates in both splits.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minidl.backend import Array
from minidl.data.atomic import write_text
from minidl.data.batches import scale
from minidl.data.dataset import CLASS_NAMES, LONGEST_NAME, make_dataset
from minidl.data.idx import DataError, write_idx
from minidl.data.layout import PARTS, names_of, parts_in
from minidl.data.pictures import STRETCHED, PictureError, read_picture
from minidl.data.polarity import FEW, INVERTED, KEPT, POLARITY, rim_is_light
from minidl.handwriting.folders import LISTED, Found, listed
from minidl.handwriting.frame import resized
from minidl.handwriting.look import padded
from minidl.handwriting.paper import DARK
from minidl.telling import counted

SIDE = 28  # pixels, where the images have no common size
LARGEST = 64  # side of a common size that is kept: networks here are for small images
POLARITIES = ("auto", "invert", "keep")
JOINERS = {0x200C: None, 0x200D: None}  # invisible, but used in Persian and Indian words and in emoji


@dataclass(frozen=True)
class Collected:
    """The result: four arrays in the order of PARTS, the names of the classes, and notes for the user."""

    arrays: list[Array]
    class_names: list[str]
    notes: list[str]
    inverted: bool | None = None  # whether all images were inverted; None for a CSV file or an archive


# ---- from files to arrays ----


def collect(
    found: Found,
    size: tuple[int, int] | None = None,
    test_share: float = 0.2,
    polarity: str = "auto",
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> Collected:
    """Read all images, in greyscale, in one size, light on dark.

    size         (height, width); None: their own where all have the same one of at most 64x64, else 28x28
    test_share   of each class, drawn by `seed`; at least one image. Not used where folders split the images
    polarity     "auto": all inverted where most are dark on light; "invert": all inverted; "keep": none
    class_names  in the order of the folders; None: the folders' own names
    progress     gets the files, and yields them one by one

    Raises DataError where a class is left without training images.
    """
    names = _check_names(found.classes, class_names)
    parts = [found.train] if found.test is None else [found.train, found.test]
    told = _Told(list(found.notes))
    grey = _read(parts, told, progress, size)
    size = size or _common_size([image for part in grey for group in part for image in group])
    invert = _decide(polarity, told)
    bytes_ = [[[_as_bytes(image, size, invert, told) for image in group] for group in part] for part in grey]
    why = [told.why(k) for k in range(len(names))]
    train, test = bytes_ if found.test is not None else class_split(bytes_[0], found.classes, test_share, seed, why)
    for name, group, reason in zip(found.classes, train, why, strict=True):
        if not group:
            raise DataError(f"the class {name} has no training image{reason}")
    if not any(test):
        raise DataError(f"there is no test image{next(filter(None, why), '')}")
    arrays = [*_arrays(train, size), *_arrays(test, size)]
    told.overlap(arrays[0], arrays[2])
    return Collected(arrays, names, told.all(), invert)


@dataclass
class _Told:
    """What is lost on the way, to be reported."""

    notes: list[str]
    bad: list[tuple[int, str]] = field(default_factory=list)  # the class, and why the image can't be read
    coloured: int = 0
    several: int = 0  # frames or pages
    stretched: int = 0
    scaled: int = 0
    light: int = 0  # dark on light
    total: int = 0
    top: float = 0.0  # the lightest pixel of all, of 1

    def overlap(self, train: Array, test: Array) -> None:
        known = {image.tobytes() for image in train}
        same = sum(image.tobytes() in known for image in test)
        if same:
            self.notes.append(f"{same} of {len(test)} test images are duplicates of training images")

    def why(self, k: int) -> str:
        """Why images of class k were skipped; "" if none was."""
        words = [words for each, words in self.bad if each == k]
        return f": {words[0]}" if words else ""

    def all(self) -> list[str]:
        notes = list(self.notes)
        if self.coloured:
            notes.append(f"{self.coloured:,} of {self.total:,} images are in colour: converted to greyscale")
        if self.several:
            notes.append(f"{self.several:,} of {self.total:,} images have several frames or pages: the first is used")
        if self.stretched:
            notes.append(
                f"{self.stretched:,} of {self.total:,} images have pixel values that are neither 0 to 1 nor integers 0 "
                "to 255: the smallest of each becomes black, the largest white"
            )
        if self.scaled:
            notes.append(f"{self.scaled:,} of {self.total:,} images were resized, keeping their proportions")
        if 0 < self.top <= DARK:
            notes.append(
                f"no pixel of the images is lighter than {255 * self.top:.0f} of 255, so they are nearly black: "
                "if 16-bit files hold 8-bit or 12-bit values, scale these to the full range first"
            )
        notes += [f"skipped: {words}" for _, words in self.bad[:LISTED]]
        if len(self.bad) > LISTED:
            notes.append(f"skipped: {len(self.bad) - LISTED:,} more that can't be read")
        return notes


def _read(
    parts: Sequence[Sequence[Sequence[Path]]],
    told: _Told,
    progress: Callable[[Iterable[Path]], Iterable[Path]],
    size: tuple[int, int] | None,
) -> list[list[list[Array]]]:
    """Brightness (h, w) of every image, uint8, by split and class.

    All are kept until it is clear how to treat them, so those too large to keep their own size are resized to the
    common one at once.
    """
    files = iter(progress([path for part in parts for group in part for path in group]))
    made: list[list[list[Array]]] = []
    for part in parts:
        made.append([])
        for k, group in enumerate(part):
            made[-1].append([])
            for _ in group:
                path = next(files)
                try:
                    picture = read_picture(path)
                except PictureError as error:
                    told.bad.append((k, str(error)))
                    continue
                told.total += 1
                told.coloured += picture.pixels.shape[2] > 1
                told.stretched += STRETCHED in picture.notes
                told.several += any(note != STRETCHED for note in picture.notes)
                grey = picture.grey
                told.light += rim_is_light(grey)
                told.top = max(told.top, float(grey.max()))
                wanted = size or ((SIDE, SIDE) if max(grey.shape) > LARGEST else grey.shape)
                made[-1][-1].append(_in_size(grey, wanted, told))
    next(files, None)  # lets a progress bar close
    return made


def _common_size(images: Sequence[Array]) -> tuple[int, int]:
    sizes = Counter(image.shape for image in images)
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST:
        height, width = next(iter(sizes))
        return height, width
    return SIDE, SIDE


def _decide(polarity: str, told: _Told) -> bool:
    if polarity != "auto":
        return polarity == "invert"
    light, total = told.light, told.total
    if FEW < light / max(1, total) < 1 - FEW:
        told.notes.append(f"{light:,} of {total:,} images are dark on light, the others light on dark")
    if 2 * light > total:
        told.notes.append("dark on light: inverted to light on dark, as in MNIST")
        return True
    return False


def _as_bytes(image: Array, size: tuple[int, int], invert: bool, told: _Told) -> Array:
    return _in_size(scale(255 - image if invert else image), size, told)


def _in_size(image: Array, size: tuple[int, ...], told: _Told) -> Array:
    """Brightness in [0, 1] as uint8, resized in one step, as in `predict`."""
    if image.shape != size:
        told.scaled += 1
        image = resized(padded(image, size), size)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def class_split(
    groups: Sequence[Sequence[Array]], classes: Sequence[str], share: float, seed: int, why: Sequence[str] | None = None
) -> tuple[list[list[Array]], list[list[Array]]]:
    """Set aside the same fraction of each class for testing. Raises DataError where a class has too few; `why` has a
    reason for each class."""
    rng = np.random.default_rng(seed)
    train, test = [], []
    for name, group, reason in zip(classes, groups, why or [""] * len(classes), strict=True):
        n = max(1, round(share * len(group)))
        if n >= len(group):
            raise DataError(
                f"the class {name} has {counted(len(group), 'image')} that can be read: more are needed, "
                f"some for training and {n} for testing{reason}"
            )
        order = rng.permutation(len(group))
        test.append([group[i] for i in sorted(order[:n])])
        train.append([group[i] for i in sorted(order[n:])])
    return train, test


def _arrays(groups: Sequence[Sequence[Array]], size: tuple[int, int]) -> tuple[Array, Array]:
    images = [image for group in groups for image in group]
    labels = [k for k, group in enumerate(groups) for _ in group]
    kind = np.uint8 if len(groups) <= 256 else np.int16 if len(groups) <= 1 << 15 else np.int32
    return np.array(images, np.uint8).reshape(-1, *size), np.array(labels, kind)


def _check_names(folders: Sequence[str], given: Sequence[str] | None) -> list[str]:
    names = list(folders if given is None else given)
    if len(names) != len(folders):
        raise DataError(f"{len(names)} class names were given, but there are {len(folders)} folders: {listed(folders)}")
    if long := [name for name in names if len(name) > LONGEST_NAME]:
        raise DataError(f"a class name has {len(long[0]):,} characters: at most {LONGEST_NAME} are allowed")
    plain = {name: name.translate(JOINERS).strip() for name in names}
    wrong = [name for name, n in Counter(names).items() if n > 1 or not plain[name] or not plain[name].isprintable()]
    if wrong:
        raise DataError(
            f"each class needs a unique name of printable characters, not {listed([repr(name) for name in wrong])}"
        )
    return names


# ---- to a folder ----


_OURS = (CLASS_NAMES, POLARITY, *(names_of(part)[0] for part in PARTS))  # the files of a data set


def check_out(out: Path) -> None:
    """Raise DataError where a data set can't be written to `out`, or would overwrite something."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: give a folder")
    if out.is_dir() and parts_in(out):
        raise DataError(f"{out} already holds a data set: give another folder, or remove that one")
    if there := [name for name in _OURS if os.path.lexists(out / name)]:
        raise DataError(f"{out} holds a {there[0]} that belongs to no data set: give another folder, or remove it")
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{out} can't be written: {above} is read-only, or not a folder")


def write_dataset(out: Path, made: Collected) -> None:
    """Write the four files and the names of the classes; the folder is created. Raises OSError, and DataError if
    another process has written there, or writes there now."""
    make_dataset(str(out), str(out), made.arrays)  # checks that they fit each other
    out.mkdir(parents=True, exist_ok=True)
    check_out(out)  # again: reading the images took a while
    try:
        (out / CLASS_NAMES).touch(exist_ok=False)  # the process that creates it writes the rest
    except FileExistsError:
        raise DataError(f"another process is writing to {out}: give another folder") from None
    try:
        write_text(out / CLASS_NAMES, "".join(f"{name}\n" for name in made.class_names))
        if made.inverted is not None:
            write_text(out / POLARITY, f"{INVERTED if made.inverted else KEPT}\n")
        for part, array in zip(PARTS, made.arrays, strict=True):
            write_idx(out / names_of(part)[0], array)
    except BaseException:  # a full disk, Ctrl-C
        for name in _OURS:
            (out / name).unlink(missing_ok=True)
        raise
