"""The three regimes of learning, each as a perceptron and as a convolutional network.

Under-fit: the network is too small for its training set. Good fit: it learns it and carries over. Over-fit: a large
network learns a small part of MNIST by heart, with nothing to hold it back. A regime also says what must be seen
for it to deserve its name, and the report checks that.
"""

from __future__ import annotations

from dataclasses import dataclass

from minidl.data.batches import steps_per_epoch


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
        return steps_per_epoch(self.train_images, self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole run."""
        return self.epochs * self.steps_per_epoch
