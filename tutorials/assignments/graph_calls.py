"""Runs one of the student's operations and its derivatives, edge by edge. This is in the student's process.

`forward` returns the graph that an operation has recorded, `vjp` runs one edge of it; the grader walks the graph
(graph.py). So operations are marked independently of the student's own backward().
"""

from copy import deepcopy
from typing import Any

from minidl.tensor import Tensor

_tensors: list[Tensor] = []  # of the graph that forward() last made


def forward(op: Any, inputs: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Run an operation on Tensors. Its graph lists, for each tensor, the indices of those that its edges lead to.

    The inputs, which have no edges, come first. Tuples among the options have become lists on their way here.
    """
    leaves = [Tensor(a, requires_grad=True) for a in inputs]
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    out = op(*leaves, **options)
    if not isinstance(out, Tensor):
        raise TypeError(f"it returns a {type(out).__name__}, not the Tensor that record() makes")
    _tensors[:] = leaves
    todo = [out]
    while todo:
        tensor = todo.pop()
        if not any(tensor is known for known in _tensors):
            _tensors.append(tensor)
            todo += [parent for parent, _ in _edges(tensor)]
    number = {id(tensor): i for i, tensor in enumerate(_tensors)}
    return {
        "value": out.data,
        "inputs": [leaf.data for leaf in leaves],
        "out": number[id(out)],
        "graph": [[number[id(parent)] for parent, _ in _edges(tensor)] for tensor in _tensors],
        "shapes": [list(tensor.shape) for tensor in _tensors],
    }


def vjp(tensor: int, edge: int, g: Any) -> list[Any]:
    """The result of one edge's vjp for the gradient g; g afterwards; and the result of a second call with that g."""
    back, same = _edges(_tensors[tensor])[edge][1], g.copy()
    out = deepcopy(back(g))  # it may be an array that the edge keeps
    return [out, g, back(same)]


def _edges(tensor: Tensor) -> Any:
    return () if tensor.node is None else tensor.node.edges
