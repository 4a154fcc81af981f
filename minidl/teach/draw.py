"""Draws a computation graph: what `backward()` walks through, as SVG, without any other program.

Each tensor is a box with its operation, its values and its gradient; arrows show what it was computed from. The boxes
are in layers, inputs on the left: an operation is one layer to the right of its last input. Within a layer each box
moves to the middle of its neighbours, which keeps most arrows from crossing (Sugiyama, Tagawa & Toda 1981).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from minidl.backend import Array
from minidl.tensor import Tensor, _edges, _fit, _seed, _topological_order

CHAR, LINE, PAD, GAP_X, GAP_Y = 6.65, 15, 6, 26, 14  # pixels: a monospaced letter, a line of text, the gaps
LEAF, INNER, LOSS = "#dfeaf6", "#ffffff", "#fbe3e3"  # fills


@dataclass(eq=False)
class Box:
    """A tensor in the drawing, or a stop where an arrow passes through a layer: as wide as that, without text."""

    lines: list[str]
    fill: str = INNER
    tensor: Tensor | None = None
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    passing: float = 0.0  # a stop's width
    inputs: list[Box] = field(default_factory=list)
    outputs: list[Box] = field(default_factory=list)

    @property
    def width(self) -> float:
        return CHAR * max(map(len, self.lines)) + 2 * PAD if self.lines else self.passing

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + PAD if self.lines else 0


class Drawing:
    """A drawn graph. A notebook shows it; `save("graph.svg")` writes it; `print` gives it as text."""

    def __init__(self, svg: str, text: str) -> None:
        self.svg, self.text = svg, text

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the drawing as an SVG file."""
        Path(path).write_text(self.svg, encoding="utf-8")


def graph(root: Tensor, with_gradients: bool = True, **names: Tensor) -> Drawing:
    """Draw what `root` was computed from: graph(loss, w=w, b=b).

    root            the tensor at the end, such as a loss; its graph must not have been freed by backward()
    with_gradients  write d(root)/d(tensor) into each box, if root has one element
    names           names for tensors; for a whole model: graph(loss, **dict(model.named_parameters()))

    Inputs that need no gradient are not in the graph: backward() does not visit them.
    """
    for name, tensor in {"root": root, **names}.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"graph: {name} must be a Tensor, such as a batch's loss, not a {type(tensor).__name__}")
    order = _topological_order(root)
    grads = gradients(root, order) if with_gradients and root.size == 1 and root.requires_grad else {}
    called = {tensor: name for name, tensor in names.items()}
    boxes = {t: Box(_lines(t, called.get(t), grads.get(t)), _fill(t, root), t) for t in order}
    for tensor in order:
        for parent, _ in _edges(tensor.node) if tensor.node else ():
            if boxes[parent] not in boxes[tensor].inputs:
                boxes[tensor].inputs.append(boxes[parent])
                boxes[parent].outputs.append(boxes[tensor])
    return Drawing(_svg(_arrange(list(boxes.values()))), "\n".join(" ".join(b.lines) for b in boxes.values()))


def gradients(root: Tensor, order: list[Tensor] | None = None) -> dict[Tensor, Array]:
    """d(root)/d(tensor) for every tensor in the graph, also inner ones. No `.grad` changes, and the graph is kept."""
    grads = {root: _seed(root, None)}
    for tensor in reversed(order or _topological_order(root)):
        for parent, vjp in _edges(tensor.node) if tensor.node else ():
            share = _fit(vjp(grads[tensor]), parent, "draw")
            grads[parent] = grads[parent] + share if parent in grads else share.copy()  # training may write there
    return grads


# ---- text ----


def _lines(tensor: Tensor, name: str | None, grad: Array | None) -> list[str]:
    op = tensor.node.name if tensor.node else ""
    title = f"{name} = {op}" if name and op else name or op or "leaf"
    lines = [title, f"value {_short(tensor.data)}"]
    return lines if grad is None else [*lines, f"grad  {_short(grad)}"]


def _short(array: Array) -> str:
    """Up to four values; for a larger array its shape."""
    if array.size > 4:
        return "x".join(map(str, array.shape))
    if array.size == 1:
        return f"{float(array.reshape(-1)[0]):.4g}"
    return str(np.array2string(array.reshape(-1), precision=3, separator=", "))


def _fill(tensor: Tensor, root: Tensor) -> str:
    return LOSS if tensor is root else INNER if tensor.node else LEAF


# ---- layout ----


def _arrange(boxes: list[Box]) -> list[list[Box]]:
    """Place each box; returns the layers. `boxes` are ordered inputs first."""
    for box in boxes:
        box.layer = 1 + max((b.layer for b in box.inputs), default=-1)
    for box in boxes:  # a leaf stands just before its first use
        if not box.inputs and box.outputs:
            box.layer = min(b.layer for b in box.outputs) - 1
    layers: list[list[Box]] = [[] for _ in range(1 + max(b.layer for b in boxes))]
    for box in [*reversed(boxes), *_stops(boxes)]:  # in reverse, first operands are above second ones
        layers[box.layer].append(box)
    _stack(layers)
    for _ in range(4):
        for sweep, neighbours in ((layers, "inputs"), (layers[::-1], "outputs")):
            for layer in sweep:
                layer.sort(key=lambda b: _middle(getattr(b, neighbours), b.y))
            _stack(layers)
    x = float(PAD)
    for layer in layers:
        width = max(b.width for b in layer)
        for box in layer:
            box.passing = width
            box.x = x + (width - box.width) / 2
        x += width + GAP_X
    return layers


def _stops(boxes: list[Box]) -> list[Box]:
    """Split each arrow that spans more than one layer, with a stop in each layer in between."""
    stops: list[Box] = []
    for box in boxes:
        for i, start in enumerate(box.inputs):
            previous = start
            for layer in range(start.layer + 1, box.layer):
                stop = Box([], layer=layer, inputs=[previous], outputs=[box])
                previous.outputs = [stop if b is box else b for b in previous.outputs]
                stops.append(stop)
                previous = stop
            box.inputs[i] = previous
    return stops


def _stack(layers: list[list[Box]]) -> None:
    """Stack the boxes of each layer, with all layers centred on one line."""
    for layer in layers:
        y = -(sum(b.height for b in layer) + GAP_Y * (len(layer) - 1)) / 2
        for box in layer:
            box.y = y + box.height / 2
            y += box.height + GAP_Y


def _middle(neighbours: list[Box], otherwise: float) -> float:
    return sum(b.y for b in neighbours) / len(neighbours) if neighbours else otherwise


# ---- drawing ----


def _svg(layers: list[list[Box]]) -> str:
    boxes = [box for layer in layers for box in layer]
    top = min(b.y - b.height / 2 for b in boxes) - PAD
    width = max(b.x + b.width for b in boxes) + PAD
    height = max(b.y + b.height / 2 for b in boxes) + PAD - top
    parts = [*_arrows(boxes), *(line for b in boxes if b.tensor is not None for line in _box(b))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 {top:.0f} {width:.0f} {height:.0f}" font-family="monospace" font-size="11" '
        'style="max-width:100%;height:auto">\n'
        f'<rect x="0" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _arrows(boxes: Iterable[Box]) -> list[str]:
    parts = []
    for box in boxes:
        for start in box.inputs:
            x0, y0, x1, y1 = start.x + start.width, start.y, box.x, box.y
            bend = (x1 - x0) / 2
            parts.append(
                f'<path d="M{x0:.1f},{y0:.1f} C{x0 + bend:.1f},{y0:.1f} {x1 - bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f}" '
                'fill="none" stroke="#555555"/>'
            )
            if box.tensor is not None:
                parts.append(f'<path d="M{x1:.1f},{y1:.1f} l-8,-4 v8 z" fill="#555555"/>')
            else:  # straight through the layer
                parts.append(f'<path d="M{x1:.1f},{y1:.1f} h{box.width:.1f}" stroke="#555555"/>')
    return parts


def _box(box: Box) -> list[str]:
    top = box.y - box.height / 2
    rect = (
        f'<rect x="{box.x:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="5" '
        f'fill="{box.fill}" stroke="#333333"/>'
    )
    texts = [
        f'<text x="{box.x + PAD:.1f}" y="{top + LINE * (i + 1) - 1:.1f}" fill="#111111" xml:space="preserve" '
        f'font-weight="{"normal" if i else "bold"}">{escape(line)}</text>'
        for i, line in enumerate(box.lines)
    ]
    return [rect, *texts]
