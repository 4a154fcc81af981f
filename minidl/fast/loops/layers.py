"""Linear and Conv2d in compiled loops (dense.py, images.py), optionally fused with the ReLU that follows.

When backward() requests the first gradient, all are computed: they share their inputs.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast.blas import for_loops
from minidl.fast.linear import place, plain
from minidl.fast.loops import dense, images, stacks
from minidl.fast.loops.layout import FEW, empty, stored, usual
from minidl.fast.loops.pools import fitting, results
from minidl.fast.loops.team import ready
from minidl.ops_conv import Pair, Size, _pair
from minidl.tensor import Tensor, record

SHORT = 16  # elements in a row of a window: images with fewer are read as planes


class Layer:
    """One use of a layer with weights w and perhaps a bias b, whose gradients are computed together by `make`.

    Its vjps are methods: three closures would be twenty more objects, which Python's garbage collector goes through.
    """

    __slots__ = ("b", "found", "g", "relu", "w", "x")

    def __init__(self, x: Tensor, w: Tensor, b: Tensor | None, relu: bool) -> None:
        self.x, self.w, self.b, self.relu = x, w, b, relu
        self.g: Array | None = None  # the output gradient that `found` belongs to
        self.found: list[Array | None]

    def make(self, g: Array) -> list[Array | None]:
        """The gradients of x, w and b, from that of the output."""
        raise NotImplementedError

    def of_x(self, g: Array) -> Array:
        return self._of(0, g)

    def of_w(self, g: Array) -> Array:
        return self._of(1, g)

    def of_b(self, g: Array) -> Array:
        return self._of(2, g)

    def _of(self, i: int, g: Array) -> Array:
        if g is not self.g or self.found[i] is None:
            self.g, self.found = g, self.make(g)
        found, self.found[i] = self.found[i], None
        return found  # type: ignore[return-value]

    def recorded(self, name: str, y: Array) -> Tensor:
        """The output, y, recorded for backward()."""
        x, w = self.x, self.w
        if self.b is None:
            return record(name, y, (x, self.of_x, w), (w, self.of_w, x))
        return record(name, y, (x, self.of_x, w), (w, self.of_w, x), (self.b, self.of_b))


@cache
def nothing(ndim: int, dtype: Any) -> Array:
    """An empty array: stands for what is not given, or not needed."""
    return np.empty((0,) * ndim, dtype)


# ---- dense layers ----


def linear(x: Tensor, w: Any, b: Any = None, *, relu: bool = False) -> Any:
    """See ops.linear. x (..., in), w (out, in), b (out,) -> (..., out). relu: fused with a ReLU: one pass over the
    output adds the bias and clamps at 0."""
    if not plain(x, w, b) or x.ndim < 2 or w.ndim != 2 or x.shape[-1] != w.shape[1] or not x.data.size * w.data.size:
        return NotImplemented
    if b is not None and b.shape != w.shape[:1]:
        return NotImplemented
    layer = Dense(x, w, b, relu)
    return layer.recorded("linear_relu" if relu else "linear", layer.y.reshape(*x.shape[:-1], len(w.data)))


class Dense(Layer):
    """One use of the loops in dense.py: y (n, out) = rows (n, in) weights^T + b."""

    __slots__ = ("rows", "weights", "work", "y")

    def __init__(self, x: Tensor, w: Tensor, b: Tensor | None, relu: bool) -> None:
        super().__init__(x, w, b, relu)
        (n_out, n_in), dtype = w.shape, x.dtype
        self.rows, self.weights = np.ascontiguousarray(x.data).reshape(-1, n_in), np.ascontiguousarray(w.data)
        self.y, self.work = CPU.empty((len(self.rows), n_out), dtype), self.rows.size * n_out
        bias = added(b, n_out, dtype, relu)
        dense.forward(ready(self.work), for_loops(dtype), self.rows, self.weights, bias, self.y, relu)

    def make(self, g: Array) -> list[Array | None]:
        x, w, b, rows, dtype = self.x, self.w, self.b, self.rows, self.y.dtype
        dx = CPU.empty(rows.shape, dtype) if x.requires_grad else nothing(2, dtype)
        dw = place(w) if w.requires_grad else nothing(2, dtype)
        db = place(b) if b is not None and b.requires_grad else nothing(1, dtype)
        g, y = np.ascontiguousarray(g).reshape(self.y.shape), self.y if self.relu else nothing(2, dtype)
        dense.backward(ready(self.work), for_loops(dtype), g, y, rows, self.weights, dx, dw, db)
        return [dx.reshape(x.shape) if x.requires_grad else dx, dw, db]


def added(b: Tensor | None, n: int, dtype: Any, relu: bool) -> Array:
    """What is added to each row of the output: the bias; without one, zeros if that pass also applies a ReLU."""
    if b is not None:
        return np.ascontiguousarray(b.data)  # contiguous, for the loops: it may be a column of a matrix
    return np.zeros(n, dtype) if relu else nothing(1, dtype)


linear_relu = partial(linear, relu=True)


def matmul(a: Tensor, b: Any) -> Any:
    """See ops.matmul. a (..., n, k) and one matrix b (k, m) -> (..., n, m): one product, of all rows of a. For two
    stacks, see stacks.py.
    """
    if not plain(a, b) or a.ndim < 2 or a.shape[-1:] != b.shape[-2:-1] or not a.data.size * b.data.size:
        return NotImplemented
    if b.ndim > 2:
        return stacks.matmul(a, b)
    (k, m), blas, dtype, work = b.shape, for_loops(a.dtype), a.dtype, a.data.size * b.shape[1]
    turned = b.data.T.flags.c_contiguous and not b.data.flags.c_contiguous  # as in x @ w.T, without a copy of w
    left, right = np.ascontiguousarray(a.data).reshape(-1, k), b.data.T if turned else np.ascontiguousarray(b.data)
    forward, back = (dense.RIGHT, dense.NEITHER) if turned else (dense.NEITHER, dense.RIGHT)

    def product(x: Array, y: Array, turn: int, out: Array) -> Array:
        dense.matmul(ready(work), blas, x, y, out, turn)
        return out

    def rows(g: Array) -> Array:
        return np.ascontiguousarray(g).reshape(-1, m)

    return record(
        "matmul",
        product(left, right, forward, CPU.empty((len(left), m), dtype)).reshape(*a.shape[:-1], m),
        (a, lambda g: product(rows(g), right, back, CPU.empty(left.shape, dtype)).reshape(a.shape), b),
        (b, lambda g: product(left, rows(g), dense.LEFT, place(b)), a),  # (k, n) @ (n, m)
    )


# ---- convolutions ----


def conv2d(x: Tensor, w: Any, b: Any = None, stride: Size = 1, padding: Size = 0, *, relu: bool = False) -> Any:
    """See ops.conv2d. x (N, C, H, W), w (out, C, kh, kw), b (out,) -> (N, out, OH, OW). relu: fused with a ReLU."""
    if not usual_convolution(x, w, b, stride, padding):
        return NotImplemented
    return Convolution(x, w, b, stride, padding, relu).output()


conv2d_relu = partial(conv2d, relu=True)


def conv2d_max_pool2d(
    x: Tensor, w: Any, b: Any, stride: Size, padding: Size, k: Size, k_stride: Size | None, k_padding: Size,
    relu: bool = False,
) -> Any:  # fmt: skip
    """Conv2d and MaxPool2d fused: the array between them, the network's largest, stays in the cache."""
    if not usual_convolution(x, w, b, stride, padding) or len(w) < FEW:
        return NotImplemented
    convolution = Convolution(x, w, b, stride, padding, relu)
    window = fitting((len(x), len(w), *convolution.size), k, k_stride, k_padding)
    return NotImplemented if window is None else convolution.pooled(window).output()


conv2d_relu_max_pool2d = partial(conv2d_max_pool2d, relu=True)  # or with the ReLU last: the two commute


def usual_convolution(x: Tensor, w: Any, b: Any, stride: Size, padding: Size) -> bool:
    """Whether these loops support the convolution; anything else is left to the reference, errors included."""
    if not plain(x, w, b) or x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] or not x.data.size * w.data.size:
        return False
    pad, steps = _pair(padding), _pair(stride)
    fits = all(w.shape[i] <= x.shape[i] + 2 * pad[i - 2] for i in (2, 3))
    return fits and min(steps) > 0 and min(pad) >= 0 and (b is None or b.shape == w.shape[:1])


class Convolution(Layer):
    """One use of the loops in images.py: the layouts of the arrays, and the filters as a matrix.

    few, few_out  whether x, and the output, are stored as planes
    size          (OH, OW) of the convolution's own output
    pool          the window, stride and padding of a max pooling after it
    y             the output; winners: where in the convolution's output each maximum was, or empty
    """

    pool: tuple[Pair, Pair, Pair] = ((1, 1), (1, 1), (0, 0))

    def __init__(self, x: Tensor, w: Tensor, b: Tensor | None, stride: Size, padding: Size, relu: bool = False) -> None:
        super().__init__(x, w, b, relu)
        self.stride, self.padding, self.dtype = _pair(stride), _pair(padding), x.dtype
        (o, c, *self.kernel), (ph, pw), (sh, sw), n = w.shape, self.padding, self.stride, len(x)
        self.few, self.few_out = self.kernel[1] * c < SHORT, o < FEW
        self.size = (x.shape[2] + 2 * ph - w.shape[2]) // sh + 1, (x.shape[3] + 2 * pw - w.shape[3]) // sw + 1
        self.images = stored(x.data, self.few)
        self.work = n * self.size[0] * self.size[1] * w.data.size
        self.y = empty((n, o, *self.size), x.dtype, self.few_out)
        self.winners = nothing(4, np.int32)

    def pooled(self, window: tuple[Pair, Pair, Pair]) -> Convolution:
        """Add a max pooling after it."""
        self.pool = window
        self.y = empty(results((len(self.x), len(self.w), *self.size), *window), self.dtype, few=False)
        self.winners = CPU.empty(self.y.shape, np.int32)
        return self

    def output(self) -> Tensor:
        self.filters = as_matrix(self.w.data, self.few)  # backward may come after the weights have changed
        images.forward(
            ready(self.work), for_loops(self.dtype), self.images, self.filters,
            added(self.b, len(self.w), self.dtype, self.relu), self.y, self.winners, self.few, self.few_out,
            self.size, tuple(self.kernel), self.stride, self.padding, self.relu, self.pool,
        )  # fmt: skip
        name = "conv2d" + "_relu" * self.relu + "_max_pool2d" * bool(self.winners.size)
        return self.recorded(name, usual(self.y, self.few_out))

    def _goes_through(self) -> bool:
        """Whether backward is computed as a convolution too: if that adds at most a quarter of work, for pixels at the
        edges, and its windows have at most twice as many channels as those of x."""
        (oh, ow), (h, w), (kh, kw), (ph, pw) = self.size, self.x.shape[2:], self.kernel, self.padding
        pays = 4 * h * w <= 5 * oh * ow and len(self.w) <= 2 * self.x.shape[1]
        return self.stride == (1, 1) and not self.few and ph < kh and pw < kw and pays

    def make(self, g: Array) -> list[Array | None]:
        dtype, w, asks, kernel = self.dtype, self.w, self.x.requires_grad, tuple(self.kernel)
        dx = CPU.empty(self.images.shape, dtype) if asks else nothing(4, dtype)
        db = place(self.b) if self.b is not None and self.b.requires_grad else CPU.empty((len(w),), dtype)
        dw = place(w) if w.requires_grad else CPU.empty(w.shape, dtype)
        known = ready(self.work), for_loops(dtype), stored(g, self.few_out), self.y, self.winners, self.images
        through = asks and self._goes_through()
        if through:
            turned, (ph, pw), (kh, kw) = as_matrix(turn(w.data), self.few_out), self.padding, kernel
            matrix, back = CPU.empty(turned.shape, dtype), (kh - 1 - ph, kw - 1 - pw)
            images.through(*known, turned, dx, matrix, db, self.few_out, self.size, kernel, back, self.relu)
            from_matrix(matrix, turn(dw), self.few_out)
        if not through or np.isnan(matrix).any():  # g is padded with zeros, which make NaN of an infinite pixel of x
            matrix = CPU.empty(self.filters.shape, dtype)
            images.across(
                *known, self.filters, dx, matrix, db, self.few, self.few_out, self.size, kernel, self.stride,
                self.padding, self.relu,
            )  # fmt: skip
            from_matrix(matrix, dw, self.few)
        return [usual(dx, self.few), dw, db]


def turn(w: Array) -> Array:
    """The view of filters (out, C, kh, kw) as filters (C, out, kh, kw), each rotated by 180 degrees."""
    return w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)


def as_matrix(w: Array, few: bool) -> Array:
    """Filters (out, C, kh, kw) as a matrix (K, out), in the order of a window's elements."""
    return np.ascontiguousarray(w.transpose((1, 2, 3, 0) if few else (2, 3, 1, 0))).reshape(-1, len(w))


def from_matrix(matrix: Array, w: Array, few: bool) -> None:
    """The inverse: fill w."""
    filters = w.transpose((1, 2, 3, 0) if few else (2, 3, 1, 0))
    filters[...] = matrix.reshape(filters.shape)
