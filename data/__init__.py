"""From the bytes of an IDX file to arrays. In reading order: idx.py, dataset.py, download.py, mnist.py."""

from data.dataset import Dataset
from data.download import DownloadError
from data.idx import DataError, IdxError, read_idx, write_idx
from data.mnist import load_mnist

__all__ = ["DataError", "Dataset", "DownloadError", "IdxError", "load_mnist", "read_idx", "write_idx"]
