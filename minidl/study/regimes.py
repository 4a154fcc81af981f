"""The learning regimes: under-fit, good fit, over-fit, and over-fit on partly wrong labels.

Under-fit: the network is too small for its training set. Good fit: it learns the set and generalizes. Over-fit: a large
network memorizes a small part of MNIST, with no regularization. What a regime must show to deserve its name is fixed in
advance; the report checks it, and a regime that fails takes no part in the headlines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minidl.data.batches import steps_per_epoch

Bounds = tuple[float, float]
FULL: Bounds = (0.0, 1.0)
ANY: Bounds = (-1.0, 1.0)


@dataclass(frozen=True)
class Shows:
    """What the final runs of Adam and of SGD must show: lowest and highest mean of each.

    train  accuracy on the training set;   gap  that minus the validation accuracy;   test  accuracy on the test set
    """

    train: Bounds = FULL
    gap: Bounds = ANY
    test: Bounds = FULL


@dataclass(frozen=True)
class Map:
    """A heat map: the moments, the values after them, and the seeds of each cell."""

    moments: tuple[float, ...]  # shares of the run
    rates: tuple[float, ...]  # of SGD after the switch
    factors: tuple[float, ...]  # of Adam's rate after the cut
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Regime:
    """What is trained, on how much data and for how long, and what is fixed about it before any run.

    filters, hidden  the network: convolutions with these numbers of filters, each with ReLU and a 2x2 pool, then hidden
                     layers of these sizes. No filters: an MLP
    network          instead of these: a class or function of a user's file, as "nets.py:Net"
    train_images     drawn from the training images by the run's seed; val_images others are for validation
    wrong_labels     this share of the training and of the validation labels is replaced by another class
    looks            how many evaluations on the validation split a final run has, evenly spaced over its steps
    margin           differences of test accuracy below this do not matter
    floor            a run that ends below this validation accuracy counts as collapsed
    contestants      the keys of those that take part; None: all those of the study
    """

    name: str
    train_images: int
    val_images: int
    epochs: int
    batch_size: int
    looks: int
    shows: Shows
    filters: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    network: str | None = None
    wrong_labels: float = 0.0
    margin: float = 0.001
    floor: float = 0.2
    contestants: tuple[str, ...] | None = None
    map: Map | None = None

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.train_images, self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole run."""
        return self.epochs * self.steps_per_epoch


def slug(name: str) -> str:
    """A regime's name, as part of its figures' file names."""
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")
