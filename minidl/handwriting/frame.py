"""A digit framed as MNIST's are: its longer side 20 of 28 pixels, grey at the edges, its centre of mass in the middle.

LeCun, Cortes and Burges did this to NIST's black-and-white scans (http://yann.lecun.com/exdb/mnist/), so a network
that learned MNIST has never seen a digit that stands elsewhere or is of another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl.backend import Array

EDGE = 0.25  # of the darkest stroke: where a digit's box begins
FINE = 6  # pixels of the enlarged digit for one of the frame, when strokes are made thicker
THIN, STROKE = 1.9, 2.3  # pixels of the frame: a stroke thinner than THIN is made STROKE wide


@dataclass(frozen=True)
class Frame:
    """How the digits of a data set stand in their images.

    box      of the image's side: how long a digit's longer side is
    by_mass  whether the centre of mass is in the middle, else the middle of its box
    """

    box: float
    by_mass: bool


MNIST = Frame(20 / 28, by_mass=True)
EMNIST = Frame(24 / 28, by_mass=False)  # Cohen et al. 2017, https://arxiv.org/abs/1702.05373, section II


def framed(ink: Array, size: tuple[int, int] = (28, 28), frame: Frame = MNIST) -> Array:
    """The ink of one digit (H, W), 0 to 1, as a picture of `size` (height, width). float32, 0 to 1."""
    rows, columns = (np.flatnonzero((ink > EDGE).any(axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros(size, np.float32)
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = max(1, round(frame.box * min(size)))
    digit = with_strokes(scaled(digit, longer * FINE), FINE)
    small = scaled(digit, longer)
    full = float(np.percentile(small[small > 0.1], 90)) if (small > 0.1).any() else 1.0
    return centred(np.clip(small / full, 0, 1), size, frame.by_mass)


def scaled(digit: Array, longer: int) -> Array:
    """The digit with its longer side so many pixels long."""
    scale = longer / max(digit.shape)
    return resized(digit, tuple(max(1, round(n * scale)) for n in digit.shape))


def with_strokes(digit: Array, unit: int) -> Array:
    """A digit with strokes of MNIST's width where they are thinner; `unit` pixels are one of the frame.

    Averaged down, the line of a thin pen would be a pale grey that no network has learned.
    """
    width = stroke_width(digit > 0.4)
    if width >= THIN * unit:
        return digit
    radius = max(1, round((STROKE * unit - width) / 2))
    padded = np.pad(digit, radius)
    grown = np.zeros_like(padded)
    for dy in range(-radius, radius + 1):
        reach = int((radius**2 - dy**2) ** 0.5)
        for dx in range(-reach, reach + 1):
            np.maximum(grown, np.roll(padded, (dy, dx), (0, 1)), out=grown)
    return grown


def stroke_width(mask: Array) -> float:
    """How wide a stroke is, in pixels: a long band has twice its area for its outline times its width."""
    padded = np.pad(mask, 1)
    outline = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return 2 * np.count_nonzero(mask) / max(1.0, outline * np.pi / 4)  # steps along a slope are longer than the slope


def centred(digit: Array, size: tuple[int, int], by_mass: bool = True) -> Array:
    """The digit in the middle of an image of that size, moved by whole pixels: its centre of mass, or its box's."""
    frame = np.zeros(size, np.float32)
    at = []
    for axis, n in enumerate(size):
        mass = digit.sum(1 - axis) if by_mass else np.ones(digit.shape[axis])
        middle = float((mass * (np.arange(len(mass)) + 0.5)).sum() / max(float(mass.sum()), 1e-6))
        at.append(int(np.clip(round(n / 2 - middle), 0, max(0, n - len(mass)))))
    (top, left), (height, width) = at, digit.shape
    frame[top : top + height, left : left + width] = digit[: size[0] - top, : size[1] - left]
    return frame


def resized(image: Array, size: tuple[int, ...]) -> Array:
    """A picture (H, W) of floats in another size (height, width): each pixel the mean of what it covers."""
    from PIL import Image  # here: whoever imports this need not have read a picture

    how = Image.Resampling.BOX if max(image.shape) > max(size) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((size[1], size[0]), how))
