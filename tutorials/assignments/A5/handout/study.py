"""A small study of your own: which optimizer generalizes best here, and how sure can we be?

A fair comparison has three rules. Every optimizer gets the same chances: the same learning rates to try, the same
initial weights, the same examples in the same order. The learning rate is chosen on the validation data; the test data
is used once, at the end. And one run proves nothing: each number comes from several seeds, with an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl import Tensor, nn, no_grad, ops

Array = Any
Split = tuple[Array, Array]  # inputs (N, features) in float32, integer labels (N,)
MakeModel = Callable[[np.random.Generator], nn.Module]  # draws the initial weights from the generator
MakeOptimizer = Callable[[Iterable[Tensor], float], Any]  # (parameters, rate) -> optimizer

# n -> t such that a Student-t variable with n - 1 degrees of freedom lies in [-t, t] with probability 0.95
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Data(NamedTuple):
    """The data to train on, to choose the learning rate by, and to evaluate on."""

    train: Split
    val: Split
    test: Split


class Result(NamedTuple):
    """The result for one optimizer."""

    rate: float  # the chosen learning rate
    accuracies: list[float]  # on the test data, one for each seed
    mean: float
    low: float  # 95 % interval of the mean
    high: float


def train_once(
    make_model: MakeModel, make_optimizer: MakeOptimizer, rate: float, data: Data, seed: int, epochs: int,
    batch_size: int = 32,
) -> nn.Module:  # fmt: skip
    """A model trained on data.train with cross-entropy.

    Everything random comes from one generator, np.random.default_rng(seed): first the model's weights, then, for each
    epoch, the order of the examples. An epoch uses every example once, batch_size at a time; the last batch may be
    smaller. The same seed gives the same weights, bit for bit.
    """
    raise NotImplementedError("A5: train_once is yours to write")


def accuracy(model: nn.Module, split: Split) -> float:
    """The fraction of examples whose largest output is that of the true class, in eval mode and without recording."""
    raise NotImplementedError("A5: accuracy is yours to write")


def tune(
    make_model: MakeModel, make_optimizer: MakeOptimizer, rates: Sequence[float], data: Data, seeds: Sequence[int],
    epochs: int,
) -> float:  # fmt: skip
    """The rate with the best validation accuracy, averaged over the seeds; the first one if several are equal."""
    raise NotImplementedError("A5: tune is yours to write")


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its 95 % interval, mean -+ t s / sqrt(n).

    s is the sample standard deviation, which divides by n - 1; t comes from T95. Raises ValueError for fewer than two
    values, which say nothing about their spread.
    """
    raise NotImplementedError("A5: mean_and_interval is yours to write")


def compare(
    make_model: MakeModel, optimizers: Mapping[str, MakeOptimizer], rates: Sequence[float], data: Data,
    tune_seeds: Sequence[int], seeds: Sequence[int], epochs: int,
) -> dict[str, Result]:  # fmt: skip
    """For each optimizer: tune the rate with tune_seeds, train once with each of `seeds`, evaluate on the test data."""
    raise NotImplementedError("A5: compare is yours to write")
