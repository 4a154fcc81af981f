"""A4, the teacher's part: convolution, pooling and their gradients, by plain loops over the formulas."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tutorials.assignments.assignment import Call, Items
from tutorials.assignments.check import Array, Wrong, exact, expect, normal, require
from tutorials.assignments.graph import Operation, run, wide

Pair = tuple[int, int]


def windows_of(x: Array, kernel: Pair, stride: Pair) -> Array:
    """Every position of the window, (N, C, OH, OW, kh, kw): stands in for a wrong `_windows`."""
    padded, found = places(x, kernel, stride, 0)
    i, j, _ = found[-1]
    y = np.zeros((*x.shape[:2], i + 1, j + 1, *kernel))
    for i, j, window in found:
        y[:, :, i, j] = padded[window]
    return y.astype(x.dtype)


def scatter_of(per_window: Array, size: Pair, stride: Pair, padding: Pair) -> Array:
    """The windows added at their positions in a padded image, whose size without the border is given."""
    n, c, _, _, kh, kw = per_window.shape
    padded, found = places(np.zeros((n, c, *size)), (kh, kw), stride, padding)
    for i, j, window in found:
        padded[window] += per_window[:, :, i, j]
    return padded.astype(per_window.dtype)


def pad_of(x: Array, padding: Pair, fill: float = 0.0) -> Array:
    """A border of `fill` around the images."""
    return places(x, (1, 1), 1, padding, fill)[0].astype(x.dtype)


def unpad_of(x: Array, padding: Pair) -> Array:
    """The images without their border."""
    (ph, pw), (h, w) = padding, x.shape[2:]
    return x[:, :, ph : h - ph, pw : w - pw]


ITEMS = Items(lesson=8, parts={"_windows": windows_of, "_pad": pad_of, "_scatter": scatter_of, "_unpad": unpad_of})
# A student pays only once for the same slip in the value and in the gradient.
ADD = "Windows overlap: a pixel in two of them gets both gradients. Add, don't assign."
TURNED = "You flipped the filter, as in mathematics: here pixel (i, j) of a window is multiplied by w[i, j]."
MEAN = "Don't divide by the number of images: where the loss is a mean, g already contains that."
BOTH = (np.float32, np.float64)


def pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def places(x: Array, kernel: Any, stride: Any, padding: Any, fill: float = 0.0) -> tuple[Array, list[Any]]:
    """The padded images, and for each output position (i, j) the slices of its window."""
    (kh, kw), (sh, sw), (ph, pw) = pair(kernel), pair(stride), pair(padding)
    n, c, h, w = x.shape
    padded = np.full((n, c, h + 2 * ph, w + 2 * pw), fill)
    padded[:, :, ph : ph + h, pw : pw + w] = x
    rows, columns = range((h + 2 * ph - kh) // sh + 1), range((w + 2 * pw - kw) // sw + 1)
    found = [(i, j, np.s_[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw]) for i in rows for j in columns]
    return padded, found


def conv(x: Array, w: Array, b: Array | None, stride: Any = 1, padding: Any = 0) -> Array:
    """y[n, o, i, j] = sum over the window of x * w[o], + b[o]."""
    padded, found = places(x, w.shape[2:], stride, padding)
    i, j, _ = found[-1]
    y = np.zeros((len(x), len(w), i + 1, j + 1))
    for i, j, window in found:
        y[:, :, i, j] = np.einsum("ncij,ocij->no", padded[window], w)
    return y if b is None else y + b[:, None, None]


def conv_gradients(
    x: Array, w: Array, g: Array, stride: Any = 1, padding: Any = 0, add: bool = True
) -> tuple[Array, Array, Array]:
    """The gradients of sum(g * y): each output passes its gradient to all its inputs. Without `add`: a mistake."""
    padded, found = places(x, w.shape[2:], stride, padding)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j, window in found:
        dx[window] = add * dx[window] + np.einsum("no,ocij->ncij", g[:, :, i, j], w)
        dw += np.einsum("no,ncij->ocij", g[:, :, i, j], padded[window])
    return unpadded(dx, padding, x), dw, g.sum((0, 2, 3))


def unpadded(dx: Array, padding: Any, x: Array) -> Array:
    (ph, pw), (h, w) = pair(padding), x.shape[2:]
    return dx[:, :, ph : ph + h, pw : pw + w]


def pool(x: Array, k: Any, how: Any, stride: Any = None, padding: Any = 0, fill: float = 0.0) -> Array:
    """how(window) for every window."""
    padded, found = places(x, k, k if stride is None else stride, padding, fill)
    i, j, _ = found[-1]
    y = np.zeros((*x.shape[:2], i + 1, j + 1))
    for i, j, window in found:
        y[:, :, i, j] = how(padded[window])
    return y


def pool_gradient(
    x: Array, k: Any, share: Any, g: Array, stride: Any = None, padding: Any = 0, fill: float = 0.0, add: bool = True
) -> Array:
    """share(window): the fraction of its output's gradient that each pixel gets. Without `add`: a mistake."""
    padded, found = places(x, k, k if stride is None else stride, padding, fill)
    dx = np.zeros_like(padded)
    for i, j, window in found:
        dx[window] = add * dx[window] + share(padded[window]) * g[:, :, i, j][:, :, None, None]
    return unpadded(dx, padding, x)


def first_winner(window: Array) -> Array:
    """1 at the first maximum of each window, else 0."""
    flat = window.reshape(*window.shape[:2], -1)
    return (np.arange(flat.shape[2]) == flat.argmax(2)[..., None]).reshape(window.shape)


def last_winner(window: Array) -> Array:
    return first_winner(window[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]


def all_winners(window: Array) -> Array:
    return np.asarray(window == window.max((2, 3), keepdims=True))


def shares_of(window: Array) -> Array:
    winners = all_winners(window)
    return np.asarray(winners / winners.sum((2, 3), keepdims=True))


@ITEMS.item("_windows: every position of the window, as a view", 10, "_windows")
def windows(call: Call, rng: np.random.Generator) -> None:
    for shape, kernel, stride, order in (
        ((2, 3, 5, 6), [2, 3], [1, 1], "C"),
        ((1, 2, 7, 6), [3, 2], [2, 3], "C"),
        ((2, 1, 4, 4), [4, 4], [1, 1], "C"),
        ((2, 3, 5, 6), [2, 3], [2, 1], "F"),
    ):
        x = normal(rng, shape)
        padded, found = places(x, kernel, stride, 0)
        i, j, _ = found[-1]
        right = np.zeros((*shape[:2], i + 1, j + 1, *kernel))
        for i, j, window in found:
            right[:, :, i, j] = padded[window]
        got = call("windows", x=x, kernel=kernel, stride=stride, order=order)
        told = f"_windows of {shape}, window {tuple(kernel)}, stride {tuple(stride)}"
        told += ", where x is not C-contiguous: use x.strides" if order == "F" else ""
        expect(got["values"], exact(right, 0), np.float64, told)
        require(got["is_view"], f"{told}: this is a copy; a view takes no memory, however much the windows overlap")


CONVOLUTIONS: tuple[Any, ...] = (
    ((2, 1, 5, 5), (1, 1, 3, 3), {}), ((2, 3, 6, 5), (4, 3, 3, 2), {}), ((2, 2, 7, 8), (3, 2, 3, 3), {"stride": 2}),
    ((1, 2, 5, 5), (3, 2, 3, 3), {"padding": 1}), ((2, 2, 6, 7), (2, 2, 2, 3), {"stride": [2, 3], "padding": [1, 0]}),
)  # fmt: skip


def convolve(
    call: Call, rng: np.random.Generator, dtype: Any, shape: Any, filters: Any, options: Any, bias: bool
) -> Any:
    """The arrays of a convolution, in float64, and the student's result."""
    x, w, b = (normal(rng, s, dtype) for s in (shape, filters, filters[:1]))
    inputs = [x, w, b] if bias else [x, w]
    return *wide(x, w, b), run(call, "conv2d", inputs, **options)


@ITEMS.item("conv2d: the value", 20, "conv2d")
def conv_value(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, filters, options in CONVOLUTIONS:
            for bias in (False, True):
                x, w, b, op = convolve(call, rng, dtype, shape, filters, options, bias)
                c = b if bias else None
                size = conv(np.abs(x), np.abs(w), np.abs(b) if bias else None, **options)
                no_padding = {k: v for k, v in options.items() if k != "padding"}
                op.value(exact(conv(x, w, c, **options), w[0].size + 2, size), {
                    TURNED: lambda: conv(x, w[:, :, ::-1, ::-1], c, **options),
                    "b is missing.": lambda: conv(x, w, None, **options),
                    "b has one element per filter, and filters are along axis 1: use b[:, None, None].":
                        lambda: along_width(conv(x, w, None, **options), b),
                    "The padding is missing.": lambda: conv(x, w, c, **no_padding),
                    "The stride is ignored.": lambda: conv(x, w, c, padding=options.get("padding", 0)),
                    "A stride given as a pair is (height, width).":
                        lambda: conv(x, w, c, **{**options, "stride": pair(options.get("stride", 1))[::-1]}),
                })  # fmt: skip


def along_width(y: Array, b: Array) -> Array:
    """y + b as NumPy broadcasts it; NaN if the shapes don't fit."""
    return y + (b if len(b) in (1, y.shape[-1]) else np.nan)


@ITEMS.item("conv2d: the gradient of the filters and of b", 15, "conv2d")
def conv_filters(call: Call, rng: np.random.Generator) -> None:
    _gradients(call, rng, which=(1, 2))


@ITEMS.item("conv2d: the gradient of the images", 20, "conv2d")
def conv_images(call: Call, rng: np.random.Generator) -> None:
    try:
        _gradients(call, rng, which=(0,))
    except Wrong as wrong:  # b does not affect it: a slip with b has cost its marks above
        try:
            _gradients(call, rng, which=(0,), bias=False)
        except Wrong:
            raise wrong from None


def _gradients(call: Call, rng: np.random.Generator, which: tuple[int, ...], bias: bool = True) -> None:
    for dtype in BOTH:
        for shape, filters, options in CONVOLUTIONS:
            x, w, b, op = convolve(call, rng, dtype, shape, filters, options, bias)
            g = normal(rng, conv(x, w, b, **options).shape, dtype)
            (g64,) = wide(g)
            rights, sizes = conv_gradients(x, w, g64, **options), conv_gradients(*map(np.abs, (x, w, g64)), **options)
            turned = lambda: conv_gradients(x, w[:, :, ::-1, ::-1], g64, **options)[0]  # noqa: E731
            mistakes: dict[str, Any] = {
                TURNED: turned,
                ADD: lambda: conv_gradients(x, w, g64, **options, add=False)[0],
            }
            exacts = [exact(r, 20 + g.size, s) for r, s in zip(rights, sizes, strict=True)][: 2 + bias]
            op.only(which).gradients(g, exacts, mistakes, {
                TURNED: lambda: rights[1][:, :, ::-1, ::-1], MEAN: lambda: rights[1] / len(x),
            }, {
                MEAN: lambda: rights[2] / len(x),
                "b is added at every position of every image: its gradient is the sum over all of them.":
                    lambda: g64.mean((0, 2, 3)),
                "b is added to every image: sum over the images as well.": lambda: g64[0].sum((1, 2)),
            })  # fmt: skip


BORDER = "The border must never win: pad with -infinity, not with 0 or another number."
STRIDE = "stride=None means the window's size, not 1."
POOLS: tuple[Any, ...] = (
    ((2, 2, 4, 6), 2, {}), ((1, 2, 5, 7), 2, {}), ((2, 1, 6, 6), 3, {"stride": 1}),
    ((1, 2, 6, 7), [2, 3], {"stride": [1, 2]}),
    ((2, 1, 5, 5), 3, {"stride": 2, "padding": 1}),
)  # fmt: skip


def steps_by_1(call: Call, op: Operation, k: Any, options: Any) -> bool:
    """Whether the answer takes stride=None as 1, a slip that the student has already paid for."""
    by_1 = pool(op.inputs[0], k, lambda v: v.max((2, 3)), stride=1)
    taken = "stride" not in options and np.shape(op.reply["value"]) == by_1.shape
    return bool(taken and call.ledger.forgives(STRIDE))


@ITEMS.item("max_pool2d: the value", 10, "max_pool2d")
def max_value(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, k, options in POOLS:
            x: Array = (normal(rng, shape) - 2).astype(dtype)  # mostly negative: a border of zeros would win
            if dtype is np.float64:  # and here a border of -1e9 would win
                x *= 1e30 * np.sign(-x)
            (a,) = wide(x)
            right = exact(pool(a, k, lambda v: v.max((2, 3)), **options, fill=-np.inf), 0)
            op = run(call, "max_pool2d", [x], kernel_size=k, **options)
            border = float(np.max(op.reply["value"])) if dtype is np.float64 else 0.0
            op.value(right, {
                BORDER: partial(pool, a, k, lambda v: v.max((2, 3)), **options, fill=border),
                "You computed the mean.": lambda: pool(a, k, lambda v: v.mean((2, 3)), **options),
                STRIDE: lambda: pool(a, k, lambda v: v.max((2, 3)), **{"stride": 1, **options}),
            })  # fmt: skip


@ITEMS.item("max_pool2d: the gradient goes to the winner, the first of equals", 12, "max_pool2d")
def max_gradient(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, k, options in POOLS:
            x = rng.integers(-2, 3, shape).astype(dtype)  # with ties
            (a,) = wide(x)
            g = normal(rng, pool(a, k, lambda v: v.max((2, 3)), **options).shape, dtype)
            (g64,) = wide(g)
            how = {**options, "fill": -np.inf}
            right, size = (pool_gradient(a, k, first_winner, each, **how) for each in (g64, np.abs(g64)))
            op = run(call, "max_pool2d", [x], kernel_size=k, **options)
            if steps_by_1(call, op, k, options):
                continue
            op.gradients(g, [exact(right, 12, size)], {
                "Of tied maxima, the first gets the gradient; yours gives it to all of them.":
                    lambda: pool_gradient(a, k, all_winners, g64, **how),
                "Of tied maxima, the first gets the gradient; yours splits it among them.":
                    lambda: pool_gradient(a, k, shares_of, g64, **how),
                "Of tied maxima, the first gets the gradient; yours gives it to the last.":
                    lambda: pool_gradient(a, k, last_winner, g64, **how),
                ADD:
                    lambda: pool_gradient(a, k, first_winner, g64, **how, add=False),
                BORDER: lambda: pool_gradient(a, k, first_winner, g64, **options),
            })  # fmt: skip


SUM = "This is the sum: divide by kh * kw."
ZEROS = "The zeros of the padding count: divide by kh * kw everywhere."


def inside(x: Array, k: Any, options: Any) -> Array:
    """For each window, the fraction of it that is not border."""
    return pool(np.ones_like(x), k, lambda v: v.mean((2, 3)), **options)


@ITEMS.item("avg_pool2d: the value", 6, "avg_pool2d")
def average(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, k, options in POOLS:
            x = normal(rng, shape, dtype)
            (a,) = wide(x)
            y, size = (pool(each, k, lambda v: v.mean((2, 3)), **options) for each in (a, np.abs(a)))
            op = run(call, "avg_pool2d", [x], kernel_size=k, **options)
            if steps_by_1(call, op, k, options):
                continue
            op.value(exact(y, 12, size), {
                SUM: lambda: y * np.prod(pair(k)), ZEROS: lambda: y / inside(a, k, options),
                STRIDE: lambda: pool(a, k, lambda v: v.mean((2, 3)), **{"stride": 1, **options}),
            })  # fmt: skip


@ITEMS.item("avg_pool2d: the gradient", 7, "avg_pool2d")
def average_gradient(call: Call, rng: np.random.Generator) -> None:
    for dtype in BOTH:
        for shape, k, options in POOLS:
            x = normal(rng, shape, dtype)
            (a,) = wide(x)
            y = pool(a, k, lambda v: v.mean((2, 3)), **options)
            op = run(call, "avg_pool2d", [x], kernel_size=k, **options)
            if steps_by_1(call, op, k, options):
                continue
            g = normal(rng, y.shape, dtype)
            (g64,) = wide(g)
            part = 1 / np.prod(pair(k))
            right, size = (pool_gradient(a, k, lambda v: part, each, **options) for each in (g64, np.abs(g64)))
            op.gradients(g, [exact(right, 14, size)], {
                SUM: lambda: right / part,
                ZEROS: lambda: pool_gradient(a, k, lambda v: part, g64 / inside(a, k, options), **options),
                ADD:
                    lambda: pool_gradient(a, k, lambda v: part, g64, **options, add=False),
            })  # fmt: skip
