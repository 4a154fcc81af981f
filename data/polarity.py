"""Whether pictures are dark on light, as on paper, or light on dark, as MNIST's are; asked of a picture by its rim.

A network that learned one of the two does not know the other. So a data set says which it is, or that its pictures are
of both kinds and brightness means something, as in photographs of day and night.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LIGHT_ON_DARK, DARK_ON_LIGHT = "light on dark", "dark on light"
MIXED, MIXED_INVERTED = "of both kinds", "of both kinds, inverted"
POLARITY = "polarity.txt"  # beside the four files: what was done to pictures on the way to them, KEPT or INVERTED
KEPT, INVERTED = "kept", "inverted"
FEW = 0.05  # of the pictures: fewer that are otherwise do not make a data set mixed
SAMPLE = 100  # pictures of a data set are asked


def rim_is_light(image: NDArray[np.floating]) -> bool:
    """Whether a small picture is dark on light: its rim is lighter than its middle; if all is one tone, it is light."""
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    difference = float(rim.mean() - image.mean())
    return difference > 0 if abs(difference) > 1e-3 else float(rim.mean()) > 0.5


def polarity_of(images: NDArray[np.uint8], inverted: bool | None = None) -> str:
    """The polarity of a data set's images (N, H, W), one of the four above.

    inverted  whether all its pictures were inverted when it was made. None: nobody knows, nor what was done to
              pictures; images of both kinds then count as light on dark
    """
    some = images[:: max(1, len(images) // SAMPLE)]
    if not len(some):
        return LIGHT_ON_DARK
    light = np.mean([rim_is_light(image / np.float32(255)) for image in some])
    if FEW < light < 1 - FEW:
        return LIGHT_ON_DARK if inverted is None else MIXED_INVERTED if inverted else MIXED
    return DARK_ON_LIGHT if light > 0.5 else LIGHT_ON_DARK


def was_inverted(folder: Path) -> bool | None:
    """Whether the pictures of a data set's folder were inverted on the way; None where it does not say."""
    path = folder / POLARITY
    said = path.read_bytes().strip() if path.is_file() and path.stat().st_size < 100 else b""
    return {INVERTED.encode(): True, KEPT.encode(): False}.get(said)
