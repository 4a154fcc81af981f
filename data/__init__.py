"""From the bytes of an IDX file to arrays.

Reading order: splits, batches, idx, layout, dataset, known, mnist, named, download.
"""

if __name__ == "data":  # a clone's root is on sys.path: this would be a second copy, with its own classes
    raise ImportError("import minidl.data: the folder data is a part of the package minidl")

from typing import TYPE_CHECKING, Any

from minidl.data.batches import batches
from minidl.data.dataset import Dataset
from minidl.data.download import DownloadError
from minidl.data.idx import DataError, IdxError, read_idx, write_idx
from minidl.data.mnist import load_mnist
from minidl.data.splits import Examples, Splits, split
from minidl.refuse import listed, missing

__all__ = [
    "DataError", "Dataset", "DownloadError", "Examples", "IdxError", "Splits", "batches", "load_mnist", "read_idx",
    "split", "write_idx",
]  # fmt: skip


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing("minidl.data", name, otherwise="", known=__all__)


def __dir__() -> list[str]:
    return listed(__name__)
