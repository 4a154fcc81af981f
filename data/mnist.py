"""Finding MNIST: 70,000 handwritten digits, 28 by 28 pixels each, with their labels.

Where it may be, in the order in which it is looked for: a folder that the user names, the cache folder from
an earlier download, the mirrors. Wherever it was found, each file's hash decides whether it is the real one.
Where there is no way to get it, the package brings 5,000 of the same images along, as `mnist5k`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from minidl.data.dataset import PARTS, Dataset, find_part, find_parts, make_dataset, read_folder
from minidl.data.download import PATIENT, QUICK, DownloadError, Patience, RemoteFile, fetch, read_verified
from minidl.data.idx import DataError

__all__ = ["MIRRORS", "MNIST", "NAMES", "Dataset", "cache_folder", "load_mnist"]

# LeCun, Cortes, Burges: http://yann.lecun.com/exdb/mnist/ (no files there any more)
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST = {
    "train-images": RemoteFile(
        "train-images-idx3-ubyte.gz",
        9912422,
        47040016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels": RemoteFile(
        "train-labels-idx1-ubyte.gz", 28881, 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images": RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        1648877,
        7840016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels": RemoteFile(
        "t10k-labels-idx1-ubyte.gz", 4542, 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}
NAMES = ("auto", "mnist", "mnist5k")
EMBEDDED = Path(__file__).parent / "embedded"


def load_mnist(
    name: str = "auto",
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    mirrors: Sequence[str] = MIRRORS,
    patience: Patience | None = None,
) -> Dataset:
    """Load MNIST, or another data set in MNIST's format.

    name: "mnist": the full data set, verified by hash. "mnist5k": the 4,000 + 1,000 images in the package.
        "auto": "mnist" if it is at hand or can be fetched in a short time, else "mnist5k"; `note` says why.
        Anything else: a folder with four IDX files of any image size and class count; write ./mnist for a
        folder that is called mnist.
    root: the folder that holds MNIST's four files. Default: the environment variable MINIDL_DATA; where that
        is not set either, the cache folder (see `cache_folder`), which downloads fill. Read for "auto" and
        "mnist" only.
    download: False looks only at the disk.
    mirrors: URLs, tried in this order.
    patience: how long to wait for them; default QUICK for "auto", PATIENT for "mnist".
    Returns a Dataset: images uint8 (N, H, W), labels int64 (N,).
    Raises DataError: no such data set, a file that is missing, damaged or not MNIST's (IdxError), files that
        do not fit each other, a download that failed (DownloadError).
    """
    if name == "mnist5k":
        return _embedded()
    if name not in NAMES:
        return _named_folder(name)
    given = os.fspath(root) if root is not None else os.environ.get("MINIDL_DATA", "")
    if root is not None or given:
        return _given_folder(given)
    try:
        return _cached_or_fetched(download, mirrors, patience or (QUICK if name == "auto" else PATIENT))
    except DataError as error:
        if name == "mnist":
            raise
        why = error.reason if isinstance(error, DownloadError) else str(error)
        note = f"full MNIST could not be had ({why}), so this is the embedded mnist5k"
        return replace(_embedded(), note=note)


def absolute(name: str) -> str:
    """A data set's name as it holds whatever folder one stands in: a folder of the user's by its absolute path."""
    return os.path.abspath(name) if name not in NAMES and os.path.isdir(name) else name


def cache_folder() -> Path:
    """Return the folder for downloads: environment variable MINIDL_CACHE, else the user's cache folder.

    Raises DataError where there is neither, as for a user of a container who has no home.
    """
    if folder := os.environ.get("MINIDL_CACHE"):
        return Path(folder)
    import pooch  # here, because importing it takes as long as importing NumPy

    try:
        return Path(pooch.os_cache("minidl"))
    except RuntimeError as error:
        raise DataError(
            "there is no home folder to keep it in; name a folder in MINIDL_CACHE or MINIDL_DATA"
        ) from error


def _embedded() -> Dataset:
    return replace(read_folder(EMBEDDED), name="mnist5k", source="embedded in the package")


def _named_folder(name: str) -> Dataset:
    if os.path.exists(name):
        return read_folder(name)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(
        f"there is no data set {name!r}: choose {', '.join(NAMES)} or a folder that holds "
        f"four IDX files (none is called {name}){hint}"
    )


def _given_folder(folder: str) -> Dataset:
    """Read full MNIST from the folder that the user named; what is wrong there is an error, never ignored."""
    try:
        arrays = [read_verified(path, MNIST[part]) for part, path in find_parts(folder).items()]
    except DataError as error:
        raise DataError(
            f"{error}\nFull MNIST was looked for in {folder} only (root or MINIDL_DATA); "
            "give a data set of your own as name or --dataset."
        ) from error
    return make_dataset("mnist", f"folder {folder}", arrays)


def _cached_or_fetched(download: bool, mirrors: Sequence[str], patience: Patience) -> Dataset:
    """Read full MNIST from the cache folder, after fetching whichever of its files are missing or damaged."""
    folder = cache_folder()
    source = f"cache {folder}"
    arrays: list[NDArray[Any]] = []
    for part in PARTS:
        array = _cached(folder, part)
        if array is None:
            if not download:
                raise DataError(
                    f"MNIST's {part} is not in the cache folder {folder}, and downloading is "
                    "switched off; put the file there, or name its folder in MINIDL_DATA"
                )
            array, mirror = fetch(MNIST[part], folder, mirrors, patience)
            source = f"downloaded from {mirror}"
            mirrors = [mirror, *(other for other in mirrors if other != mirror)]  # what works goes first
        arrays.append(array)
    return make_dataset("mnist", source, arrays)


def _cached(folder: Path, part: str) -> NDArray[Any] | None:
    """Return the content of one of MNIST's files in the cache; None if it is missing, damaged or another."""
    path = find_part(folder, part)
    if path is None:
        return None
    try:
        return read_verified(path, MNIST[part])
    except DataError:  # not an error yet: a fresh copy takes its place, or the download says why it cannot
        return None
