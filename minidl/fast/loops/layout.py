"""How images lie in memory, and from one order to the other.

Images with many channels lie as (N, H, W, C) behind the usual view (N, C, H, W): what is done to each channel then runs
along the memory. Those with few lie as they come, channel by channel: planes. Between both is a transposition of the
last two axes, pixels and channels, for each image.
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

FEW = 8  # channels: images with fewer lie as planes


@part
def cuts(things, size):
    """How many parts so many things are cut into, of `size` numbers in all."""
    return max(1, min(16, things, size >> 14))


def crew(size: int) -> Team:
    """The threads that share a loop over so many numbers; none, where it is short."""
    return ready(16 * size)


@part
def turn(x, y):
    """y (b, a) = as many of the rows of x (_, b), as columns."""
    for b in range(len(y)):
        row = y[b]
        for a in range(len(row)):
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


# ---- the two orders ----


def last(x: Array) -> Array:
    """Images (N, C, H, W) as (N, H, W, C) in one piece of memory; no copy where they lie so."""
    view, (n, c, h, w) = channels_last(x), x.shape
    if view.flags.c_contiguous or not x.flags.c_contiguous or not x.size:
        return np.ascontiguousarray(view)
    out = CPU.empty((n, h, w, c), x.dtype)
    swap(crew(x.size), x.reshape(n, c, h * w), out.reshape(n, h * w, c))
    return out


def planes(x: Array) -> Array:
    """Images (N, C, H, W) in this order in one piece of memory; no copy where they lie so."""
    view, (n, c, h, w) = channels_last(x), x.shape
    if x.flags.c_contiguous or not view.flags.c_contiguous or not x.size:
        return np.ascontiguousarray(x)
    out = CPU.empty(x.shape, x.dtype)
    swap(crew(x.size), view.reshape(n, h * w, c), out.reshape(n, c, h * w))
    return out


def stored(x: Array, few: bool) -> Array:
    """Images (N, C, H, W) in the layout of the loops: (N, H, W, C), or with few channels (N, C, H, W). Never read-only,
    as what broadcasting gives: loops that write to images on their way back are not compiled for that.
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
    """See ops.reshape. Images (N, C, H, W) that lie as (N, H, W, C) -> (N, C*H*W)."""
    if type(x) is not Tensor or not plain(x) or x.ndim != 4 or x.data.flags.c_contiguous:
        return NotImplemented
    if shape not in ((len(x), x.size // max(len(x), 1)), ((len(x), -1),), (len(x), -1)):
        return NotImplemented
    y = planes(x.data).reshape(len(x), -1)
    return record("reshape", y, (x, lambda g: usual(last(g.reshape(x.shape)), few=False)))
