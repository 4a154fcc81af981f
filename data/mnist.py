"""Finding MNIST: 70,000 handwritten digits, 28 by 28 pixels each, with their labels.

It is looked for, in this order, in a folder that the user names, in the cache folder from an earlier download, and on
the mirrors. Wherever it is found, each file is verified by its hash. If there is no way to get it, the package holds
5,000 of the same images, as `mnist5k`.
"""

from __future__ import annotations

import difflib
import hashlib
import ntpath
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset, make_dataset, read_folder
from minidl.data.download import PATIENT, QUICK, DownloadError, Patience, fetch, read_verified
from minidl.data.idx import DataError, idx_sha256
from minidl.data.known import KNOWN, MIRRORS, MNIST
from minidl.data.layout import PARTS, find_parts, parts_in
from minidl.data.named import held_in, load_known, look_in, recognized

NAMES = ("auto", "mnist", "mnist5k", *KNOWN)
EMBEDDED = Path(__file__).parent / "embedded"
MNIST5K = "762ba1f9411869d003df96396a1ef7d9b7905cdd67fcff8357d42a400765c5d4"  # Dataset.sha256 of the embedded digits


def load_mnist(
    name: str = "auto",
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    mirrors: Sequence[str] = MIRRORS,
    patience: Patience | None = None,
) -> Dataset:
    """Load MNIST, or another data set in MNIST's format.

    name      "mnist": the full data set, verified by hash. "mnist5k": the 4,000 + 1,000 images in the package.
              "auto": "mnist" if it is on disk or can be downloaded quickly, else "mnist5k"; `note` says why.
              "fashion-mnist", "kmnist", "qmnist", "emnist-letters", ...: see data/known.py. EMNIST is not downloaded:
              give its folder or zip as root. Anything else: a folder with four IDX files of any image size and number
              of classes; write ./mnist for a folder that is called mnist.
    root      the folder that holds the four files, or a folder of data sets laid out as by torchvision. Default: the
              environment variable MINIDL_DATA; if that is not set either, the cache folder (see `cache_folder`),
              which downloads fill. Ignored where `name` is a folder.
    download  False: use only what is on disk.
    mirrors   URLs of MNIST, tried in this order.
    patience  how long to wait for them; default QUICK for "auto", PATIENT for "mnist".

    Returns a Dataset: images uint8 (N, H, W), labels int64 (N,).
    Raises DataError: no such data set, a file that is missing, damaged or not MNIST's (IdxError), files that
        do not fit each other, no permission to read, a failed download (DownloadError).
    """
    try:
        return _load(name, root, download, mirrors, patience)
    except OSError as error:
        raise DataError(f"the data set {name} can't be read: {error}") from error


def _load(
    name: str, root: str | os.PathLike[str] | None, download: bool, mirrors: Sequence[str], patience: Patience | None
) -> Dataset:
    if name == "mnist5k":
        return _embedded()
    if name not in NAMES:
        return _named_folder(name)
    given = os.fspath(root) if root is not None else os.environ.get("MINIDL_DATA", "")
    if name in KNOWN:
        return load_known(KNOWN[name], given or None, root is not None, cache_folder, download, patience or PATIENT)
    if root is not None or given:
        return _given_folder(given)
    try:
        return _cached_or_fetched(download, mirrors, patience or (QUICK if name == "auto" else PATIENT))
    except DataError as error:
        if name == "mnist":
            raise
        why = error.reason if isinstance(error, DownloadError) else str(error)
        note = f"could not get the full MNIST ({why}), so this is the embedded mnist5k"
        return replace(_embedded(), note=note)


def absolute(name: str) -> str:
    """A data set's name that is valid in any working folder: the user's path is made absolute."""
    return os.path.abspath(name) if name not in NAMES and os.path.exists(name) else name


def cache_folder() -> Path:
    """Return the folder for downloads: environment variable MINIDL_CACHE, else the user's cache folder.

    Raises DataError where there is neither, as for a container user without a home.
    """
    if folder := os.environ.get("MINIDL_CACHE"):
        return Path(folder)
    import pooch  # here, because importing it takes as long as importing NumPy

    try:
        return Path(pooch.os_cache("minidl"))
    except RuntimeError as error:
        raise DataError("there is no home folder to keep it in; set MINIDL_CACHE or MINIDL_DATA to a folder") from error


def _embedded() -> Dataset:
    found = read_folder(EMBEDDED)
    if found.sha256 != MNIST5K:
        raise DataError(f"the digits in {EMBEDDED} are damaged (sha256 {found.sha256[:12]}...): reinstall minidl")
    return replace(found, name="mnist5k", source="embedded in the package")


def _named_folder(name: str) -> Dataset:
    if os.path.exists(name):
        return _of_path(name)
    if os.path.isabs(name) or ntpath.isabs(name):  # as a run may record it, on this system or another
        raise DataError(
            f"there is no data set {name!r}: give the folder that holds its four IDX files now (with --dataset on the "
            "command line)"
        )
    near = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(
        f"there is no data set {name!r}: choose {', '.join(NAMES)} or a folder that holds "
        f"four IDX files (none is called {name}){hint}"
    )


def _of_path(path: str) -> Dataset:
    """Read the data set in a folder, or in a zip whose file names are those of a known data set."""
    held = held_in(Path(path))
    if len(held) > 1:
        names = ", ".join(known.name for known in held)
        raise DataError(f"{path} holds {names}: choose one by its name, and set MINIDL_DATA to {path}")
    known = look_in(held[0], path) if held else _recognized(path)
    if known is not None:
        return replace(known, name=path, known=known.name)
    found = read_folder(path)
    check_whole_mnist(found)
    return found


def check_whole_mnist(found: Dataset) -> None:
    """Raise DataError where some files of a folder are MNIST's, by their hashes, and others are not."""
    if (found.train_images.shape, len(found.test_labels)) != ((60_000, 28, 28), 10_000):
        return
    if found.sha256 == hashlib.sha256("".join(MNIST[part].sha256 for part in PARTS).encode()).hexdigest():
        return  # all of them are, by the hash computed already
    bytes_ = (found.train_images, found.train_labels, found.test_images, found.test_labels)
    hashes = [idx_sha256(array.astype(np.uint8)) for array in bytes_]
    wrong = [part for part, sha256 in zip(PARTS, hashes, strict=True) if sha256 != MNIST[part].sha256]
    if 0 < len(wrong) < len(PARTS):
        raise DataError(
            f"{found.source}: {', '.join(wrong)} is not MNIST's, by its hash, though the others are: it is damaged, or "
            "from another data set"
        )


def _recognized(path: str) -> Dataset | None:
    """The known data set whose published files, under MNIST's names, the folder holds; None where there is none."""
    parts = find_parts(path)
    known = recognized(parts)
    return None if known is None else look_in(known, parts["train-images"].parent, sure=True)


def _given_folder(folder: str) -> Dataset:
    """Read full MNIST from the user's folder; anything wrong there is an error, never ignored."""
    try:
        arrays = [read_verified(path, MNIST[part]) for part, path in find_parts(folder).items()]
    except DataError as error:
        raise DataError(
            f"{error}\nFull MNIST was looked for in {folder} only (root or MINIDL_DATA); "
            "give your own data set as name or --dataset."
        ) from error
    return make_dataset("mnist", f"folder {folder}", arrays)


def _cached_or_fetched(download: bool, mirrors: Sequence[str], patience: Patience) -> Dataset:
    """Read full MNIST from the cache folder, after downloading any files that are missing or damaged."""
    folder = cache_folder()
    source = f"cache {folder}"
    arrays: list[NDArray[Any]] = []
    there = parts_in(folder)
    for part in PARTS:
        array = _cached(there.get(part), part)
        if array is None:
            if not download:
                raise DataError(
                    f"MNIST's {part} is not in the cache folder {folder}, and downloading is "
                    "switched off; put the file there, or set MINIDL_DATA to its folder"
                )
            array, mirror = fetch(MNIST[part], folder, mirrors, patience)
            source = f"downloaded from {mirror}"
            mirrors = [mirror, *(other for other in mirrors if other != mirror)]  # the one that worked goes first
        arrays.append(array)
    return make_dataset("mnist", source, arrays)


def _cached(path: Path | None, part: str) -> NDArray[Any] | None:
    """Return the content of one of MNIST's files in the cache; None if it is missing, damaged or different."""
    if path is None:
        return None
    try:
        return read_verified(path, MNIST[part])
    except DataError:  # not an error yet: a new copy replaces it, or the download says why not
        return None
