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
    raise NotImplementedError("A4: conv2d is yours to write")


@accelerated
def max_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The largest value of each window: x (N, C, H, W) -> (N, C, OH, OW), OH = (H + 2*padding - kh) // stride + 1.

    kernel_size  the window's height and width, or one number for both
    stride       from window to window; None: the window's size
    padding      at most half a window. The border never wins, as if padded with less than -infinity

    Among equal values the first gets the gradient. NaN always wins, and among NaNs the last gets it, as in PyTorch.
    """
    raise NotImplementedError("A4: max_pool2d is yours to write")


@accelerated
def avg_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Tensor:
    """The mean of each window of x, padding zeros included; shapes, kernel_size, stride, padding as for max_pool2d."""
    raise NotImplementedError("A4: avg_pool2d is yours to write")


# ---- windows ----


def _windows(x: Array, kernel: Pair, stride: Pair) -> Array:
    """Every position of the window: a view (N, C, OH, OW, kh, kw) of x (N, C, H, W).

    A step along OH moves down `stride` rows, a step along kh one row: both index the same memory.
    """
    raise NotImplementedError("A4: _windows is yours to write")


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
    raise NotImplementedError("A4: _scatter is yours to write")


def _pad(x: Array, padding: Pair, fill: float = 0.0) -> Array:
    raise NotImplementedError("A4: _pad is yours to write")


def _unpad(x: Array, padding: Pair) -> Array:
    raise NotImplementedError("A4: _unpad is yours to write")


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
