"""The calls that the grader can make to a submission of A1. This runs in the student's process."""

import itertools
from typing import Any

import numpy as np
import part_calls
from graph_calls import forward, vjp

from minidl import ops, ops_nn, tensor
from minidl.tensor import Tensor, record

__all__ = ["backward", "broadcast", "cross_entropy", "getitem", "give_parts", "operation", "vjp"]


def operation(op: str, inputs: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """An operation of ops.py."""
    return forward(getattr(ops, op), inputs, options)


def getitem(inputs: list[Any], index: Any) -> dict[str, Any]:
    """x[index]: an index is an array, a number, {"slice": [start, stop, step]}, or a list of these."""
    return forward(lambda x: ops.getitem(x, _index(index)), inputs, {})


def _index(index: Any) -> Any:
    if isinstance(index, list):
        return tuple(map(_index, index))
    return slice(*index["slice"]) if isinstance(index, dict) else index


def cross_entropy(inputs: list[Any], labels: Any, options: dict[str, Any]) -> dict[str, Any]:
    """cross_entropy(logits, labels, ...)."""
    return forward(lambda x: ops.cross_entropy(x, labels, **options), inputs, {})


def backward(
    leaves: list[Any], nodes: list[Any], times: int = 1, retain_graph: bool = False, gradient: Any = None
) -> dict[str, Any]:
    """Gradients of a graph of linear nodes, each [[input, coefficient], ...] -> the sum of coefficient * input.

    The last node is the loss. Its gradient is `gradient`, or ones; for one element, the default of backward() is used.
    Also returns how often each node's edges were used, and whether any two gradients share memory.
    """
    tensors = [Tensor(a, requires_grad=True) for a in leaves]
    used = [0] * len(nodes)
    for k, node in enumerate(nodes):
        value = sum(c * tensors[i].data for i, c in node)
        tensors.append(record("linear", value, *((tensors[i], _times(c, k, used)) for i, c in node)))
    loss = tensors[-1]
    if gradient is None and loss.size > 1:
        gradient = np.ones_like(loss.data)
    for _ in range(times):
        loss.backward(gradient, retain_graph=retain_graph)
    gradients = [t.grad for t in tensors[: len(leaves)]]
    shared = any(np.may_share_memory(a, b) for a, b in itertools.combinations(gradients, 2))
    return {"gradients": gradients, "used": used, "shared": shared}


def _times(c: float, k: int, used: list[int]) -> Any:
    def vjp(g: Any) -> Any:
        used[k] += 1
        return g if c == 1 else g * c  # for c == 1 the inputs share one array, as in a + b

    return vjp


def broadcast(shape: list[int], g: Any, dtype: str) -> Any:
    """_fit by itself: the gradient of a leaf of this shape and dtype that was broadcast to g's shape."""
    return tensor._fit(g, Tensor(np.zeros(shape, dtype), requires_grad=True), "stretch")


def give_parts(names: list[str]) -> None:
    """Let the grader compute these helpers."""

    def ask_spread(x: Any, dims: Any) -> Any:
        return lambda g: part_calls.ask("_spread", g, x.shape, dims)

    def ask_log_softmax(x: Any, dims: Any) -> Any:
        return part_calls.ask("_log_softmax", x, dims if isinstance(dims, tuple) else (dims,))

    def ask_fit(g: Any, parent: Any, op: str) -> Any:
        return part_calls.ask("_fit", g, parent.shape).astype(parent.dtype)

    def ask_order(root: Any) -> Any:
        tensors, edges = [root], []
        for i, each in enumerate(tensors):
            for parent, _ in () if each.node is None else tensor._edges(each.node):
                at = next((k for k, known in enumerate(tensors) if known is parent), len(tensors))
                tensors += [parent] * (at == len(tensors))
                edges.append([i, at])
        order = part_calls.ask("_topological_order", np.array(edges, np.int64).reshape(-1, 2), len(tensors))
        return [tensors[i] for i in order]

    stand_ins = {
        "_spread": (ops, ask_spread), "_log_softmax": (ops_nn, ask_log_softmax), "_fit": (tensor, ask_fit),
        "_topological_order": (tensor, ask_order),
    }  # fmt: skip
    part_calls.give({name: (module, name, each) for name, (module, each) in stand_ins.items()}, names)
