"""Connected components of pixels, and growing them."""

from __future__ import annotations

import numpy as np

from minidl.backend import Array


def label(mask: Array) -> Array:
    """A label from 1 for each group of touching pixels, corners included; 0 where the mask is False. int32 (H, W).

    Adjacent pixels of a row form a run; the rest works on runs, which are few.
    """
    bordered = np.pad(mask, ((0, 0), (1, 1)))  # no run continues into the next row
    width = bordered.shape[1]
    edges = np.flatnonzero(np.diff(bordered.ravel())) + 1
    starts, ends = edges[::2], edges[1::2]
    first = np.searchsorted(ends, starts - width)  # runs above run i that touch it, corners included:
    last = np.searchsorted(starts, ends - width, side="right")  # first[i] to last[i], exclusive
    counts = last - first
    below = np.repeat(np.arange(len(starts)), counts)
    above = np.arange(len(below)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    numbers = np.unique(_least_of_group(len(starts), below, above), return_inverse=True)[1] + 1
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers, ends - starts)
    return labels


def _least_of_group(n: int, a: Array, b: Array) -> Array:
    """For each of 0 ... n - 1 the smallest member of its group, where a[i] and b[i] are in one group. int64 (n,)."""
    least = np.arange(n)  # the smallest known member of the group; in the end it points to itself
    while not np.array_equal(ours := least[a], theirs := least[b]):
        np.minimum.at(least, np.maximum(ours, theirs), np.minimum(ours, theirs))
        while not np.array_equal(further := least[least], least):
            least = further
    return least


def spread_labels(labels: Array, steps: int) -> Array:
    """Labels grown by some pixels, over a stroke's soft edge, to tell it from its neighbour's."""
    for _ in range(steps):
        padded = np.pad(labels, 1)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            shifted = padded[dy : dy + labels.shape[0], dx : dx + labels.shape[1]]
            labels = np.where(labels == 0, shifted, labels)
    return labels
