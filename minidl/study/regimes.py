"""The three regimes of learning, each as a perceptron and as a convolutional network.

Under-fit: the network is too small for its training set. Good fit: it learns it and carries over. Over-fit: a large
network learns a small part of MNIST by heart, with nothing to hold it back. A regime also says what must be seen
for it to deserve its name, and the report checks that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from minidl.data.batches import Splits, pick
from minidl.data.idx import DataError
from minidl.data.mnist import Dataset
from minidl.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from minidl.training.models import ImageSize, Rng, perceptron


@dataclass(frozen=True)
class Regime:
    """What is trained, on how much, and for how long.

    filters, hidden  the network: convolutions of so many filters, each with ReLU and a 2x2 pool, then layers of so
                     many hidden units. No filters: a perceptron
    train_images     drawn from the training images by the run's seed; and so many others for validation
    evaluations      looks at the validation split in a final run, evenly spaced over its steps
    levels           validation accuracies; the report tells how long each took
    claim            (lowest, highest) train accuracy and (lowest, highest) gap between train and validation accuracy
                     that make the regime what its name says
    """

    name: str
    train_images: int
    val_images: int
    epochs: int
    batch_size: int
    evaluations: int
    levels: tuple[float, ...]
    claim: tuple[tuple[float, float], tuple[float, float]]
    filters: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.train_images // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole run."""
        return self.epochs * self.steps_per_epoch


def build_network(
    filters: tuple[int, ...], hidden: tuple[int, ...], size: ImageSize, classes: int, rng: Rng
) -> Sequential:
    """The network of a regime, its weights drawn by `rng`."""
    if not filters:
        return perceptron(size, list(hidden), classes, rng)
    layers: list[Module] = []
    channels, (height, width) = 1, size
    for n in filters:
        layers += [Conv2d(channels, n, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2)]
        channels, height, width = n, height // 2, width // 2
    if not height or not width:
        raise ValueError(f"images of {size[0]}x{size[1]} are too small for {len(filters)} pools: use fewer filters")
    widths = [channels * height * width, *hidden]
    layers.append(Flatten())
    for i, o in pairwise(widths):
        layers += [Linear(i, o, rng=rng), ReLU()]
    return Sequential(*layers, Linear(widths[-1], classes, init="glorot", rng=rng))


def draw_splits(dataset: Dataset, train_images: int, val_images: int, seed: int) -> Splits:
    """Training and validation examples drawn by the seed, without overlap; the test split is the data set's."""
    n = len(dataset.train_labels)
    if train_images + val_images > n:
        raise DataError(
            f"{train_images:,} training and {val_images:,} validation images were asked for, but {dataset.name} has "
            f"{n:,} training images in all: ask for fewer"
        )
    order = np.random.default_rng(seed).permutation(n)
    return pick(dataset, order[:train_images], order[n - val_images :])
