"""The two memory layouts of images, and the conversion between them.

Images with many channels are stored channels last, as (N, H, W, C) behind the usual view (N, C, H, W): loops over
channels are then contiguous. Images with few channels are stored channels first, (N, C, H, W): as planes, one per
channel. To convert one layout to the other, the last two axes, pixels and channels, are transposed for each image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.backend import CPU, Array
from minidl.fast.linear import channels_last, plain
from minidl.fast.loops.compiler import loop, part
from minidl.fast.loops.team import Team, ready, share
from minidl.fast.loops.words import entry
from minidl.tensor import Tensor, record

FEW = 8  # channels: images with fewer are stored as planes


@part
def cuts(things, size):
    """How many parts this many items, of `size` elements in all, are split into."""
    return max(1, min(16, things, size >> 14))


def crew(size: int) -> Team:
    """The threads that share a loop over this many elements; no helpers if it is short."""
    return ready(16 * size)


@part
def turn(x, y):
    """y (b, a) = the first a rows of x (_, b), transposed."""
    whole = y.shape[1] // 8 * 8
    for top in range(0, whole, 8):  # eight rows at a time: the columns of more would not stay in the cache
        for b in range(len(y)):
            row = y[b]
            for a in range(8):
                row[top + a] = x[top + a, b]
    for b in range(len(y) if whole < y.shape[1] else 0):
        row = y[b]
        for a in range(whole, len(row)):
            row[a] = x[a, b]


@part
def swap_part(i, parts, x, y):
    """Some images."""
    for n in range(len(x) * i // parts, len(x) * (i + 1) // parts):
        turn(x[n], y[n])


@loop
def swap(team, x, y):
    """y = x with its last two axes swapped. x (n, a, b), y (n, b, a)."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(swap_part, (parts, x, y)))


# ---- the two layouts ----


def last(x: Array) -> Array:
    """Images (N, C, H, W) as (N, H, W, C), contiguous; no copy if they already are."""
    view, (n, c, h, w) = channels_last(x), x.shape
    if view.flags.c_contiguous or not x.flags.c_contiguous or not x.size:
        return np.ascontiguousarray(view)
    out = CPU.empty((n, h, w, c), x.dtype)
    swap(crew(x.size), x.reshape(n, c, h * w), out.reshape(n, h * w, c))
    return out


def planes(x: Array) -> Array:
    """Images (N, C, H, W), contiguous in this order; no copy if they already are."""
    view, (n, c, h, w) = channels_last(x), x.shape
    if x.flags.c_contiguous or not view.flags.c_contiguous or not x.size:
        return np.ascontiguousarray(x)
    out = CPU.empty(x.shape, x.dtype)
    swap(crew(x.size), view.reshape(n, h * w, c), out.reshape(n, c, h * w))
    return out


def stored(x: Array, few: bool) -> Array:
    """Images (N, C, H, W) in the layout of the loops: (N, H, W, C), or with few channels (N, C, H, W). Never read-only,
    unlike broadcast arrays: the loops that write to images in backward are not compiled for those.
    """
    images = planes(x) if few else last(x)
    return images if images.flags.writeable else images.copy()


def empty(shape: tuple[int, ...], dtype: Any, few: bool) -> Array:
    """Memory for images (N, C, H, W), in the layout of the loops."""
    n, c, h, w = shape
    return CPU.empty(shape if few else (n, h, w, c), dtype)


def usual(x: Array, few: bool) -> Array:
    """The view (N, C, H, W) of images in the layout of the loops."""
    return x if few else x.transpose(0, 3, 1, 2)


# ---- the operation ----


def reshape(x: Tensor, *shape: Any) -> Any:
    """See ops.reshape. Images (N, C, H, W) that are stored as (N, H, W, C) -> (N, C*H*W)."""
    if type(x) is not Tensor or not plain(x) or x.ndim != 4 or x.data.flags.c_contiguous:
        return NotImplemented
    if shape not in ((len(x), x.size // max(len(x), 1)), ((len(x), -1),), (len(x), -1)):
        return NotImplemented
    y = planes(x.data).reshape(len(x), -1)
    return record("reshape", y, (x, lambda g: usual(last(g.reshape(x.shape)), few=False)))
