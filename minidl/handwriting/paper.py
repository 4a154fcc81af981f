"""Where is the ink? A photograph of paper has shadows, a grey tone and noise; what is wanted is how dark the pen is.

The paper's own brightness at each place is found by a closing: every dark thing that is thinner than a window is
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
DIM = 0.2  # brightness: of paper that is darker than this, ink is not made stronger any more
DARK = 1 / 16  # of white: a picture with nothing lighter was not meant so
FAINT = 0.06  # contrast of 1: what is weaker than this is no ink but paper
UNEVEN = 0.02  # brightness: by so much half of the picture is off a plane where the light is curved
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
        why = ", all of it nearly black: scale numbers of 8 bits in a file of 16 to its full range" if black else ""
        raise ValueError(f"it is blank: nothing stands out from its background{why}")
    strength = np.clip(ink / top, 0, 1).astype(np.float32)
    return Ink(without_lines(without_frames(strength)), dark)


def lifted(grey: Array) -> tuple[Array, bool, float]:
    """The ink's contrast, whether it is dark, and the contrast that half of the picture has, by the best WINDOW.

    That is the smallest that is wider than the strokes: the smaller it is, the more shadows stay paper.
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
    """Whether a window of that size found whole strokes: they are thinner, and a wider one finds hardly more there."""
    top = float(smoothed(ink).max())
    if top < FAINT or ink.max() <= 0:
        return False
    whole = stroke_width(ink > 0.5 * top) < size / 2
    rows, columns = np.nonzero(ink > 0.7 * top)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)  # not the desk beside the paper
    most = 1.15 * len(rows)
    return bool(whole and np.count_nonzero(more[box] > 0.7 * top) < most and _grown(ink, more, top) < most)


def _grown(ink: Array, more: Array, top: float) -> int:
    """How many pixels the strokes have by a wider window that touch those found: what was found may be a notch only."""
    groups = label(more > 0.7 * top)
    there = groups[ink > 0.7 * top]
    if np.count_nonzero(there) < 0.5 * len(there):
        return more.size  # by the wider window, something else is the ink
    return int(np.isin(groups, there[there > 0]).sum())


def lifted_by(grey: Array, light: Array, size: int) -> tuple[Array, bool, float]:
    """The same by one window, in pixels."""
    paper, board = closing(grey - light, size) + light, light - closing(light - grey, size)
    dark = is_dark(grey - light, paper - grey, grey - board)
    # what the light is worth there: a stroke in the shadow is as dark a stroke
    ink = (paper - grey) / np.maximum(paper, DIM) if dark else (grey - board) / np.maximum(1 - board, DIM)
    ink, typical = without_grain(ink)
    return ink, dark, typical


def slope(grey: Array) -> Array:
    """The light's own course over most of the picture, its mean taken off: it falls off to one side, or to all.

    At a picture's edge a closing has one side only, and would take such a slope for ink. It is a plane; a curved
    surface (a flash, a dark rim) only where that fits far better.
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
    """The terms' factors that, beside a constant, make most of the values; and how far off half of all are."""
    made = np.stack([np.ones(len(values)), *terms], 1)
    keep, off = np.ones(len(values), bool), np.abs(values)
    factors = np.zeros(len(terms) + 1)
    for _ in range(6):  # each time without what lies far off, the ink
        factors = np.linalg.lstsq(made[keep], values[keep], rcond=None)[0]
        off = np.abs(values - made @ factors)
        keep = off <= 2 * np.median(off) + 1e-3
    return factors[1:], float(np.median(off))


def without_grain(ink: Array) -> tuple[Array, float]:
    """The ink above the paper's own grain, which the closing counts as ink too; and what half of the picture has."""
    bare = ink[ink < 0.3 * float(smoothed(ink).max())]
    return ink - (float(np.median(bare)) if bare.size else 0.0), float(np.median(ink))


def is_dark(grey: Array, dark: Array, light: Array) -> bool:
    """Whether the dark things (contrast by place) are the ink, and not the light ones.

    A picture's rim is mostly paper. Where it shows neither, ink is what differs from the rest of the picture: the gaps
    between strokes are as the paper is.
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
    """Brightness; or that of red, green and blue that shows the ink where brightness hardly does: yellow on white."""
    grey = picture.grey
    if picture.pixels.shape[2] == 1 or np.ptp(smoothed(grey)) > 0.35:
        return grey
    return max((*np.moveaxis(picture.pixels, 2, 0), grey), key=lambda channel: float(np.ptp(smoothed(channel))))
