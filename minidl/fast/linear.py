"""The fast forms of the layers' operations on the CPU. They compute what the reference in ops*.py computes.

What makes them fast is little, and each has its place: results go into memory that was used before (malloc.py),
weight gradients are written straight to where the optimizer reads them (`into`), and large arrays are worked on
in parts, which threads share (threads.py), each part small enough to stay in the cache (conv.py).

A kernel has the name and the arguments of its reference. It answers NotImplemented to anything unusual (mixed or
half-precision dtypes, wrong shapes, arrays that are not Tensors), and the reference takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import CPU, Array, backend_of
from minidl.fast.threads import parts_for, split
from minidl.tensor import ALONE, FLOATS, Reading, Tensor, Vjp, record

BOOL = np.dtype(np.bool_)
MANY = 512  # rows that are added up as they are


def plain(*tensors: Any) -> bool:
    """Whether all are Tensors of one dtype, float32 or float64, on one device. None, a bias left out, passes."""
    first = tensors[0].data
    kind, dtype = type(first), first.dtype
    for t in tensors:  # a plain loop: this runs for every operation
        if t is not None and (type(t) is not Tensor or type(t.data) is not kind or t.data.dtype != dtype):
            return False
    return dtype in FLOATS


def into(w: Tensor, f: Callable[[Array, Array], Any]) -> Vjp:
    """The vjp of a weight w for which f(g, out) fills `out` with the gradient."""

    def vjp(g: Array) -> Array:
        out = place(w)
        f(g, out)
        return out

    return vjp


def place(w: Tensor) -> Array:
    """Where the gradient of a weight goes: into its place in the optimizer's vector.

    Where that is taken, as by the other use of a weight that is used twice, it is in fresh memory. What was taken is
    given back when backward() has arrived at w (Home.fill).
    """
    home = w.home if w.grad is None else None
    if home is not None and home.free and home.grad.shape == w.shape and home.grad.dtype == w.dtype:
        home.free = False
        if getrefcount(home.grad) > ALONE or getrefcount(home.grad.base) > home.owner.views:  # see Home.fill
            home.owner.renew()
        return home.grad
    return backend_of(w.data).empty(w.shape, w.dtype)


def channels_last(x: Array) -> Array:
    """The (N, H, W, C) view of images (N, C, H, W): the order in which the kernels lay images out in memory."""
    return x.transpose(0, 2, 3, 1)


class Gradients:
    """What an operation's backward gives, all at once: `make(g)` returns {name: gradient}."""

    def __init__(self, make: Callable[[Array], dict[str, Array]]) -> None:
        self.make = make
        self.g: Array | None = None  # what was found belongs to it
        self.found: dict[str, Array] = {}

    def of(self, name: str) -> Callable[[Array], Array]:
        """The vjp of this input."""

        def vjp(g: Array) -> Array:
            if g is not self.g or name not in self.found:
                self.g, self.found = g, self.make(g)
            return self.found.pop(name)

        return vjp


# ---- kernels ----


def linear(x: Tensor, w: Any, b: Any = None) -> Any:
    """See ops.linear. x (N, in), w (out, in), b (out,) -> (N, out)."""
    if not plain(x, w, b) or x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        return NotImplemented
    y = CPU.empty((len(x.data), len(w.data)), x.dtype)
    products((x.data, w.data.T, y))
    back = gradients(x, w, lambda g, dx: (g, w.data, dx), lambda g, dw: (g.T, x.data, dw))
    edges: list[Reading] = [(x, back.of("x"), w), (w, back.of("w"), x)]
    if b is not None:
        if b.shape != w.shape[:1]:
            return NotImplemented
        y += b.data
        edges.append((b, into(b, sum_rows)))
    return record("linear", y, *edges)


def matmul(a: Tensor, b: Any) -> Any:
    """See ops.matmul. Two matrices, a (n, k) and b (k, m) -> (n, m)."""
    if not plain(a, b) or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return NotImplemented
    y = CPU.empty((len(a.data), b.shape[1]), a.dtype)
    products((a.data, b.data, y))
    back = gradients(a, b, lambda g, da: (g, b.data.T, da), lambda g, db: (a.data.T, g, db))
    return record("matmul", y, (a, back.of("x"), b), (b, back.of("w"), a))


def gradients(x: Tensor, w: Tensor, for_x: Callable[..., Product], for_w: Callable[..., Product]) -> Gradients:
    """Those of the two factors of a product, each a product too: handed over to threads together."""

    def make(g: Array) -> dict[str, Array]:
        jobs, found = [], {}
        if x.requires_grad:
            found["x"] = CPU.empty(x.shape, x.dtype)
            jobs.append(for_x(g, found["x"]))
        if w.requires_grad:
            found["w"] = place(w)
            jobs.append(for_w(g, found["w"]))
        products(*jobs)
        return found

    return Gradients(make)


Product: TypeAlias = "tuple[Array, Array, Array]"  # a (n, k), b (k, m), and where a @ b goes, (n, m)


def products(*jobs: Product) -> None:
    """Compute these, in parts that threads share (threads.py)."""
    todo = [part for job in jobs for part in _parts(*job)]

    def work(start: int, stop: int) -> None:
        for a, b, out in todo[start:stop]:
            np.matmul(a, b, out=out)

    if len(todo) > len(jobs):
        split(work, len(todo))
    else:
        work(0, len(todo))


def _parts(a: Array, b: Array, out: Array) -> list[Product]:
    """The same product by rows, or by columns: every part needs all of the other side's matrix."""
    parts = parts_for(a.size * b.shape[1])
    if len(a) <= 2 * b.shape[1]:  # b costs BLAS less to prepare
        a, b, out = b.T, a.T, out.T
    n = -(-len(a) // parts)
    return [(a[i : i + n], b, out[i : i + n]) for i in range(0, len(a), n)] if parts > 1 else [(a, b, out)]


def relu(x: Tensor) -> Any:
    """See ops.relu. Any shape."""
    if not plain(x):
        return NotImplemented
    y = np.maximum(x.data, 0, out=_empty_like(x.data, x.dtype))

    def vjp(g: Array) -> Array:
        passes = np.less_equal(y, 0, out=_empty_like(y, BOOL))
        return chosen(g, np.logical_not(passes, out=passes), _empty_like(y, g.dtype))

    return record("relu", y, (x, vjp))


def sum_rows(g: Array, out: Array) -> None:
    """The sum of the rows of g (N, out), in double precision where there are many: float32 would lose small ones."""
    if len(g) > MANY:
        np.copyto(out, np.add.reduceat(g, range(0, len(g), MANY), 0).sum(0, np.float64), "same_kind")
    else:
        np.add.reduce(g, 0, out=out)


def chosen(g: Array, mask: Array, out: Array) -> Array:
    """g where the mask is true, else 0. Whole numbers are multiplied, the bits of g: 0 times infinity is no number."""
    bits = f"u{g.itemsize}"
    np.multiply(g.view(bits), mask, out=out.view(bits))
    return out


def _empty_like(a: Array, dtype: Any) -> Array:
    """An array of a's shape, and laid out as a is, so that NumPy goes through both from front to back."""
    if a.ndim != 4 or a.flags.c_contiguous:
        return CPU.empty(a.shape, dtype)
    return CPU.empty(channels_last(a).shape, dtype).transpose(0, 3, 1, 2)


CPU.kernels.update(linear=linear, matmul=matmul, relu=relu)
