"""Looking on while a model computes: what each layer puts out, and the gradient that comes back to it.

The output of each layer passes through an operation whose derivative is one, so that the gradient is noted on its way
back. Nothing is copied and no number changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def seen_layers(model: Module) -> Iterator[list[Seen]]:
    """What the layers of the model do inside the block, in the order of computation."""
    found: list[Seen] = []

    def see(name: str, layer: Module, y: Tensor) -> Tensor:
        seen = Seen(name, layer, y.data)
        found.append(seen)
        return record("watch", y.data, (y, seen.note)) if y.requires_grad else y

    with model.watched(see):
        yield found


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
