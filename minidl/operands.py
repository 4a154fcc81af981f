"""Checks of an operation's arguments: two Tensors that broadcast together, and the axes of a reduction."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minidl.grad_mode import recording
from minidl.telling import tell
from minidl.tensor import Dims, Tensor, alike, as_tensor, axes


def operands(op: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both as Tensors that broadcast together."""
    a = as_tensor(a, like=b)
    b = as_tensor(b, like=a)
    if type(a.data) is not type(b.data):
        alike(op, a, b, dtype=False)
    if a.shape != b.shape:
        together(op, a.shape, b.shape)
        if op in ("sub", "mul"):
            tell_column(op, a, b)
    return a, b


@lru_cache
def together(op: str, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError if these shapes do not broadcast."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as error:
        *others, last = map(str, shapes)
        raise ValueError(f"{op}: shapes {', '.join(others)} and {last} do not broadcast together") from error


def tell_column(op: str, a: Any, b: Any) -> None:
    """Warn of predictions (N, 1) with targets (N,): they broadcast silently to a loss over all N * N pairs."""
    if a.ndim + b.ndim != 3:
        return
    column, row = (a, b) if a.ndim == 2 else (b, a)
    n, learn = row.size, [t.requires_grad for t in (a, b) if isinstance(t, Tensor)]
    if n > 1 and column.shape == (n, 1) and sum(learn) == 1 and recording.get():
        tell(f"{op}: shapes {a.shape} and {b.shape} give ({n}, {n}), all pairs: for element by element give both the "
             "same shape, y[:, None] or t.squeeze(1); y[None, :] says that all pairs are meant")  # fmt: skip


def reduced(op: str, dim: Dims, ndim: int, keepdim: bool) -> tuple[int, ...]:
    """The axes of a reduction such as sum, with keepdim checked."""
    if not isinstance(keepdim, bool):  # as in x.sum(0, 1)
        raise TypeError(f"{op}: keepdim must be True or False, got {keepdim!r}; several axes are one dim, (0, 1)")
    if isinstance(dim, (Tensor, np.ndarray)):
        two = f"; for two arrays ops.{op}imum(a, b)" if op in ("max", "min") else ""
        raise TypeError(f"{op}: dim must be one or several axes, got an array{two}")
    return axes(op, dim, ndim)
