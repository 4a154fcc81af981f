"""The lines of ruled and squared paper: thin, straight, right across the picture, and seldom quite level in a photo.

First the angle is found: along it, the pixels of a line coincide. Then the columns are shifted so that lines are level,
and what is thin and runs right across is removed. Strokes that cross a line stay whole.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array
from minidl.handwriting.filters import windowed

INK = 0.3  # of the darkest stroke: paler lines do no harm
LINE = 0.85  # of the width: what runs straight across this much of it is a line of the paper
THICK = 0.03  # of the picture's side: unless it is thicker than this
STEEP = 0.14  # slope, some 8 degrees: steeper lines are not removed
TURNS = 4  # number of slopes to look for
SHORT = 0.4  # of the width: the minimum on which a line is seen that leaves the picture above or below


def without_lines(strength: Array) -> Array:
    """Ink (H, W), 0 to 1, without the lines of the paper, across and down."""
    return _without_rows(_without_rows(strength).T).T


def _without_rows(strength: Array) -> Array:
    """Ink without what runs across the whole width. Sloping lines count only if there are several."""
    least = 2
    for _ in range(TURNS):  # lines photographed from one side are not quite parallel
        mask = strength > INK
        run = _vertical_runs(mask)
        thin = mask & (run <= max(3, THICK * min(mask.shape)))  # not the bar of a 7 that fills the picture
        lines, slope = thin, _slope(thin)
        for each in dict.fromkeys([slope, 0.0]):
            shift = np.round(each * (np.arange(mask.shape[1]) - mask.shape[1] / 2)).astype(int)
            lines = _lines(mask, thin, shift, least if each else 1)
            if lines.any():
                break
        if not lines.any():
            break
        thin_enough = run <= 1.6 * np.median(run[lines]) + 1
        pale_enough = strength <= 1.2 * np.percentile(strength[lines], 75) + 0.05  # a pen is mostly darker than lines
        strength = np.where(lines & thin_enough & pale_enough, 0, strength)
        least = 1
    return strength


def _slope(thin: Array) -> float:
    """The slope along which thin ink coincides most; 0.0 where that is hardly more than horizontally."""
    y, x = np.nonzero(thin)
    if not len(y):
        return 0.0
    every = -(-len(y) // 40_000)
    y, x = y[::every], x[::every] - thin.shape[1] // 2
    few = np.arange(-round(STEEP * thin.shape[1]), round(STEEP * thin.shape[1]) + 1, 3) / thin.shape[1]

    def together(slope: float) -> float:
        return float((np.bincount((y - np.round(slope * x)).astype(int) + thin.shape[1]) ** 2.0).sum())

    sums = [together(slope) for slope in few]
    best = int(np.argmax(sums))
    return float(few[best]) if sums[best] > 1.2 * together(0.0) else 0.0


def _lines(mask: Array, thin: Array, shift: Array, least: int) -> Array:
    """Where thin ink runs right across, with each column moved up by its shift; nowhere if `least` lines do not."""
    room = int(np.abs(shift).max())
    rows = np.arange(len(mask) + 2 * room)[:, None] + shift - room  # (H', W): the row in the picture of each
    inside = (rows >= 0) & (rows < len(mask))
    places = np.clip(rows, 0, len(mask) - 1), np.arange(mask.shape[1])
    tilt = max(1, len(mask) // 100)
    seen = np.maximum(inside.sum(1), SHORT * mask.shape[1])
    covered, by_thin = (
        windowed(np.maximum, (m[places] & inside).astype(np.float32), 2 * tilt + 1).sum(1) / seen for m in (mask, thin)
    )
    across = (covered > LINE) & (by_thin > LINE / 2)  # the rest may be strokes that the line crosses
    found = np.zeros_like(mask)
    if np.count_nonzero(np.diff(np.pad(across, 1).astype(np.int8)) > 0) >= least:
        on = inside & (windowed(np.maximum, across[:, None].astype(np.float32), 2 * tilt + 1) > 0)
        found[rows[on], np.broadcast_to(places[1], rows.shape)[on]] = True
    return thin & found


def _vertical_runs(mask: Array) -> Array:
    """For each pixel the length of the vertical run of True that it is in; 0 where it is False."""

    def above(m: Array) -> Array:
        counts = np.zeros(m.shape, np.int32)
        counts[0] = m[0]
        for i in range(1, len(m)):
            counts[i] = (counts[i - 1] + 1) * m[i]
        return counts

    return (above(mask) + above(mask[::-1])[::-1] - 1) * mask
