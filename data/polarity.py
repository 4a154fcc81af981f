"""Whether images are dark on light, as on paper, or light on dark, as in MNIST; decided by an image's rim.

A network that learned one of the two does not know the other. So a data set records which it is, or that its images are
of both kinds and brightness means something, as in photographs of day and night.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LIGHT_ON_DARK, DARK_ON_LIGHT = "light on dark", "dark on light"
MIXED, MIXED_INVERTED = "of both kinds", "of both kinds, inverted"
POLARITY = "polarity.txt"  # beside the four files: what was done to the images, KEPT or INVERTED
KEPT, INVERTED = "kept", "inverted"
FEW = 0.05  # of the images: fewer of the other kind do not make a data set mixed
SAMPLE = 100  # images of a data set are checked


def rim_is_light(image: NDArray[np.floating]) -> bool:
    """Whether a small image is dark on light: its rim is lighter than the whole; if of one tone, that is light."""
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    difference = float(rim.mean() - image.mean())
    return difference > 0 if abs(difference) > 1e-3 else float(rim.mean()) > 0.5


def polarity_of(images: NDArray[np.uint8], inverted: bool | None = None) -> str:
    """The polarity of a data set's images (N, H, W), one of the four above.

    inverted  whether all its images were inverted when it was made. None: not known; images of both kinds then count
              as light on dark
    """
    some = images[:: max(1, len(images) // SAMPLE)]
    if not len(some):
        return LIGHT_ON_DARK
    light = np.mean([rim_is_light(image / np.float32(255)) for image in some])
    if FEW < light < 1 - FEW:
        return LIGHT_ON_DARK if inverted is None else MIXED_INVERTED if inverted else MIXED
    return DARK_ON_LIGHT if light > 0.5 else LIGHT_ON_DARK


def was_inverted(folder: Path) -> bool | None:
    """Whether the images in a data set's folder were inverted when it was made; None where it does not say."""
    path = folder / POLARITY
    said = path.read_bytes().strip() if path.is_file() and path.stat().st_size < 100 else b""
    return {INVERTED.encode(): True, KEPT.encode(): False}.get(said)
