"""What is recorded: which steps, and which of the weights. All of a run would be a terabyte; a page has megabytes.

Steps: densely at the start and after the switch, where everything changes, then at distances that grow by a fifth, and
the last step of each epoch. The few steps before a switch, which can't be foreseen, are kept in memory meanwhile.
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
BEFORE = 8  # steps before a switch, or before the end of a run that failed, of which the lens is kept
WHOLE = 200  # a parameter of up to so many weights is recorded whole
SIDE = 16  # of a larger one, a grid of so many outputs and inputs
PIXELS = 6  # of a layer that looks at images, so many rows and columns of pixels


def _schedule() -> Iterator[int]:
    k = 1
    while True:
        yield k
        k = max(k + 1, int(k * GROWTH)) if k >= DENSE else k + 1


SCHEDULE = frozenset(takewhile(lambda k: k < 10**9, _schedule()))


def wanted(step: int, switch: int | None, ends_epoch: bool) -> bool:
    """Whether to record this step (from 1 on). `switch` is the step after which the optimizer switched, if it has."""
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
    """Spread over a parameter of this shape: whole kernels of a convolution, pixels in rows and columns, any others
    evenly.

    image  (height, width) of the data: a layer with as many inputs looks at images
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
    """At most so many of 0, 1, ..., n-1, evenly; `inner` leaves out the two ends, such as an image's empty border."""
    if n <= most:
        return np.arange(n)
    if inner:
        return np.linspace(0, n - 1, most + 2).round().astype(np.int64)[1:-1]
    return np.linspace(0, n - 1, most).round().astype(np.int64)
