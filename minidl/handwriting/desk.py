"""The desk beside the paper: dark, along the picture's sides, and wider than any stroke. It is replaced by paper.

Otherwise a dark corner would be the darkest thing in the picture, and a dark rim would suggest that the ink is light.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array
from minidl.handwriting.connected import label
from minidl.handwriting.filters import windowed
from minidl.handwriting.frame import resized

SIDE = 160  # pixels of the reduced picture in which the desk is looked for
DARK = 0.4  # of the paper's brightness: a shadow is lighter
PAPER = 0.3  # of the picture, at least, is paper
DIGIT = 0.1  # of the picture's shorter side: the minimum height of what is written
ALONG = 0.8  # of its length along a side is covered by a desk; a digit that is cut off touches a side with a curve


def without_desk(grey: Array) -> Array:
    """Brightness (H, W) with the paper continued where a dark desk is seen beside it; otherwise unchanged."""
    longer = max(grey.shape)
    small = resized(grey, tuple(max(1, round(n * SIDE / longer)) for n in grey.shape)) if longer > SIDE else grey
    dark = small < middle(small)
    paper = float(np.median(small[~dark])) if (~dark).any() else 0.0
    dark = small < (1 + DARK) / 2 * paper
    if dark.mean() > 1 - PAPER:
        return grey
    desk, written = _parts(label(dark))
    if written < DIGIT * min(small.shape) or not desk.any() or float(small[desk].mean()) > DARK * paper:
        return grey
    wider = grown(desk, 2)
    continued = resized(filled(small, wider), grey.shape)
    return np.where(resized(wider.astype(np.float32), grey.shape) > 0.5, continued, grey).astype(np.float32)


def middle(grey: Array) -> float:
    """The brightness that best separates dark from light: Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076.

    If all pixels are equally bright, that brightness.
    """
    if not np.ptp(grey):
        return float(grey.flat[0])
    counts, edges = np.histogram(grey, 64)
    share, centres = np.cumsum(counts) / counts.sum(), (edges[1:] + edges[:-1]) / 2
    mass = np.cumsum(counts * centres) / counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mass[-1] * share - mass) ** 2 / (share * (1 - share))
    return float(edges[1 + int(np.nanargmax(between[:-1]))])


def _parts(labels: Array) -> tuple[Array, int]:
    """Where the desk is, and how tall the tallest dark thing is that touches no side."""
    desk, written = np.zeros(labels.shape, bool), 0
    for number in range(1, int(labels.max(initial=0)) + 1):
        own = labels == number
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        sides = [(own[0], columns), (own[-1], columns), (own[:, 0], rows), (own[:, -1], rows)]
        touched = [(int(line.sum()), len(long)) for line, long in sides if line.any()]
        if not touched:
            written = max(written, len(rows))
        elif sum(n for n, _ in touched) > ALONG * sum(n for _, n in touched):
            desk |= own
    return desk, written


def grown(mask: Array, steps: int) -> Array:
    """A mask grown by this many pixels."""
    size = 2 * steps + 1
    return windowed(np.maximum, windowed(np.maximum, mask.astype(np.float32), size).T, size).T > 0


def filled(image: Array, gap: Array) -> Array:
    """An image (H, W) with the gap filled from its rim inwards by the mean of the neighbours."""
    known = ~gap
    values = np.where(known, image, 0).astype(np.float32)
    while not known.all() and known.any():
        sums, n = np.pad(values, 1), np.pad(known.astype(np.float32), 1)
        for axis in (0, 1):
            sums, n = (a + np.roll(a, 1, axis) + np.roll(a, -1, axis) for a in (sums, n))
        sums, n = sums[1:-1, 1:-1], n[1:-1, 1:-1]
        new = ~known & (n > 0)
        values[new] = sums[new] / n[new]
        known |= new
    return values
