"""A1, the teacher's part: each operation's value and gradients, and the backward pass through a graph.

The expected values are textbook derivatives, in float64.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tutorials.assignments.assignment import Call, Items
from tutorials.assignments.check import Array, Wrong, exact, expect, normal, require
from tutorials.assignments.graph import Operation, run, unbroadcast, wide


def spread_of(g: Array, shape: list[int], dims: list[int]) -> Array:
    """The gradient of a sum over `dims`: stands in for a wrong `_spread`."""
    kept = [1 if i in dims else n for i, n in enumerate(shape)]
    return np.broadcast_to(g.reshape(kept), shape)


def log_softmax_part(x: Array, dims: list[int]) -> Array:
    """Stands in for a wrong `_log_softmax`."""
    shifted = x.astype(np.float64) - x.max(tuple(dims), keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(tuple(dims), keepdims=True))).astype(x.dtype)


def fit_of(g: Array, shape: list[int]) -> Array:
    """Stands in for a wrong `_fit`."""
    return unbroadcast(g, tuple(shape))


def order_of(edges: Array, n: int) -> list[int]:
    """Stands in for a wrong `_topological_order`: n tensors, sorted by the longest path along `edges` to a leaf."""
    depth = [0] * n
    for _ in range(n):
        for tensor, parent in edges.tolist():
            depth[tensor] = max(depth[tensor], depth[parent] + 1)
    return sorted(range(n), key=depth.__getitem__)


ITEMS = Items(lesson=2, parts={
    "_spread": spread_of, "_log_softmax": log_softmax_part, "_fit": fit_of, "_topological_order": order_of,
})  # fmt: skip
BOTH = (np.float32, np.float64)
PAIRS = (((3, 4), (3, 4)), ((2, 3, 4), (3, 1)), ((5,), ()))


# ---- element by element ----


@ITEMS.item("mul", 4, "mul")
def mul(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shapes in PAIRS:
            x, y = (normal(rng, shape, dtype) for shape in shapes)
            a, b = wide(x, y)
            op = run(call, "mul", [x, y])
            op.value(exact(a * b, 1))
            g = normal(rng, (a * b).shape, dtype)
            swapped = "The gradient of each input is g times the other input." if a.shape == b.shape else ""
            op.gradients(
                g, [exact(unbroadcast(g * b, a.shape), 30, unbroadcast(np.abs(g * b), a.shape)),
                    exact(unbroadcast(g * a, b.shape), 30, unbroadcast(np.abs(g * a), b.shape))],
                {swapped: lambda: g * a} if swapped else {}, {swapped: lambda: g * b} if swapped else {},
            )  # fmt: skip


@ITEMS.item("div", 5, "div")
def div(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shapes in PAIRS:
            x, y = normal(rng, shapes[0], dtype), rng.uniform(0.5, 2, shapes[1]).astype(dtype)
            a, b = wide(x, y)
            op = run(call, "div", [x, y])
            op.value(exact(a / b, 1), {"You computed b / a.": lambda: b / a})
            g = normal(rng, (a / b).shape, dtype)
            to_b = -g * a / b**2
            op.gradients(
                g, [exact(unbroadcast(g / b, a.shape), 30, unbroadcast(np.abs(g / b), a.shape)),
                    exact(unbroadcast(to_b, b.shape), 40, unbroadcast(np.abs(to_b), b.shape))],
                {"d(a/b)/da = 1/b.": lambda: unbroadcast(g * b, a.shape)},
                {"The sign is wrong: d(a/b)/db = -a / b^2.": lambda: unbroadcast(-to_b, b.shape),
                 "d(a/b)/db = -a / b^2: the square is missing.": lambda: unbroadcast(-g * a / b, b.shape),
                 "d(a/b)/db = -a / b^2: a is missing.": lambda: unbroadcast(-g / b**2, b.shape)},
            )  # fmt: skip


@ITEMS.item("log", 3, "log")
def log(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        x = rng.uniform(0.1, 5, (3, 4)).astype(dtype)
        (a,) = wide(x)
        op = run(call, "log", [x])
        op.value(exact(np.log(a), 4, 1 + np.abs(np.log(a))), {"Use the natural log, not log10.": lambda: np.log10(a)})
        g = normal(rng, a.shape, dtype)
        op.gradients(g, [exact(g / a, 2)], {"d(log x)/dx = 1/x.": lambda: g * np.log(a)})


@ITEMS.item("relu", 4, "relu")
def relu(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        x = normal(rng, (4, 5), dtype)
        x[0, :2] = 0
        (a,) = wide(x)
        op = run(call, "relu", [x])
        op.value(exact(np.maximum(a, 0), 0), {"You computed |x|.": lambda: np.abs(a)})
        g = normal(rng, a.shape, dtype)
        op.gradients(g, [exact(g * (a > 0), 0)], {
            "At x = 0 the gradient is 0, as in PyTorch: use x > 0, not x >= 0.": lambda: g * (a >= 0),
            "The gradient passes only where x > 0.": lambda: np.array(g),
        })  # fmt: skip


@ITEMS.item("sigmoid", 5, "sigmoid")
def sigmoid(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        x = np.concatenate([normal(rng, 6) * 3, [-800.0, 800.0, 0.0]]).astype(dtype)
        (a,) = wide(x)
        y = (np.tanh(a / 2) + 1) / 2
        op = run(call, "sigmoid", [x])
        op.value(exact(y, 12, 1))
        g = normal(rng, a.shape, dtype)
        op.gradients(g, [exact(g * y * (1 - y), 40, np.abs(g))], {
            "The derivative of the sigmoid is y (1 - y).": lambda: g * y,
            "The derivative is y (1 - y), where y is the sigmoid of x, not x.": lambda: g * a * (1 - a),
        })  # fmt: skip


# ---- reductions ----

DIMS: tuple[dict[str, Any], ...] = (
    {},
    {"dim": 0},
    {"dim": -1},
    {"dim": [0, 2]},
    {"dim": 1, "keepdim": True},
    {"dim": [-1, 0], "keepdim": True},
)
_KEEP = "Check keepdim: with keepdim=True the reduced axes stay, with length 1."


def reduced(x: Array, options: dict[str, Any], how: Any) -> Array:
    """how(x) over the dims of the options."""
    dims = options.get("dim")
    axis = tuple(dims) if isinstance(dims, list) else dims
    return np.asarray(how(x, axis=axis, keepdims=options.get("keepdim", False)))


def spread(g: Array, x: Array, options: dict[str, Any]) -> Array:
    """Each element gets the gradient of the sum that it is in."""
    kept = reduced(np.zeros(x.shape), {**options, "keepdim": True}, np.sum).shape
    return np.broadcast_to(np.asarray(g, np.float64).reshape(kept), x.shape)


@ITEMS.item("sum", 6, "sum")
def sum_(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for options in DIMS:
            x = normal(rng, (2, 3, 4), dtype)
            (a,) = wide(x)
            op = run(call, "sum", [x], **options)
            right = exact(reduced(a, options, np.sum), 24, reduced(np.abs(a), options, np.sum))
            op.value(right, {_KEEP: lambda: reduced(a, {**options, "keepdim": not options.get("keepdim")}, np.sum)})
            g = normal(rng, right.value.shape, dtype)
            op.gradients(g, [exact(spread(g, a, options), 0)])


@ITEMS.item("mean", 5, "mean")
def mean(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for options in DIMS:
            x = normal(rng, (2, 3, 4), dtype)
            (a,) = wide(x)
            op = run(call, "mean", [x], **options)
            right = exact(reduced(a, options, np.mean), 26, reduced(np.abs(a), options, np.mean))
            op.value(right, {"You computed the sum.": lambda: reduced(a, options, np.sum)})
            g = normal(rng, right.value.shape, dtype)
            n = a.size / right.value.size
            op.gradients(g, [exact(spread(g, a, options) / n, 2)], {
                "Each element contributes 1/n to the mean: did you forget to divide?": lambda: spread(g, a, options),
                "n is the number of elements averaged into each mean, not the number of rows.":
                    lambda: spread(g, a, options) / len(a),
                "n is the number of elements averaged into each mean, not the number of all elements.":
                    lambda: spread(g, a, options) / a.size,
            })  # fmt: skip


@ITEMS.item("max: ties share the gradient", 8, "max")
def max_(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for options in DIMS:
            x = rng.integers(-2, 3, (2, 3, 4)).astype(dtype)  # with ties
            (a,) = wide(x)
            op = run(call, "max", [x], **options)
            right = exact(reduced(a, options, np.max), 0)
            op.value(right, {_KEEP: lambda: reduced(a, {**options, "keepdim": not options.get("keepdim")}, np.max)})
            g = normal(rng, right.value.shape, dtype)
            winners = a == spread(right.value, a, options)
            ties = spread(reduced(winners, options, np.sum), a, options)
            all_of_it = spread(g, a, options) * winners
            axis = tuple(options["dim"]) if isinstance(options.get("dim"), list) else options.get("dim")
            op.gradients(g, [exact(all_of_it / ties, 3)], {
                "Tied maxima share the gradient evenly: divide by the number of ties.": lambda: all_of_it,
                "Tied maxima share the gradient evenly; yours gives all of it to the first.":
                    lambda: all_of_it * _first(winners, axis),
                "Only the maxima get a gradient.": lambda: spread(g, a, options),
            })  # fmt: skip


def _first(winners: Array, axis: Any) -> Array:
    """The first winner along the given axes, in row-major order."""
    axes = range(winners.ndim) if axis is None else np.atleast_1d(axis) % winners.ndim
    order = np.arange(winners.size).reshape(winners.shape)
    firsts = np.where(winners, order, winners.size).min(tuple(int(i) for i in axes), keepdims=True)
    return np.asarray(order == firsts)


@ITEMS.item("getitem: an element taken twice", 5, "getitem")
def getitem(call: Call, rng: np.random.Generator) -> None:
    rows, few = np.array([2, 0, 2, 2]), np.array([True, False, False, True, True])
    pairs = rows, np.array([1, 0, 1, 2])
    indices: tuple[tuple[Any, Any], ...] = (
        (rows, rows), ({"slice": [1, None, 2]}, slice(1, None, 2)), (few, few), (list(pairs), pairs),
        ([{"slice": [None]}, 1], (slice(None), 1)),
    )  # fmt: skip
    for index, taken in indices:
        x = normal(rng, (5, 3))
        op = Operation(call, f"x[{taken}], x (5, 3)", [x], call("getitem", inputs=[x], index=index))
        op.value(exact(x[taken], 0))
        g = normal(rng, x[taken].shape)
        right, once = np.zeros((5, 3)), np.zeros((5, 3))
        np.add.at(right, taken, g)
        once[taken] = g
        op.gradients(g, [exact(right, 4)], {
            "An element selected twice gets both gradients: dx[index] += g counts it once, np.add.at each time.":
                lambda: once})  # fmt: skip


# ---- products ----


@ITEMS.item("matmul", 10, "matmul", lesson=4)
def matmul(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shapes in (
            ((3, 4), (4, 2)),
            ((5, 3, 4), (4, 2)),
            ((2, 1, 3, 4), (5, 4, 3)),
            ((4,), (4, 3)),
            ((3, 4), (4,)),
        ):
            x, y = (normal(rng, shape, dtype) for shape in shapes)
            a, b = wide(x, y)
            op = run(call, "matmul", [x, y])
            op.value(exact(a @ b, 4, np.abs(a) @ np.abs(b)))
            g = normal(rng, (a @ b).shape, dtype)
            op.gradients(g, [exact(da, 50, size) for da, size in zip(
                matmul_gradients(a, b, wide(g)[0]), matmul_gradients(*map(np.abs, wide(a, b, g))), strict=True
            )])  # fmt: skip


def matmul_gradients(a: Array, b: Array, g: Array) -> tuple[Array, Array]:
    """The gradients of sum(g * (a @ b)), summed over broadcast axes."""
    a2, b2 = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    g2 = g[None] if a.ndim == 1 else g[..., None] if b.ndim == 1 else g
    da = np.einsum("...nm,...km->...nk", g2, np.broadcast_to(b2, (*g2.shape[:-2], *b2.shape[-2:])))
    db = np.einsum("...nk,...nm->...km", np.broadcast_to(a2, (*g2.shape[:-2], *a2.shape[-2:])), g2)
    return unbroadcast(da, a2.shape).reshape(a.shape), unbroadcast(db, b2.shape).reshape(b.shape)


@ITEMS.item("linear", 5, "linear", lesson=4)
def linear(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        x, w, b = (normal(rng, shape, dtype) for shape in ((6, 4), (3, 4), (3,)))
        x64, w64, b64 = wide(x, w, b)
        g = normal(rng, (6, 3), dtype)
        (g64,) = wide(g)
        size = np.abs(x64) @ np.abs(w64.T) + np.abs(b64)
        rights = [exact(g64 @ w64, 4, np.abs(g64) @ np.abs(w64)), exact(g64.T @ x64, 7, np.abs(g64.T) @ np.abs(x64)),
                  exact(g64.sum(0), 7, np.abs(g64).sum(0))]  # fmt: skip
        op = run(call, "linear", [x, w, b])
        op.value(exact(x64 @ w64.T + b64, 6, size), {"b is missing.": lambda: x64 @ w64.T})
        op.gradients(g, rights, {}, {}, {"b is added to every row: its gradient is the sum over the rows.":
                                         lambda: g64.mean(0)})  # fmt: skip
        op = run(call, "linear", [x, w])
        op.value(exact(x64 @ w64.T, 5, size))
        op.gradients(g, rights[:2])
        op = run(call, "linear", [x.reshape(2, 3, 4), w, b])  # the same rows, in a batch
        op.told += ", where x has shape (..., in)"
        op.value(exact(x64 @ w64.T + b64, 6, size).of_shape(2, 3, 3))
        op.gradients(g.reshape(2, 3, 3), [rights[0].of_shape(2, 3, 4), *rights[1:]])


# ---- softmax ----


def log_softmax_of(x: Array, dim: int) -> Array:
    shifted = x - x.max(dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


@ITEMS.item("softmax and log_softmax, for large numbers too", 8, "softmax", "log_softmax", lesson=4)
def softmax(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for dim, scale, shape in ((-1, 1.0, (3, 5)), (0, 3.0, (3, 5)), (1, 1000.0, (3, 5)), (-1, 1.0, (2, 3, 4))):
            x = (normal(rng, shape) * scale).astype(dtype)
            (a,) = wide(x)
            log_p = log_softmax_of(a, dim)
            p, size = np.exp(log_p), 2 * np.abs(a).max() + 5
            g = normal(rng, a.shape, dtype)
            g_size = 20 * size * (np.abs(g) + np.abs(g).sum(dim, keepdims=True))
            op = run(call, "log_softmax", [x], dim=dim)
            op.value(exact(log_p, 12, size))
            op.gradients(g, [exact(g - p * np.sum(g, dim, keepdims=True), 1, g_size)], {
                "Each input affects all outputs of its row: p multiplies the sum of g over the row.": lambda: g - p * g,
                "The gradient of log_softmax is g - p sum(g).": lambda: g - p,
            })  # fmt: skip
            op = run(call, "softmax", [x], dim=dim)
            op.value(
                exact(p, 20, size),
                {"Wrong axis: the sum over `dim` must be 1.": lambda: np.exp(log_softmax_of(a, 1 - dim % a.ndim))},
            )
            op.gradients(g, [exact(p * (g - np.sum(g * p, dim, keepdims=True)), 1, g_size)], {
                "Each input affects all outputs of its row, not only its own.": lambda: g * p * (1 - p),
            })  # fmt: skip


@ITEMS.item("cross_entropy", 7, "cross_entropy", lesson=4)
def cross_entropy(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for scale in (1.0, 1000.0):
            x, labels = (normal(rng, (6, 4)) * scale).astype(dtype), rng.integers(0, 4, 6)
            (a,) = wide(x)
            log_p = log_softmax_of(a, 1)
            losses, one_hot = -log_p[np.arange(6), labels], np.eye(4)[labels]
            size = 2 * np.abs(a).max() + 5
            told = f"cross_entropy of logits (6, 4), labels {labels.tolist()}, in {np.dtype(dtype)}"
            op = Operation(call, told, [x], call("cross_entropy", inputs=[x], labels=labels, options={}))
            op.value(exact(losses.mean(), 20, size), {
                "The loss is the mean over the batch, not the sum.": lambda: losses.sum(),
                "The sign is wrong: the loss is -log p.": lambda: -losses.mean(),
                "Take the mean over the examples, not over examples and classes.": lambda: losses.mean() / 4,
                "The loss is -log p, not -p: is the logarithm missing?": lambda: -np.exp(-losses).mean(),
                **{f"Don't take the logarithm of a softmax, even with a small number added to it: log p = x - max - "
                   f"log(sum(e^(x - max))).{' ' * i}": partial(_bounded, losses, least)
                   for i, least in enumerate((1e-16, 1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6))},
            })  # fmt: skip
            g = np.array(1.5, dtype)
            p = np.exp(log_p)
            op.gradients(g, [exact(1.5 * (p - one_hot) / 6, 40, size)], {
                "The loss is a mean: divide by the number of examples.": lambda: 1.5 * (p - one_hot),
                "Subtract the one-hot target from the softmax.": lambda: 1.5 * p / 6,
                "Multiply the result by g, the gradient of the loss.": lambda: (p - one_hot) / 6,
                "The sign is wrong: it is p minus the one-hot target.": lambda: 1.5 * (one_hot - p) / 6,
            })  # fmt: skip
    for options in ({"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.2}):
        _with_options(call, rng, options)


def _bounded(losses: Array, least: float) -> Array:
    """The mean loss if this number is added to every probability."""
    return np.asarray(-np.log(np.exp(-losses) + least).mean())


def _with_options(call: Call, rng: np.random.Generator, options: dict[str, Any]) -> None:
    """cross_entropy with the options in its docstring: the sum, one loss per example, or smoothed labels."""
    x, labels, e = normal(rng, (6, 4)), rng.integers(0, 4, 6), options.get("label_smoothing", 0)
    log_p = log_softmax_of(x, 1)
    hows: dict[str, Any] = {"sum": np.sum, "none": np.array}
    how = hows.get(options.get("reduction", ""), np.mean)
    truth = (1 - e) * np.eye(4)[labels] + e / 4
    losses = -(truth * log_p).sum(1)
    told = f"cross_entropy of logits (6, 4), {', '.join(f'{name}={value!r}' for name, value in options.items())}"
    op = Operation(call, told, [x], call("cross_entropy", inputs=[x], labels=labels, options=options))
    plain = -log_p[np.arange(6), labels].mean()
    size = 2 * np.abs(x).max() + 5
    op.value(exact(how(losses), 40, 6 * size), {f"{next(iter(options))} is ignored.": lambda: plain})
    g = normal(rng, np.shape(how(losses)))
    right = g.reshape(-1, 1) * (np.exp(log_p) - truth) / (6 if how is np.mean else 1)
    op.gradients(g, [exact(right, 40, 6 * size)])


# ---- the backward pass ----


def paths(leaves: int, nodes: list[Any]) -> np.ndarray[Any, Any]:
    """d(last node)/d(leaf) for each leaf, by forward mode: no backward pass is involved."""
    rows = [np.eye(leaves)[i] for i in range(leaves)]
    for node in nodes:
        rows.append(sum(c * rows[i] for i, c in node))
    return rows[-1]


def walk_back(call: Call, told: str, leaves: list[Array], nodes: list[Any], mistakes: Any = None, **how: Any) -> Any:
    """Run backward(); check every leaf's gradient, and that each backward() used every edge once."""
    got = call("backward", leaves=leaves, nodes=nodes, **how)
    right, times = paths(len(leaves), nodes), how.get("times", 1)
    for k, leaf in enumerate(leaves):
        value = times * right[k] * how.get("gradient", np.ones(leaf.shape))
        expect(got["gradients"][k], exact(value, 0), leaf.dtype, f"{told}: leaf {k}",
               {said: partial(np.full, leaf.shape, value) for said, value in (mistakes or {}).items()})  # fmt: skip
    for k, node in enumerate(nodes):
        require(got["used"][k] == times * len(node), f"{told}: operation {k} was visited more than once per backward()")
    return got


@ITEMS.item("_fit: gradients of broadcast inputs", 7, "_fit", lesson=3)
def fit(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, out in (((3, 1), (3, 4)), ((4,), (2, 3, 4)), ((), (3,)), ((1, 4), (5, 3, 4)), ((3, 4), (3, 4))):
            g = normal(rng, out, dtype)
            got = call("broadcast", shape=list(shape), g=g, dtype=np.dtype(dtype).name)
            (g64,) = wide(g)
            right = exact(unbroadcast(g64, shape), g.size, unbroadcast(np.abs(g64), shape))
            expect(got, right, dtype, f"a leaf of shape {shape} that was broadcast to {out}", {
                "Sum over the copies, don't average.": lambda: unbroadcast(g64, shape) * np.prod(shape) / g.size,
            })  # fmt: skip
    got = call("broadcast", shape=[3], g=np.ones((2, 3)), dtype="float32")
    told = "a float32 leaf whose vjp returned a float64 gradient"
    expect(got, exact(np.full(3, 2.0), 1), np.float32, told)


@ITEMS.item(
    "backward: every operation once, after all that use it", 8, "Tensor.backward", "_topological_order", lesson=3
)
def order(call: Call, rng: np.random.Generator) -> None:
    one = [np.ones(2)]
    walk_back(call, "a chain of three", one, [[[0, 2]], [[1, 3]], [[2, 5]]])
    walk_back(call, "a chain of three, backward(gradient=[2, -3])", one, [[[0, 2]], [[1, 3]], [[2, 5]]],
              {"If `gradient` is given, start from it, not from ones: call _seed.": 30},
              gradient=np.array([2.0, -3.0]))  # fmt: skip
    walk_back(call, "x * 3 + x * 4", one, [[[0, 3], [0, 4]]], {"An input that is used twice gets both gradients.": 4})
    # x -> a -> b and c, c -> d, and b + d: passing on a's gradient as soon as b is done misses what comes through d
    diamond = [[[0, 2]], [[1, 3]], [[1, 5]], [[3, 7]], [[2, 1], [4, 1]]]
    walk_back(call, "a diamond with one longer side", one, diamond, {
        "A tensor's gradient was passed on before it was complete: only one side of the diamond is included.": 70,
        "The longer side of the diamond is missing.": 6,
        "The first part of a gradient was passed on twice, once with each side of the diamond.": 82,
    })  # fmt: skip
    ladder = [[[0, 1]], *([[k, 1], [k, 1]] for k in range(1, 13))]  # 2^12 paths
    walk_back(call, "a ladder with 4,096 paths and 13 operations", one, ladder)
    for _ in range(3):  # random graphs: each node uses some of the nodes before it
        nodes: list[Any] = [[[0, 2], [1, 3]]]
        for k in range(3, 12):
            used = sorted({k - 1, *(int(i) for i in rng.integers(0, k, 2))})
            nodes.append([[i, int(rng.integers(1, 4))] for i in used])
        walk_back(call, f"a graph {nodes}", [np.ones(2), np.ones(2)], nodes)


@ITEMS.item("backward: gradients add up, and share no memory", 5, "Tensor.backward", lesson=3)
def accumulate(call: Call, rng: np.random.Generator) -> None:
    add = [[[0, 1], [1, 1]]]  # a + b: both inputs receive the same array
    two = [np.ones(3), np.ones(3)]
    shared = "a + b passes one array to both inputs: += into it changes both. Make a new array (or copy it first)."
    got = walk_back(call, "a + b", two, add, {shared: 2})
    require(
        not got["shared"], "a + b: both leaves share one array as .grad, so changing one changes the other: copy it"
    )
    walk_back(call, "(a + b) + a", two, [*add, [[2, 1], [0, 1]]], {shared: 2, "": 1})
    walk_back(call, "a + b, backward() twice, retain_graph=True", two, add,
              {"The second backward() must add to .grad.": 1, shared: 4, "Do you modify the initial gradient?": 3},
              times=2, retain_graph=True)  # fmt: skip
    again = "The second backward() passes on the first one's gradients too: keep a pass's gradients apart from .grad."
    walk_back(call, "(a + b) + a, backward() twice, retain_graph=True", two, [*add, [[2, 1], [0, 1]]],
              {again: 5, f"{again} ": 3}, times=2, retain_graph=True)  # fmt: skip
    try:
        call("backward", leaves=two, nodes=add, times=2)
    except Wrong as wrong:
        require("RuntimeError" in str(wrong), f"a second backward() should raise RuntimeError, got: {wrong}")
    else:
        raise Wrong("backward() twice without retain_graph must raise RuntimeError: set node.edges to None when done")


@ITEMS.item("backward: a chain of 5,000 operations", 5, "_topological_order", "Tensor.backward", lesson=3)
def deep(call: Call, rng: np.random.Generator) -> None:
    walk_back(call, "a chain of 5,000", [np.ones(1)], [[[k, 1]] for k in range(5_000)])
