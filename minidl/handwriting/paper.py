"""Where is the ink? A photograph of paper has shadows, a grey tone and noise; what is wanted is how dark the pen is.

The paper's own brightness at each place is found by a closing: every dark thing that is thinner than a window is
filled with the brightness around it, while a shadow, which is wider, stays. Ink is what the closing has filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl.backend import Array
from minidl.data.pictures import Picture
from minidl.handwriting.connected import label

WINDOW = 0.25  # of the longer side: wider than a stroke, narrower than a shadow
FAINT = 0.06  # contrast of 1: what is weaker than this is no ink but paper
LINE = 0.85  # of the width: what runs straight across so much of it is a line of the paper
THICK = 0.03  # of the picture's side: but not if it is thicker


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written in a picture.

    strength  float32 (H, W) in [0, 1]: 0 paper, 1 the darkest stroke
    dark      whether the ink is darker than what it stands on
    """

    strength: Array
    dark: bool


def find_ink(picture: Picture) -> Ink:
    """The ink of a picture on its paper, dark on light or light on dark, the lines of the paper left out.

    Raises ValueError where nothing stands out.
    """
    grey = _channel(picture)
    if np.median(np.abs(grey - smoothed(grey))) > 0.005:  # grain, which a closing would take for ink
        grey = smoothed(smoothed(grey))
    size = max(3, int(WINDOW * max(grey.shape)))
    light = slope(grey)
    paper, board = closing(grey - light, size) + light, light - closing(light - grey, size)
    dark = is_dark(paper - grey, grey - board)
    # what the light is worth there: a stroke in the shadow is as dark a stroke
    ink = (paper - grey) / np.maximum(paper, 0.05) if dark else (grey - board) / np.maximum(1 - board, 0.05)
    ink, noise = without_grain(ink)
    top = float(smoothed(ink).max())
    if top < max(FAINT, 3 * noise):
        raise ValueError("it is blank: nothing stands out from its background")
    strength = np.clip(ink / top, 0, 1).astype(np.float32)
    return Ink(without_lines(without_lines(strength).T).T, dark)


def slope(grey: Array) -> Array:
    """The plane through most of the picture, its mean taken off: light that falls off to one side.

    At a picture's edge a closing has one side only, and would take such a slope for ink.
    """
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in grey.shape)
    few = tuple(np.unique(np.linspace(0, n - 1, 60).astype(int)) for n in grey.shape)
    values = grey[np.ix_(*few)].ravel()
    grid = np.stack([np.ones((len(few[0]), len(few[1]))), *np.meshgrid(y[few[0]], x[few[1]], indexing="ij")], -1)
    places = grid.reshape(-1, 3)
    keep = np.ones(len(values), bool)
    for _ in range(6):  # each time without what lies far off, the ink
        plane = np.linalg.lstsq(places[keep], values[keep], rcond=None)[0]
        off = np.abs(values - places @ plane)
        keep = off <= 2 * np.median(off) + 1e-3
    return (plane[1] * y[:, None] + plane[2] * x).astype(np.float32)


def without_grain(ink: Array) -> tuple[Array, float]:
    """The ink above the paper's own grain, which the closing counts as ink too; and how strong the grain is."""
    bare = ink[ink < 0.3 * float(smoothed(ink).max())]
    grain = float(np.median(bare)) if bare.size else 0.0
    return ink - grain, 1.5 * float(np.median(np.abs(bare - grain))) if bare.size else 0.0


def is_dark(dark: Array, light: Array) -> bool:
    """Whether the dark things (contrast by place) are the ink, and not the light ones.

    A picture's rim is mostly paper. Where it shows neither, strokes reach further than the gaps between them. Where
    that can't tell either, it is ink on paper, as most writing is.
    """
    least = 0.5 * max(float(smoothed(dark).max()), float(smoothed(light).max()))
    masks = [contrast > least for contrast in (dark, light)]
    rims = [float(np.concatenate([m[0], m[-1], m[1:-1, 0], m[1:-1, -1]]).mean()) for m in masks]
    if abs(rims[0] - rims[1]) > 0.15:
        return rims[0] < rims[1]
    reach = [_reach(mask) for mask in masks]
    return reach[0] >= 0.9 * reach[1]


def _reach(mask: Array) -> float:
    """The area of the box around what is True, what touches the rim left out."""
    labels = label(mask)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    rows, columns = np.nonzero(np.isin(labels, rim, invert=True))
    return float((np.ptp(rows) + 1) * (np.ptp(columns) + 1)) if rows.size else 0.0


def _channel(picture: Picture) -> Array:
    """Brightness; or that of red, green and blue that shows the ink where brightness hardly does: yellow on white."""
    grey = picture.grey
    if picture.pixels.shape[2] == 1 or np.ptp(smoothed(grey)) > 0.35:
        return grey
    return max((*np.moveaxis(picture.pixels, 2, 0), grey), key=lambda channel: float(np.ptp(smoothed(channel))))


def closing(grey: Array, size: int) -> Array:
    """Dark things narrower than `size` filled up: the largest value of each window, then of those the smallest."""
    grown = windowed(np.maximum, windowed(np.maximum, grey, size).T, size).T
    return -windowed(np.maximum, windowed(np.maximum, -grown, size).T, size).T


def windowed(largest: np.ufunc, x: Array, size: int) -> Array:
    """For each place of each column, the largest of `size` (an odd number, or one more) values around it.

    The largest of 2, of 4, of 8 values follows from the one before: the work grows with the size's logarithm.
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


def without_lines(strength: Array) -> Array:
    """Ink without what runs across the whole width: the lines of the paper. Strokes that cross a line stay whole."""
    mask = strength > 0.3
    height, width = mask.shape
    tilt = max(1, height // 100)
    spread = windowed(np.maximum, mask.astype(np.float32), 2 * tilt + 1)
    across = spread.mean(1) > LINE
    if not across.any():
        return strength
    near = windowed(np.maximum, np.repeat(across[:, None], width, 1).astype(np.float32), 2 * tilt + 1) > 0
    run = _vertical_runs(mask)
    thick = np.median(run[near & mask])
    if thick > max(3, THICK * min(mask.shape)):  # the bar of a 7 that fills the picture
        return strength
    cleaned = strength.copy()
    cleaned[near & (run <= 1.6 * thick + 1)] = 0
    return cleaned


def _vertical_runs(mask: Array) -> Array:
    """For each pixel how many in a row, up and down, are True with it; 0 where it is False."""

    def above(m: Array) -> Array:
        counts = np.zeros(m.shape, np.int32)
        counts[0] = m[0]
        for i in range(1, len(m)):
            counts[i] = (counts[i - 1] + 1) * m[i]
        return counts

    return (above(mask) + above(mask[::-1])[::-1] - 1) * mask
