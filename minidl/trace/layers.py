"""Watching a model compute: each layer's output, and the gradient that comes back to it.

The output of each layer passes through an operation whose derivative is one, which notes the gradient on its way back.
Nothing is copied and no value changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidl import nn
from minidl.backend import Array
from minidl.nn import Module
from minidl.tensor import Node, Tensor, record

WATCH = "watch"  # the operation through which a layer's output passes


class WatchedLayer:
    """A layer's part in one step: its output and the gradient of the loss with respect to it.

    trains   whether a gradient can come back
    """

    def __init__(self, name: str, layer: Module, output: Array, called: list[str], trains: bool) -> None:
        self.name, self.layer, self.output, self.called, self.trains = name, layer, output, called, trains
        self.gradient: Array | None = None

    def note(self, g: Array) -> Array:
        """The derivative of passing through."""
        self.gradient = g
        return g


@contextmanager
def watched_layers(model: Module) -> Iterator[list[WatchedLayer]]:
    """The model's layers as they compute inside the block, in order."""
    found: list[WatchedLayer] = []
    told: set[Node] = set()

    def see(name: str, layer: Module, y: Tensor) -> Tensor:
        ours = getattr(nn, type(layer).__name__, None) is type(layer)
        seen = WatchedLayer(name, layer, y.data, called_before(y, told) if ours else [], y.requires_grad)
        found.append(seen)
        return record(WATCH, y.data, (y, seen.note)) if y.requires_grad else y

    with model.watched(see):
        yield found


def called_before(y: Tensor, told: set[Node]) -> list[str]:
    """The operations between the previous layers and this one, whose output is y: what the model called as functions,
    such as `x.relu()` or a sum of two branches. The library's layers are one operation each, so y's own is the layer.

    told  the operations already named for an earlier layer, which are not named again; the new ones are added
    """
    names: list[str] = []
    todo = [] if y.node is None or y.node.name == WATCH else [parent for parent, _ in y.node.edges or ()]
    while todo:
        node = todo.pop().node
        if node is not None and node.name != WATCH and node not in told:
            told.add(node)
            names.append(node.name)
            todo += [parent for parent, _ in node.edges or ()]
    return names[::-1]


def describe(seen: WatchedLayer) -> dict[str, Any]:
    """A layer's name, kind, arguments, the shape of its output for one example, its parameters, and what was called
    as a function before it."""
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
        "called": seen.called,
    }
