"""Divergence: detect that the loss is no longer finite, and report where that started."""

from __future__ import annotations

from minidl.backend import Array, kernel_for, read_together, xp_of
from minidl.grad_mode import no_grad
from minidl.module import Module
from minidl.optim import Optimizer
from minidl.tensor import Tensor


class Diverged(ArithmeticError):
    """The loss is no longer finite. The message names the step, the learning rate and the first layer affected."""


def diverged(step: int, what: str, rate: float, model: Module | None = None, x: Tensor | None = None) -> Diverged:
    """The error to raise. Given the model and a batch x, it names the first layer whose output is not finite, or the
    number of images that are not."""
    where = ""
    if x is not None and (bad := _not_finite(x)):
        which = f"{bad} of this batch's {len(x)} images hold a NaN or an infinity"
        return Diverged(f"training diverged at step {step}: {what}; {which}: remove these, or replace the values")
    if model is not None and x is not None:
        where = f"; the first output that is not finite is that of {first_non_finite(model, x)}"
    return Diverged(f"training diverged at step {step}: {what}, learning rate {rate:g}{where}. Try a smaller --lr")


def first_non_finite(model: Module, x: Tensor) -> str:
    """The first layer, in the order of computation, whose output for x contains a NaN or an infinity, in words."""
    found: list[str] = []

    def see(name: str, layer: Module, y: Tensor) -> Tensor:
        if not found and not bool(xp_of(y.data).isfinite(y.data).all()):
            found.append(f"layer {name}, {layer!r}")
        return y

    with no_grad(), model.watched(see):
        model(x)
    return found[0] if found else "the loss"


def _not_finite(x: Tensor) -> int:
    """The number of images of a batch (N, ...) that contain a NaN or an infinity."""
    return int((~xp_of(x.data).isfinite(x.data)).reshape(len(x), -1).any(1).sum())


def check_weights(model: Module, step: int, rate: float) -> None:
    """Raise Diverged if a weight is not finite: the last step was too large, although its loss was finite."""
    owned = [
        (f"{name} of layer {path}, {module!r}", value.data)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    xp = xp_of(owned[0][1])
    finite = read_together(xp, [xp.isfinite(values).all() for _, values in owned])
    for (what, _), good in zip(owned, finite, strict=True):
        if not good:
            raise diverged(step, f"{what}, has a value that is not finite", rate)


class LastGoodWeights:
    """The weights that gave the last finite loss, or the first non-finite one, kept without waiting for the device.

    By the time the losses are read, a NaN has spread to all weights. With these weights, first_non_finite can still
    find where it started.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        assert optimizer.flat is not None, "a Trainer's optimizer has the model's parameters"
        self.flat = optimizer.flat
        self.w: Array = self.flat.w.copy()
        self.good: Array = self.flat.xp.ones((), bool)  # whether all losses so far were finite

    def watch(self, loss: Array) -> None:
        """Before a step: keep the weights, unless an earlier loss was not finite."""
        xp, kernel = self.flat.xp, kernel_for(loss, "keep_if")
        if kernel is None or kernel(self.w, self.flat.w, self.good, loss) is NotImplemented:
            xp.copyto(self.w, self.flat.w, where=self.good)
            self.good &= xp.isfinite(loss)

    def restore(self) -> None:
        """Put these weights back into the model."""
        self.flat.w[...] = self.w
