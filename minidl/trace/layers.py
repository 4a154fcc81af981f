"""Looking on while a model computes: what each layer puts out, and the gradient that comes back to it.

Each layer's `forward` gets a companion that notes the output and lets it pass through an operation whose derivative is
one, so that the gradient is noted on its way back. Nothing is copied and no number changes. The arrays are held only
until the next step begins: they are in nobody's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.backend import Array
from minidl.nn import Module
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
        self.seen: list[Seen] = []
        self.active = False
        for name, layer in self.layers:
            layer.forward = self._watched(name, layer, layer.forward)  # type: ignore[assignment, method-assign]

    def _watched(self, name: str, layer: Module, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def watched(x: Tensor) -> Tensor:
            y = forward(x)
            if not self.active:
                return y
            seen = Seen(name, layer, y.data)
            self.seen.append(seen)
            return record("watch", y.data, (y, seen.note)) if y.requires_grad else y

        return watched

    def begin(self) -> None:
        """A step begins."""
        self.seen, self.active = [], True

    def end(self) -> None:
        """It is over; what was seen stays until the next."""
        self.active = False

    def remove(self) -> None:
        """Leave the model as it was."""
        self.active, self.seen = False, []
        for _, layer in self.layers:
            vars(layer).pop("forward", None)


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
