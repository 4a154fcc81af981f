"""What is kept of an array: an image in 64 shades, and a histogram. Little is copied during training.

A histogram is made of 4,096 values at random positions, the same at each step. The eye sees no difference, and sampling
costs a fraction of a pass over the array. All that can be deferred is done later.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.backend import Array, backend_of, to_numpy, xp_of

SAMPLE = 4096  # values that a histogram is made of
BARS = 32
SHADES = 64
LOST = 255  # the shade of a NaN or an infinity
AREA = 3136  # most values in the image of a layer: four maps of 28 x 28
MAPS = 8  # most maps of a convolution's output


@lru_cache(maxsize=256)
def _places(shape: tuple[int, ...]) -> tuple[Array, ...]:
    size = math.prod(shape)
    return np.unravel_index(np.sort(np.random.default_rng(size).integers(0, size, SAMPLE)), shape)


def sample(array: Array) -> Array:
    """A copy of up to SAMPLE of the array's values."""
    if array.size <= SAMPLE:
        return array.reshape(-1).copy()
    to_device = backend_of(array).from_host
    return array[tuple(to_device(i) for i in _places(array.shape))]


def histogram(values: Array) -> dict[str, Any]:
    """Bars from 0 to 255 of a sample's nonzero values; the mean with zeros; the shares of zeros and of non-finite."""
    values = to_numpy(values)
    finite = values[np.isfinite(values)]
    others, n = finite[finite != 0], max(1, len(values))
    low, high = (float(others.min()), float(others.max())) if len(others) else (0.0, 0.0)
    # np.histogram does this too, but at five times the cost, and there are a thousand histograms in a recording.
    scaled = (others - low) * (BARS / (high - low)) if high > low else np.full(len(others), BARS / 2)
    counts = np.bincount(scaled.astype(np.int64).clip(0, BARS - 1), minlength=BARS)
    return {
        "bars": np.ceil(counts * 255 / max(1, int(counts.max()))).astype(np.uint8),
        "low": low,
        "high": high,
        "mean": float(finite.mean(dtype=np.float64)) if len(finite) else 0.0,
        "zero": (len(finite) - len(others)) / n,
        "lost": (len(values) - len(finite)) / n,
    }


def shades(values: Array) -> dict[str, Any]:
    """An array as shades: 0 is `low`, SHADES - 1 is `high`, LOST is not finite."""
    values = to_numpy(values).astype(np.float64)
    good = np.isfinite(values)
    low, high = (float(values[good].min()), float(values[good].max())) if good.any() else (0.0, 0.0)
    scaled = np.where(good, values - low, 0) * ((SHADES - 1) / (high - low) if high > low else 0)
    return {"pixels": np.where(good, np.round(scaled), LOST).astype(np.uint8), "low": low, "high": high}


def maps(array: Array, example: Any) -> Array:
    """A copy of a layer's values for one example of the batch, cropped to what a page shows: (maps, height, width)."""
    one = array[example]
    if one.ndim == 3:
        return one[: max(1, min(MAPS, AREA // max(1, one[0].size)))].copy()
    return one.reshape(1, 1, -1)[:, :, :AREA].copy()


def dead(array: Array) -> Any:
    """How many units (channels of maps) of a ReLU are zero for the whole batch; a 0-d array on the array's device."""
    axes = (0,) if array.ndim == 2 else (0, *range(2, array.ndim))
    return (array.max(axis=axes) <= 0).sum() if array.ndim > 1 else xp_of(array).asarray(0)
