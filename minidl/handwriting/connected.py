"""Connected pixels: which of them touch, and what is beside them."""

from __future__ import annotations

import numpy as np

from minidl.backend import Array


def label(mask: Array) -> Array:
    """A number from 1 for each group of pixels that touch, corners included; 0 where it is False. int32 (H, W)."""
    labels = np.zeros(mask.shape, np.int32)
    parents = [0]

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    above: list[tuple[int, int, int]] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.view(np.int8), [0]])))
        runs = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            touching = [root(number) for a, b, number in above if a <= end and b >= start]
            number = min(touching, default=len(parents))
            if not touching:
                parents.append(number)
            for other in touching:
                parents[other] = number
            labels[y, start:end] = number
            runs.append((start, end, number))
        above = runs
    roots = np.array([root(i) for i in range(len(parents))])
    return np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int32)[labels]


def spread_labels(labels: Array, steps: int) -> Array:
    """Labels grown by some pixels, over a stroke's soft edge, so that it can be told from its neighbour's."""
    for _ in range(steps):
        padded = np.pad(labels, 1)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            shifted = padded[dy : dy + labels.shape[0], dx : dx + labels.shape[1]]
            labels = np.where(labels == 0, shifted, labels)
    return labels
