"""Layers that the networks here do not need, but other programs do; and losses as modules. nn exports all of them."""

from __future__ import annotations

from typing import Any

from minidl import ops
from minidl.module import Module
from minidl.ops_more import check_approximate
from minidl.refuse import refuse_input
from minidl.tensor import Tensor


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x, in the shape of x (Maas et al. 2013)."""

    def __init__(self, negative_slope: float = 0.01, *more: Any, **other: Any) -> None:
        super().__init__(*more, **other)
        refuse_input("LeakyReLU", negative_slope)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class GELU(Module):
    """x Phi(x), in the shape of x; approximate="tanh" is faster and needs no SciPy (see ops.gelu)."""

    def __init__(self, approximate: str = "none") -> None:
        refuse_input("GELU", approximate)
        self.approximate = approximate
        check_approximate(approximate)

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """e^x / sum(e^x) along `dim`. A network trained with cross-entropy outputs logits and must not end with it."""

    def __init__(self, dim: int = -1, **other: Any) -> None:
        super().__init__(**other)
        refuse_input("Softmax", dim)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


# ---- losses ----


class CrossEntropyLoss(Module):
    """loss = CrossEntropyLoss()(logits, labels), logits (N, classes), labels (N,): see ops.cross_entropy.

    reduction        "mean", "sum", or "none" for one loss per example
    label_smoothing  in [0, 1], see there
    """

    def __init__(self, *more: Any, reduction: str = "mean", label_smoothing: float = 0.0, **other: Any) -> None:
        super().__init__(*more, **other)
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return ops.cross_entropy(logits, labels, reduction=self.reduction, label_smoothing=self.label_smoothing)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"


class MSELoss(Module):
    """loss = MSELoss()(prediction, target), both of the same shape: see ops.mse_loss.

    reduction  "mean", "sum", or "none" for the squared error of each element
    """

    def __init__(self, *more: Any, reduction: str = "mean", **other: Any) -> None:
        super().__init__(*more, **other)
        self.reduction = reduction

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return ops.mse_loss(prediction, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class BCEWithLogitsLoss(MSELoss):
    """loss = BCEWithLogitsLoss()(logits, target), both of the same shape: see ops.binary_cross_entropy_with_logits.

    reduction  as for MSELoss
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(prediction, target, reduction=self.reduction)
