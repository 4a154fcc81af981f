"""Looking on while a model computes: what each layer puts out, and the gradient that comes back to it.

Each layer's `forward` gets a companion that notes the output and lets it pass through an operation whose derivative is
one, so that the gradient is noted on its way back. Nothing is copied and no number changes. The arrays are held only
until the next step begins: they are in nobody's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.backend import Array
from minidl.nn import Module, Sequential
from minidl.tensor import Tensor, record


class Seen:
    """A layer's part in one step: its output and the gradient of the loss with respect to it."""

    def __init__(self, name: str, layer: Module, output: Array) -> None:
        self.name, self.layer, self.output = name, layer, output
        self.gradient: Array | None = None

    def note(self, g: Array) -> Array:
        """The derivative of passing through."""
        self.gradient = g
        return g


class Watch:
    """Watches all layers of a model between `begin()` and `end()`; `seen` has them in the order of computation."""

    def __init__(self, model: Module) -> None:
        self.layers = [(name, layer) for name, layer in model.named_modules() if not list(layer.named_children())]
        self.together = any(
            len(piece) > 1
            for _, module in model.named_modules()
            if isinstance(module, Sequential)
            for piece in module.pieces()
        )
        self.seen: list[Seen] = []
        self.own: list[Any] = []  # the layers' `forward` attributes, if they have any of their own

    def _watched(self, name: str, layer: Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def watched(x: Tensor) -> Tensor:
            y = forward(x)
            seen = Seen(name, layer, y.data)
            self.seen.append(seen)
            return record("watch", y.data, (y, seen.note)) if y.requires_grad else y

        return watched

    def begin(self, wanted: bool = True) -> None:
        """A step begins. Layers that are done together are slower one by one: then only where they are `wanted`."""
        self.seen = []
        if wanted or not self.together:
            self.own = [vars(layer).get("forward") for _, layer in self.layers]
            for name, layer in self.layers:
                layer.forward = self._watched(name, layer, layer.forward)  # type: ignore[assignment, method-assign]

    def end(self) -> None:
        """It is over, and the model as it was; what was seen stays until the next."""
        for (_, layer), own in zip(self.layers, self.own, strict=False):
            vars(layer).pop("forward", None)
            if own is not None:
                layer.forward = own  # type: ignore[method-assign]
        self.own = []

    def remove(self) -> None:
        """End, and forget what was seen."""
        self.end()
        self.seen = []


def describe(seen: Seen) -> dict[str, Any]:
    """A layer's name, kind, arguments, the shape of its output for one example, and its parameters."""
    own = {
        f"{seen.name}.{name}" if seen.name else name: list(value.shape)
        for name, value in vars(seen.layer).items()
        if isinstance(value, Tensor) and value.requires_grad
    }
    return {
        "name": seen.name,
        "kind": type(seen.layer).__name__,
        "arguments": seen.layer.extra_repr(),
        "shape": list(seen.output.shape[1:]),
        "parameters": own,
    }
