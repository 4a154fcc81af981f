"""Clipping: a gradient with too large a norm is scaled down and keeps its direction (Pascanu et al. 2013)."""

from __future__ import annotations

from minidl.backend import Array, kernel_for


def clip(g: Array, max_norm: float) -> None:
    """g <- g min(1, max_norm / (|g| + 1e-6)), in place, as torch.nn.utils.clip_grad_norm_ does.

    The norm stays on the device as a 0-d array: nothing waits for the GPU.
    """
    kernel = kernel_for(g, "clip")
    if kernel is None or kernel(g, max_norm) is NotImplemented:
        norm = g.dot(g) ** 0.5
        g *= (max_norm / (norm + 1e-6)).clip(None, 1.0)
