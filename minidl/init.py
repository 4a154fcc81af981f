"""Initial weights: random, and of the size that neither swells nor drowns the signal on its way through the layers.

They are drawn by NumPy on the host from a generator that is passed in, so that a seed means the same on every device.
"""

from __future__ import annotations

import numpy as np

from minidl.tensor import Tensor

Rng = np.random.Generator | int | None  # a generator, a seed, or None for fresh entropy


def initial_weights(shape: tuple[int, ...], fan_in: int, fan_out: int, init: str, rng: Rng) -> Tensor:
    """Weights from a normal distribution whose variance keeps the signal's size from layer to layer; or smaller ones.

    "he"       variance 2 / fan_in              He et al. 2015, eq. 10: a ReLU drops half of the signal
    "glorot"   variance 2 / (fan_in + fan_out)  Glorot & Bengio 2010, eq. 12
    "pytorch"  uniform between -b and b, b = 1 / sqrt(fan_in), variance 1 / (3 fan_in): the older habit (theirs, eq. 1)
               that PyTorch has kept
    """
    if init not in ("he", "glorot", "pytorch"):
        raise ValueError(f"init must be 'he', 'glorot' or 'pytorch', got {init!r}")
    generator = np.random.default_rng(rng)
    if init == "pytorch":
        values = generator.uniform(-(fan_in**-0.5), fan_in**-0.5, shape)
    else:
        variance = 2 / fan_in if init == "he" else 2 / (fan_in + fan_out)
        values = generator.normal(0, variance**0.5, shape)
    return Tensor(values.astype(np.float32), requires_grad=True)
