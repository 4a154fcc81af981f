"""Convolution and pooling: a small window slides over the image, and each position gives one output value.

The window at every position is first laid out as a view, (N, C, H, W) -> (N, C, OH, OW, kh, kw), without a copy:
neighbouring windows overlap in memory. A convolution is then a sum of products over (C, kh, kw), which is a matrix
product; pooling is a maximum or a mean over (kh, kw). Backward sends each gradient to the pixels of its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeAlias

from minidl.backend import Array, accelerated, same_bits, xp_of
from minidl.tensor import Reading, Tensor, alike, as_tensor, record, total

Size: TypeAlias = int | tuple[int, int]  # one number for both axes, or (height, width)
Pair: TypeAlias = tuple[int, int]


@same_bits
@accelerated
def conv2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0) -> Tensor:
    """Cross-correlation of images with filters, which deep learning calls convolution.

    x (N, C, H, W), weight w (out, C, kh, kw), bias b (out,) or None -> (N, out, OH, OW), where
    OH = (H + 2*padding - kh) // stride + 1. The border is padded with zeros. stride and padding are numbers or pairs
    (height, width).
    """
    if not isinstance(x, Tensor):
        return conv2d(as_tensor(x, like=weight), weight, bias, stride, padding)  # again: there may be a kernel for it
    w, b = as_tensor(weight), None if bias is None else as_tensor(bias)
    alike("conv2d", x, w, b)
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1]:
        hint = ": images without a channel axis get one with x[:, None]" if x.ndim == 3 and w.ndim == 4 else ""
        if x.ndim == 3 and x.shape[0] == w.shape[1]:
            hint = ": one image (C, H, W) is x[None]"
        if x.ndim == w.ndim == 4 and x.shape[3] == w.shape[1]:
            hint = ": channels come first, x.permute(0, 3, 1, 2), for an array x.transpose(0, 3, 1, 2)"
        raise ValueError(f"conv2d: x {x.shape} and weight {w.shape} must be (N, C, H, W) and (out, C, kh, kw){hint}")
    kernel = (w.shape[2], w.shape[3])
    stride, padding = _pair(stride, "conv2d: stride"), _pair(padding, "conv2d: padding")
    _output_size("conv2d", x, kernel, stride, padding)
    xp = xp_of(x.data)
    windows = _windows(_pad(x.data, padding), kernel, stride)  # (N, C, OH, OW, kh, kw)
    y = xp.tensordot(windows, w.data, axes=((1, 4, 5), (1, 2, 3)))  # (N, OH, OW, out)

    def vjp_x(g: Array) -> Array:
        per_window = xp.tensordot(g, w.data, axes=(1, 0))  # (N, OH, OW, C, kh, kw)
        return _unpad(_scatter(per_window.transpose(0, 3, 1, 2, 4, 5), x, stride, padding), padding)

    edges: list[Reading] = [
        (x, vjp_x, w),
        (w, lambda g: xp.tensordot(g, windows, axes=((0, 2, 3), (0, 2, 3))), x),  # (out, C, kh, kw)
    ]
    if b is not None:
        if b.shape != w.shape[:1]:
            raise ValueError(f"conv2d: bias {b.shape} must be ({w.shape[0]},), one value per filter of {w.shape}")
        y += b.data
        edges.append((b, lambda g: total(g, (0, 2, 3))))
    return record("conv2d", y.transpose(0, 3, 1, 2), *edges)


@accelerated
def max_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The largest value of each window: x (N, C, H, W) -> (N, C, OH, OW), OH = (H + 2*padding - kh) // stride + 1.

    kernel_size  the window's height and width, or one number for both
    stride       from window to window; None: the window's size
    padding      at most half a window. The border never wins, as if padded with less than -infinity

    Among equal values the first gets the gradient. NaN always wins, and among NaNs the last gets it, as in PyTorch.
    """
    x, kernel, stride, padding = _pool_arguments("max_pool2d", x, kernel_size, stride, padding)
    xp = xp_of(x.data)
    windows = _windows(_pad(x.data, padding, fill=-xp.inf), kernel, stride)
    places = _by_place(windows)
    y = places.max(0)

    def vjp(g: Array) -> Array:
        inside = _by_place(_windows(_pad(xp.ones((1, 1, *x.shape[2:]), bool), padding), kernel, stride))
        wins = _first((places == y) & inside) | _first((places != places)[::-1])[::-1]
        per_window = xp.where(wins, g, 0).reshape(*kernel, *g.shape).transpose(2, 3, 4, 5, 0, 1)
        return _unpad(_scatter(per_window, x, stride, padding), padding)

    return record("max_pool2d", y, (x, vjp, x))  # `places` may be a view


@accelerated
def avg_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The mean of each window of x, padding zeros included; shapes, kernel_size, stride, padding as for max_pool2d."""
    x, kernel, stride, padding = _pool_arguments("avg_pool2d", x, kernel_size, stride, padding)
    windows, places = _windows(_pad(x.data, padding), kernel, stride), kernel[0] * kernel[1]

    def vjp(g: Array) -> Array:
        per_window = xp_of(g).broadcast_to(g[..., None, None] / places, windows.shape)
        return _unpad(_scatter(per_window, x, stride, padding), padding)

    return record("avg_pool2d", total(windows, (4, 5), n=places), (x, vjp))


# ---- windows ----


def _windows(x: Array, kernel: Pair, stride: Pair) -> Array:
    """Every position of the window: a view (N, C, OH, OW, kh, kw) of x (N, C, H, W).

    A step along OH moves down `stride` rows, a step along kh one row: both index the same memory.
    """
    n, c, h, w = x.shape
    (kh, kw), (sh, sw) = kernel, stride
    shape = (n, c, (h - kh) // sh + 1, (w - kw) // sw + 1, kh, kw)
    by_image, by_channel, by_row, by_column = x.strides
    strides = (by_image, by_channel, by_row * sh, by_column * sw, by_row, by_column)
    return xp_of(x).lib.stride_tricks.as_strided(x, shape, strides)


def _by_place(windows: Array) -> Array:
    """A copy with the places in the window as axis 0: (N, C, OH, OW, kh, kw) -> (kh*kw, N, C, OH, OW)."""
    n, c, oh, ow, kh, kw = windows.shape
    return windows.transpose(4, 5, 0, 1, 2, 3).reshape(kh * kw, n, c, oh, ow)


def _first(mask: Array) -> Array:
    """Keep the mask true only at the first place, along axis 0, where it is true; changed in place."""
    found = mask[0].copy()
    for place in mask[1:]:
        xp_of(mask).greater(place, found, out=place)  # true, and not found before
        found |= place
    return mask


def _scatter(per_window: Array, x: Tensor, stride: Pair, padding: Pair) -> Array:
    """The transpose of `_windows`: (N, C, OH, OW, kh, kw) summed into the padded image's pixels.

    One strided addition per place (i, j) in the window: at one place, different windows touch different pixels.
    """
    n, c, oh, ow, kh, kw = per_window.shape
    (sh, sw), (ph, pw) = stride, padding
    image = xp_of(per_window).zeros((n, c, x.shape[2] + 2 * ph, x.shape[3] + 2 * pw), per_window.dtype)
    for i in range(kh):
        for j in range(kw):
            image[:, :, i : i + sh * oh : sh, j : j + sw * ow : sw] += per_window[..., i, j]
    return image


def _pad(x: Array, padding: Pair, fill: float = 0.0) -> Array:
    ph, pw = padding
    if ph == pw == 0:
        return x
    return xp_of(x).pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)


def _unpad(x: Array, padding: Pair) -> Array:
    (ph, pw), (h, w) = padding, x.shape[2:]
    return x[:, :, ph : h - ph, pw : w - pw]


def _pair(size: Any, name: str = "kernel_size, stride and padding", least: int | None = None) -> Pair:
    """(height, width) from one number for both, or two. TypeError for anything else, ValueError below `least`."""
    sizes = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in sizes) or not 1 <= len(sizes) <= 2:
        advice = ": (k - 1) // 2 keeps the images' size for an odd window k" if size == "same" else ""
        raise TypeError(f"{name}: a whole number, or two for height and width, is needed; got {size!r}{advice}")
    if least is not None and min(sizes) < least:
        raise ValueError(f"{name} must be {least} or more, got {min(sizes)}")
    return int(sizes[0]), int(sizes[-1])


def _pool_arguments(op: str, x: Any, k: Size, stride: Size | None, padding: Size) -> tuple[Tensor, Pair, Pair, Pair]:
    x, kernel, pad = as_tensor(x), _pair(k, f"{op}: kernel_size"), _pair(padding, f"{op}: padding")
    step = kernel if stride is None else _pair(stride, f"{op}: stride")
    if x.ndim != 4:
        hint = ": images without a channel axis get one with x[:, None]" if x.ndim == 3 else ""
        raise ValueError(f"{op}: x {x.shape} must be (N, C, H, W){hint}")
    if 2 * pad[0] > kernel[0] or 2 * pad[1] > kernel[1]:
        raise ValueError(f"{op}: padding {pad} must be at most half of the window {kernel}")
    _output_size(op, x, kernel, step, pad)
    return x, kernel, step, pad


def _output_size(op: str, x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> None:
    """Raise ValueError if the window is larger than the padded image, or a size is out of range."""
    height, width = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    if min(stride) < 1 or min(kernel) < 1 or min(padding) < 0:
        raise ValueError(f"{op}: window {kernel} and stride {stride} must be >= 1, padding {padding} >= 0")
    if kernel[0] > height or kernel[1] > width:
        raise ValueError(f"{op}: the window {kernel} is larger than the padded image ({height}, {width}) of {x.shape}")
