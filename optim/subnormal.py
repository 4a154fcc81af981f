"""Subnormal numbers, too small to matter but slow: why the twelfth epoch took a third longer than the first.

The momentum of a weight that no longer gets a gradient, such as that of a pixel that is black in nearly all images,
shrinks by a tenth each step. After some 750 steps it is below 1.2e-38, the smallest number that float32 holds with all
its digits. Below that are the subnormal numbers, down to 1.4e-45, with fewer and fewer digits. There it gets stuck,
because nine tenths of the smallest few rounds to the same number. They do not affect the weights, unless a rule divides
by them and by a tiny eps: then they stay. But a processor handles them in a slow path, forty times slower, at every
step. So from time to time they are set to zero. In compiled loops the processor itself takes 0 for them, in update
rules and in matrix products: see `ignore_subnormals` in minidl/fast/loops/words.py. PyTorch can have it do so
everywhere (torch.set_flush_denormal); on a GPU they cost nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import Array

EVERY = 32  # steps between two passes, so that they take less than a hundredth of the time of the updates


def means_nothing(eps: float, dtype: Any) -> bool:
    """Whether such numbers vanish in rounding beside the eps of a rule that divides by sqrt(v) + eps."""
    kind = np.finfo(dtype)
    return eps >= 64 * float(kind.tiny) ** 0.5 / float(kind.eps)  # float32: 6e-11; 64: for v / (1 - b2^t)


def flush(v: Array) -> None:
    """Set the subnormal numbers of a NumPy array to zero (float32: below 1.2e-38; float64: below 2.2e-308)."""
    v[np.abs(v) < np.finfo(v.dtype).tiny] = 0
