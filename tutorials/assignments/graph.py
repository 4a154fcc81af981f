"""A student's operation as the grader sees it: its value, and its gradients by the grader's own backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tutorials.assignments.assignment import Call
from tutorials.assignments.check import Array, Exact, Mistakes, Raised, Wrong, expect, require

WITHOUT_G = "Where is g? A vjp returns g times the derivative."


class Operation:
    """One run of an operation in the student's process: check its value, then the gradient of each input."""

    def __init__(self, call: Call, told: str, inputs: Sequence[Array], reply: Any) -> None:
        self.call, self.told, self.inputs, self.reply = call, told, inputs, reply
        self.dtype = inputs[0].dtype
        self.which: Sequence[int] = range(len(inputs))
        for before, after in zip(inputs, reply["inputs"], strict=True):
            require(np.array_equal(before, after, equal_nan=True), f"{told}: it changes its input: work on a copy")

    def only(self, which: Sequence[int]) -> Operation:
        """Check the gradients of these inputs only."""
        self.which = which
        return self

    def value(self, right: Exact, mistakes: Mistakes | None = None) -> None:
        expect(self.reply["value"], right, self.dtype, self.told, mistakes, self.call.ledger)

    def gradients(self, g: Array, rights: Sequence[Exact], *mistakes: Mistakes) -> None:
        got = self._walk(g)
        for k in self.which:
            told = f"{self.told}: gradient of input {k}" if len(rights) > 1 else f"{self.told}: gradient"
            require(got[k] is not None, f"{told}\n  there is none: does record() get an edge for it?")
            known = dict(mistakes[k]) if k < len(mistakes) else {}
            if np.shape(g) == rights[k].value.shape:
                known[WITHOUT_G] = partial(np.divide, rights[k].value, g)
            expect(np.asarray(got[k]).astype(self.dtype), rights[k], self.dtype, told, known, self.call.ledger)

    def _walk(self, g: Array) -> list[Array | None]:
        """The grader's backward pass over the graph: a tensor is ready when all tensors that use it are done."""
        graph, shapes = self.reply["graph"], self.reply["shapes"]
        require(len(graph) <= 50, f"{self.told}: it recorded {len(graph)} operations, which is far too many")
        leads = set(self.which)  # the tensors through which gradients reach the inputs in `which`
        for _ in graph:
            leads |= {i for i, edges in enumerate(graph) if leads.intersection(edges)}
        waiting = [sum(edges.count(i) for edges in graph) for i in range(len(graph))]
        pending: list[Array | None] = [None] * len(graph)
        out = self.reply["out"]
        pending[out], ready = g, [out]
        while ready:
            tensor = ready.pop()
            g = pending[tensor]
            for edge, parent in enumerate(graph[tensor]):
                if parent not in leads:
                    continue
                sent = np.array(g, self.dtype)
                result, after, again = _asked(self.call, self.told, "vjp", tensor=tensor, edge=edge, g=sent)
                require(
                    np.array_equal(sent, after, equal_nan=True),
                    f"{self.told}: the vjp changes g, which other operations may share: work on a copy",
                )
                part = _summed(result, tuple(shapes[parent]), self.told)
                require(
                    np.shape(again) == result.shape
                    and np.allclose(result, again, rtol=1e-3, atol=1e-6, equal_nan=True),
                    f"{self.told}: the vjp returns a different gradient when called a second time, as after "
                    "backward(retain_graph=True): it changes an array that it keeps: work on a copy",
                )
                pending[parent] = part if pending[parent] is None else pending[parent] + part
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    ready.append(parent)
        return pending[: len(self.inputs)]


def run(call: Call, op: str, inputs: Sequence[Array], **options: Any) -> Operation:
    """Run an operation by name: `run(call, "sum", [x], dim=0)`."""
    shapes = ", ".join(f"{a.shape}" for a in inputs)
    extra = "".join(f", {k}={v}" for k, v in options.items())
    told = f"{op}({shapes}{extra}) in {inputs[0].dtype}"
    return Operation(call, told, inputs, _asked(call, told, "operation", op=op, inputs=list(inputs), options=options))


def _asked(call: Call, told: str, function: str, **arguments: Any) -> Any:
    """The reply to a call; if the student's code raises an exception, the feedback begins with the input."""
    try:
        return call(function, **arguments)
    except Raised as raised:
        raise Wrong(f"{told}\n  {raised}") from None


def _summed(g: Any, shape: tuple[int, ...], told: str) -> Array:
    """g summed over the axes along which an input of this shape was broadcast, as backward() will."""
    require(isinstance(g, np.ndarray), f"{told}: the vjp returns {g!r:.100}, not an array")
    try:
        np.broadcast_to(np.empty(shape), g.shape)
    except ValueError:
        raise Wrong(f"{told}: the vjp returns shape {g.shape} for an input of shape {shape}") from None
    return unbroadcast(g, shape)


def wide(*arrays: Array) -> list[Array]:
    """The same arrays in float64."""
    return [np.asarray(a, np.float64) for a in arrays]


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of a broadcast input: the sum over its copies."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1), keepdims=True).reshape(shape)
