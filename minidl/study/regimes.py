"""The regimes of learning: under-fit, good fit, over-fit, and over-fit on labels that are partly wrong.

Under-fit: the network is too small for its training set. Good fit: it learns it and carries over. Over-fit: a large
network learns a small part of MNIST by heart, with nothing to hold it back. What a regime must show to deserve its
name is fixed beforehand; the report checks it, and one that is not what it claims takes no part in the headlines.
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

    train  accuracy on the training set;   gap  that minus the accuracy on the validation set;   test  accuracy there
    """

    train: Bounds = FULL
    gap: Bounds = ANY
    test: Bounds = FULL


@dataclass(frozen=True)
class Map:
    """A heat map: which moments, which values after them, and with how many seeds."""

    moments: tuple[float, ...]  # shares of the run
    rates: tuple[float, ...]  # of SGD after the switch
    factors: tuple[float, ...]  # of Adam's rate after the cut
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Regime:
    """What is trained, on how much, and for how long; and what is decided about it before any run.

    filters, hidden  the network: convolutions of so many filters, each with ReLU and a 2x2 pool, then layers of so
                     many hidden units. No filters: a perceptron
    network          instead: a class or function of a user's file, as "nets.py:Net"
    train_images     drawn from the training images by the run's seed; and so many others for validation
    wrong_labels     this share of the training and of the validation labels is replaced by another class
    looks            at the validation split in a final run, evenly spaced over its steps
    margin           differences of test accuracy below this do not matter
    floor            a run that ends below this validation accuracy counts as collapsed
    contestants      the keys of those that take part; None: all of the study
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
    """A regime's name as a part of its pictures' names."""
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")
