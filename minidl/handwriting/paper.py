"""Where is the ink? A photograph of paper has shadows, a grey tone and noise; what we want is how dark the pen is.

The paper's own brightness at each pixel is found by a morphological closing: every dark thing narrower than a window is
filled with the brightness around it, while a shadow, which is wider, stays. Ink is what the closing has filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from minidl.backend import Array
from minidl.data.pictures import Picture
from minidl.handwriting.connected import label
from minidl.handwriting.desk import without_desk
from minidl.handwriting.filters import closing, smoothed
from minidl.handwriting.frame import stroke_width
from minidl.handwriting.pieces import without_frames
from minidl.handwriting.ruled import without_lines

WINDOWS = (0.06, 0.12, 0.25)  # of the longer side: wider than a stroke, narrower than a shadow
DIM = 0.2  # brightness: on paper darker than this, ink is not amplified further
DARK = 1 / 16  # of white: a picture with nothing lighter is probably a mistake
FAINT = 0.06  # contrast, of 1: anything weaker is paper, not ink
UNEVEN = 0.02  # brightness: half of the picture is this far off a plane where the light is curved
GRAINY = 0.3  # contrast: weaker ink must stand out from the grain of the paper


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written in a picture.

    strength  float32 (H, W) in [0, 1]: 0 paper, 1 the darkest stroke
    dark      whether the ink is darker than what it stands on
    """

    strength: Array
    dark: bool


def find_ink(picture: Picture) -> Ink:
    """The ink of a picture on its paper, dark on light or light on dark, without the paper's lines and printed boxes.

    Raises ValueError where nothing stands out.
    """
    grey = without_desk(_channel(picture))
    if np.median(np.abs(grey - smoothed(grey))) > 0.005:  # grain, which a closing would take for ink
        grey = smoothed(smoothed(grey))
    ink, dark, typical = lifted(grey)
    top = float(smoothed(ink).max())
    if top < FAINT or (top < GRAINY and top < 3 * typical):
        black = 0 < float(picture.grey.max()) <= DARK
        why = ", all is nearly black: scale 8-bit values in a 16-bit file to the full range" if black else ""
        raise ValueError(f"it is blank: nothing stands out from its background{why}")
    strength = np.clip(ink / top, 0, 1).astype(np.float32)
    return Ink(without_lines(without_frames(strength)), dark)


def lifted(grey: Array) -> tuple[Array, bool, float]:
    """The ink's contrast, whether it is dark, and the picture's median contrast, by the best of WINDOWS.

    That is the smallest that is wider than the strokes: the smaller the window, the fewer shadows count as ink.
    """
    light, longer = slope(grey), max(grey.shape)
    sizes = [max(3, int(share * longer)) for share in WINDOWS]
    found = lifted_by(grey, light, sizes[0])
    for size, wider in pairwise(sizes):
        more = lifted_by(grey, light, wider)
        if has_all(found[0], more[0], size):
            break
        found = more
    return found


def has_all(ink: Array, more: Array, size: int) -> bool:
    """Whether a window of that size found whole strokes: they are thinner, and a wider one finds little more there."""
    top = float(smoothed(ink).max())
    if top < FAINT or ink.max() <= 0:
        return False
    whole = stroke_width(ink > 0.5 * top) < size / 2
    rows, columns = np.nonzero(ink > 0.7 * top)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)  # not the desk beside the paper
    most = 1.15 * len(rows)
    return bool(whole and np.count_nonzero(more[box] > 0.7 * top) < most and _grown(ink, more, top) < most)


def _grown(ink: Array, more: Array, top: float) -> int:
    """How many pixels a wider window gives the strokes that touch those found, which may be only a notch."""
    groups = label(more > 0.7 * top)
    there = groups[ink > 0.7 * top]
    if np.count_nonzero(there) < 0.5 * len(there):
        return more.size  # for the wider window, something else is the ink
    return int(np.isin(groups, there[there > 0]).sum())


def lifted_by(grey: Array, light: Array, size: int) -> tuple[Array, bool, float]:
    """The same as `lifted`, by one window of that size in pixels."""
    paper, board = closing(grey - light, size) + light, light - closing(light - grey, size)
    dark = is_dark(grey - light, paper - grey, grey - board)
    # relative to the light there: a stroke in the shadow counts the same
    ink = (paper - grey) / np.maximum(paper, DIM) if dark else (grey - board) / np.maximum(1 - board, DIM)
    ink, typical = without_grain(ink)
    return ink, dark, typical


def slope(grey: Array) -> Array:
    """The variation of the light over most of the picture, without its mean: it falls off to one side, or to all.

    At a picture's edge a closing sees one side only, and would take such a slope for ink. It is fitted by a plane, or,
    where that fits far better, by a curved surface (a flash, a dark rim).
    """
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in grey.shape)
    few = tuple(np.unique(np.linspace(0, n - 1, 60).astype(int)) for n in grey.shape)
    values = grey[np.ix_(*few)].ravel()
    v, u = (each.ravel() for each in np.meshgrid(y[few[0]], x[few[1]], indexing="ij"))
    plane, off = _fitted(values, v, u)
    if off < UNEVEN:
        return (plane[0] * y[:, None] + plane[1] * x).astype(np.float32)
    bowl, closer = _fitted(values, v, u, v * v, u * u, u * v)
    if closer > 0.5 * off:
        return (plane[0] * y[:, None] + plane[1] * x).astype(np.float32)
    down, across = bowl[0] * y + bowl[2] * y * y, bowl[1] * x + bowl[3] * x * x
    light = down[:, None] + across + bowl[4] * y[:, None] * x
    return (light - light.mean()).astype(np.float32)


def _fitted(values: Array, *terms: Array) -> tuple[Array, float]:
    """Coefficients of the terms, with a constant, in a robust fit of the values; and the median absolute residual."""
    made = np.stack([np.ones(len(values)), *terms], 1)
    keep, off = np.ones(len(values), bool), np.abs(values)
    factors = np.zeros(len(terms) + 1)
    for _ in range(6):  # each time without outliers, the ink
        factors = np.linalg.lstsq(made[keep], values[keep], rcond=None)[0]
        off = np.abs(values - made @ factors)
        keep = off <= 2 * np.median(off) + 1e-3
    return factors[1:], float(np.median(off))


def without_grain(ink: Array) -> tuple[Array, float]:
    """The ink above the paper's own grain, which the closing counts as ink too; and the picture's median ink."""
    bare = ink[ink < 0.3 * float(smoothed(ink).max())]
    return ink - (float(np.median(bare)) if bare.size else 0.0), float(np.median(ink))


def is_dark(grey: Array, dark: Array, light: Array) -> bool:
    """Whether the dark things (contrast per pixel) are the ink, and not the light ones.

    A picture's rim is mostly paper. Where the rim does not tell, ink is what differs from the rest of the picture: the
    gaps between strokes look like paper.
    """
    least = 0.5 * max(float(smoothed(dark).max()), float(smoothed(light).max()))
    masks = [contrast > least for contrast in (dark, light)]
    rims = [float(np.concatenate([m[0], m[-1], m[1:-1, 0], m[1:-1, -1]]).mean()) for m in masks]
    if abs(rims[0] - rims[1]) > 0.15:
        return rims[0] < rims[1]
    rest = grey[~(masks[0] | masks[1])]
    tone = float(np.median(rest)) if rest.size else 0.5
    differ = [abs(float(grey[mask].mean()) - tone) if mask.any() else 0.0 for mask in masks]
    return differ[0] >= differ[1]


def _channel(picture: Picture) -> Array:
    """Brightness; or the channel, red, green or blue, that shows ink where brightness hardly does: yellow on white."""
    grey = picture.grey
    if picture.pixels.shape[2] == 1 or np.ptp(smoothed(grey)) > 0.35:
        return grey
    return max((*np.moveaxis(picture.pixels, 2, 0), grey), key=lambda channel: float(np.ptp(smoothed(channel))))
