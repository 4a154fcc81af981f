"""A digit framed as MNIST's are: its longer side 20 of 28 pixels, grey at the edges, its centre of mass in the middle.

LeCun, Cortes and Burges did this to NIST's black-and-white scans (http://yann.lecun.com/exdb/mnist/), so a network
trained on MNIST has never seen a digit in another place or of another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl.backend import Array

EDGE = 0.25  # of the darkest stroke: where a digit's box starts
FINE = 6  # pixels of the enlarged digit per pixel of the frame, when strokes are made thicker
THIN, STROKE = 1.9, 2.3  # pixels of the frame: a stroke thinner than THIN is made STROKE wide


@dataclass(frozen=True)
class Framing:
    """How the digits of a data set are placed in their images.

    box      length of a digit's longer side, as a fraction of the image's side
    by_mass  whether the centre of mass is at the image's middle pixel (of 28 the 15th, so at 14.5), as measured on
             MNIST, 14.5 with a deviation of 0.3; else the middle of its box is the image's middle
    """

    box: float
    by_mass: bool


MNIST = Framing(19.5 / 28, by_mass=True)  # 20 pixels, with the grey ones at the edges
EMNIST = Framing(24 / 28, by_mass=False)  # Cohen et al. 2017, https://arxiv.org/abs/1702.05373, section II


def framed(ink: Array, size: tuple[int, int] = (28, 28), frame: Framing = MNIST) -> Array:
    """The ink of one digit (H, W), 0 to 1, as an image of `size` (height, width). float32, 0 to 1."""
    rows, columns = (np.flatnonzero((ink > EDGE).any(axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros(size, np.float32)
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = frame.box * min(size)
    digit = with_strokes(scaled(digit, round(longer * FINE)), FINE)
    image = in_the_middle(digit, size, max(digit.shape) / longer, frame.by_mass)
    full = float(np.percentile(image[image > 0.1], 90)) if (image > 0.1).any() else 1.0
    return np.clip(image / full, 0, 1)


def scaled(digit: Array, longer: int) -> Array:
    """The digit resized so that its longer side has this many pixels."""
    scale = longer / max(digit.shape)
    return resized(digit, tuple(max(1, round(n * scale)) for n in digit.shape))


def with_strokes(digit: Array, unit: int) -> Array:
    """A digit with thin strokes widened to MNIST's width; `unit` pixels are one of the frame.

    Averaged down, the line of a thin pen would be a pale grey that no network has seen in training.
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
    return 2 * np.count_nonzero(mask) / max(1.0, outline * np.pi / 4)  # steps along a slope are longer than it


def in_the_middle(digit: Array, size: tuple[int, int], unit: float, by_mass: bool) -> Array:
    """The digit in an image of `size` (height, width), its centre of mass, or its box's, in the middle: see Framing.

    unit  pixels of the digit per pixel of the image, which is the mean of what it covers
    """
    from PIL import Image  # here: importing this file need not import Pillow

    middle = [n / 2 for n in digit.shape]
    if by_mass and digit.any():
        middle = [float(np.average(np.arange(n) + 0.5, weights=digit.sum(1 - i))) for i, n in enumerate(digit.shape)]
    around = [int(unit * n) + 1 for n in size]  # enough black around it for the frame
    if by_mass:
        middle = [m - unit * (n // 2 + 0.5 - n / 2) for m, n in zip(middle, size, strict=True)]
    y, x = (m + black for m, black in zip(middle, around, strict=True))
    h, w = (unit * n / 2 for n in size)
    wide = Image.fromarray(np.pad(digit, [(n, n) for n in around]).astype(np.float32))
    return np.asarray(wide.resize((size[1], size[0]), Image.Resampling.BOX, box=(x - w, y - h, x + w, y + h)))


def resized(image: Array, size: tuple[int, ...]) -> Array:
    """A float image (H, W) resized to `size` (height, width): each pixel the mean of what it covers."""
    from PIL import Image

    how = Image.Resampling.BOX if max(image.shape) > max(size) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((size[1], size[0]), how))
