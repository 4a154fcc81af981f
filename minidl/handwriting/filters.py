"""Three image filters: the maximum around each pixel, the morphological closing, and the mean of nine pixels."""

from __future__ import annotations

import numpy as np

from minidl.backend import Array


def closing(grey: Array, size: int) -> Array:
    """Dark things narrower than `size` filled in: the maximum of each window, then the minimum of those."""
    grown = windowed(np.maximum, windowed(np.maximum, grey, size).T, size).T
    return -windowed(np.maximum, windowed(np.maximum, -grown, size).T, size).T


def windowed(largest: np.ufunc, x: Array, size: int) -> Array:
    """For each element of each column, the largest of `size` (an odd number, or one more) values around it.

    The maximum of 2, 4, 8 values follows from the one before: the work grows with the logarithm of the size.
    """
    half = size // 2
    padded = np.pad(x, ((half, half), (0, 0)), constant_values=-np.inf)
    width = 1
    while width < 2 * half + 1:
        step = min(width, 2 * half + 1 - width)
        padded = largest(padded[:-step], padded[step:])
        width += step
    return padded


def smoothed(x: Array) -> Array:
    """The mean of 3x3 pixels, so that a speck counts little."""
    y = np.pad(x, 1, mode="edge")
    y = y[:-2] + y[1:-1] + y[2:]
    return (y[:, :-2] + y[:, 1:-1] + y[:, 2:]) / 9
