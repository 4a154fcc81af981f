"""Initial weights: random, scaled so that the signal neither grows nor shrinks from layer to layer.

NumPy draws them on the host from a generator passed as an argument, so a seed gives the same weights on every device.
For weights drawn without a seed a checksum is kept: a Trainer reports it if training starts from them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from minidl.backend import to_numpy
from minidl.rng import Rng, generator_of, repeatable
from minidl.tensor import Tensor


def check_sizes(layer: str, **sizes: Any) -> None:
    """Raise TypeError for a size that is not a whole number, ValueError for one below 1."""
    for name, n in sizes.items():
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"{layer}: {name} must be a whole number, got {n!r}")
        if n < 1:
            raise ValueError(f"{layer}: {name} must be 1 or more, got {n}")


def initial_weights(shape: tuple[int, ...], fan_in: int, fan_out: int, init: str, rng: Rng) -> Tensor:
    """Weights from a normal distribution whose variance preserves the signal's size from layer to layer, or smaller.

    "kaiming"  variance 2 / fan_in              He et al. 2015, eq. 10: a ReLU drops half of the signal
    "xavier"   variance 2 / (fan_in + fan_out)  Glorot & Bengio 2010, eq. 12
    "pytorch"  uniform in (-b, b), b = 1 / sqrt(fan_in), variance 1 / (3 fan_in): the older heuristic (eq. 1 of Glorot &
               Bengio) that is still PyTorch's default
    """
    if init not in ("kaiming", "xavier", "pytorch"):
        now = {"he": " (he is kaiming now)", "glorot": " (glorot is xavier now)"}.get(str(init), "")
        raise ValueError(f"init must be 'kaiming', 'xavier' or 'pytorch', got {init!r}{now}")
    generator = generator_of(rng)
    if init == "pytorch":
        values = generator.uniform(-(fan_in**-0.5), fan_in**-0.5, shape)
    else:
        variance = 2 / fan_in if init == "kaiming" else 2 / (fan_in + fan_out)
        values = generator.normal(0, variance**0.5, shape)
    return Tensor(values.astype(np.float32), requires_grad=True)


def drawn_by_chance(weight: Tensor, rng: Rng) -> int | None:
    """A checksum of weights that were drawn from fresh entropy, which no seed repeats; None if a seed does."""
    return None if repeatable(rng) else crc_of(weight)


def crc_of(weight: Tensor) -> int:
    """CRC-32 of the values as float32: the checksum of `drawn_by_chance`."""
    return zlib.crc32(np.ascontiguousarray(to_numpy(weight.data), np.float32).tobytes())
