"""What is recorded: which steps and which weights. All of a run would be a terabyte; a page has a few megabytes.

Steps: every one at the start and after the switch, where everything changes, then at intervals that grow by a fifth,
and the last step of each epoch. A switch can't be foreseen, so the last few steps are kept in memory meanwhile.
Weights: spread evenly over each layer; small layers whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from minidl.backend import Array

DENSE, GROWTH = 10, 1.2  # every one of the first DENSE steps; then each GROWTH times as far from the start as the last
BEFORE = 8  # steps before a switch, or before a run fails, whose weights under the lens are kept
WHOLE = 200  # a parameter of up to this many weights is recorded whole
SIDE = 16  # of a larger one, a grid of this many outputs and inputs
PIXELS = 6  # of a layer whose inputs are images, this many rows and columns of pixels


def _schedule() -> Iterator[int]:
    k = 1
    while True:
        yield k
        k = max(k + 1, int(k * GROWTH)) if k >= DENSE else k + 1


SCHEDULE = frozenset(takewhile(lambda k: k < 10**9, _schedule()))


def wanted(step: int, switch: int | None, ends_epoch: bool) -> bool:
    """Whether to record this step (from 1). `switch` is the step after which the optimizer switched, if it has."""
    return ends_epoch or (step if switch is None else step - switch) in SCHEDULE


@dataclass(frozen=True)
class Grid:
    """The weights of one parameter that are recorded: some of its outputs (first axis) by some of its inputs.

    inputs  indices into the other axes, flattened; [0] for a bias
    """

    name: str
    shape: tuple[int, ...]
    outputs: Array
    inputs: Array

    @property
    def places(self) -> Array:
        """Indices into the flattened parameter, (outputs, inputs) in C order."""
        width = math.prod(self.shape[1:])
        return (self.outputs[:, None] * width + self.inputs).reshape(-1)


def grid(name: str, shape: Sequence[int], image: tuple[int, int]) -> Grid:
    """The grid of a parameter of this shape: whole kernels of a convolution, rows and columns of pixels, anything else
    evenly spaced.

    image  (height, width) of the data: a layer with that many inputs is taken to see images
    """
    outputs, inputs = shape[0], math.prod(shape[1:])
    kernel = math.prod(shape[2:])
    if outputs * inputs <= WHOLE:
        rows, columns = np.arange(outputs), np.arange(inputs)
    elif kernel > 1 and kernel <= SIDE:
        rows = spread(outputs, SIDE // 2)
        columns = (spread(shape[1], SIDE // 4)[:, None] * kernel + np.arange(kernel)).reshape(-1)
    elif inputs == math.prod(image):
        rows = spread(outputs, SIDE)
        columns = (spread(image[0], PIXELS, inner=True)[:, None] * image[1] + spread(image[1], PIXELS, True)).reshape(
            -1
        )
    else:
        rows, columns = spread(outputs, SIDE), spread(inputs, SIDE)
    return Grid(name, tuple(shape), rows, columns)


def spread(n: int, most: int, inner: bool = False) -> Array:
    """At most `most` of 0, 1, ..., n-1, evenly spaced; `inner` omits both ends, such as an image's empty border."""
    if n <= most:
        return np.arange(n)
    if inner:
        return np.linspace(0, n - 1, most + 2).round().astype(np.int64)[1:-1]
    return np.linspace(0, n - 1, most).round().astype(np.int64)
