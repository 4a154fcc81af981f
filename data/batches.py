"""From examples to the batches of training: shuffle, scale.

Pixels stay uint8 until their batch is drawn: a quarter of the memory of float32, and all of MNIST is copied to a GPU
once. The order of the examples is drawn by NumPy on the host, so a seed means the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from typing import Any, overload

import numpy as np

from minidl.backend import Array, backend_of, kernel_for
from minidl.data.idx import DataError
from minidl.data.splits import pair_of
from minidl.module import BRIGHT
from minidl.refuse import Named, refuse
from minidl.telling import tell
from minidl.tensor import Tensor


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """The number of batches; the last may be smaller."""
    return -(-examples // batch_size)


class Batches(Named, Iterator[tuple[Tensor, Array]]):
    """What `batches` returns. Each `for` over it is an epoch, from its first batch on; len() is the number of batches.

    epoch  returns an iterator over the batches of one epoch, in a newly drawn order
    n      number of batches
    """

    def __init__(self, epoch: Callable[[], Iterator[tuple[Tensor, Array]]], n: int) -> None:
        self.epoch, self.n = epoch, n
        self.going: Iterator[tuple[Tensor, Array]] | None = None  # for next()

    def __iter__(self) -> Iterator[tuple[Tensor, Array]]:
        return self.epoch()

    def __next__(self) -> tuple[Tensor, Array]:
        self.going = self.going or self.epoch()
        return next(self.going)

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"batches (x, labels), {self.n:,} in an epoch"


@overload
def batches(
    images: Any,
    labels: Any,
    batch_size: int,
    rng: np.random.Generator | None = None,
    start: int = 0,
    dtype: Any = np.float32,
    drop_last: bool = False,
) -> Batches: ...


@overload  # for batches(*data.train, batch_size=64), where a type checker can't see that there are two
def batches(
    *data: Array,
    batch_size: int,
    rng: np.random.Generator | None = None,
    start: int = 0,
    dtype: Any = np.float32,
    drop_last: bool = False,
) -> Batches: ...


def batches(  # type: ignore[misc] # the star
    images: Any,
    labels: Any,
    batch_size: int,
    rng: np.random.Generator | None = None,
    start: int = 0,
    dtype: Any = np.float32,
    drop_last: bool = False,
    **other: Any,
) -> Batches:
    """Batches (x, labels): x a Tensor (n, C, H, W), uint8 scaled to [0, 1]; n is `batch_size`, or less in the last.

    images     (N, H, W), for which C is 1, or (N, C, H, W), on any device: uint8 (scaled by 1/255) or other numbers
               (not scaled, so divide an int64 pandas column by 255 first); rows (N, F) of other data stay rows
    labels     (N,) integers on the same device; for rows also regression targets, (N,) or (N, K)
    rng        a Generator, made once before all epochs, which draws the order; None: no shuffling
    start      start with this batch of the order, to resume in the middle of an epoch
    dtype      of x, a float dtype; float32 by default
    drop_last  drop a smaller last batch, such as the batch of one that batch norm can't learn from

    `for x, y in batches(...)` is one epoch. A loader = batches(...) gives a new epoch in each `for`, and has a len().
    Raises DataError where the counts of images and labels differ, the batch size is not a whole number above 0, or
    start is below 0.
    """
    refuse("batches", other)
    images, labels = pair_of(images, labels)
    if np.ndim(batch_size):
        raise DataError("batches takes two arrays: for more, index each with chosen rows from rng.permutation(len(x))")
    if rng is not None and not hasattr(rng, "permutation"):
        raise DataError(f"rng must be np.random.default_rng(seed), made once before the epochs, got {rng!r}")
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise DataError(f"the batch size must be a whole number, at least 1, got {batch_size!r}")
    if start < 0:
        raise DataError(f"start must be the index of a batch, 0 or more, got {start}")
    if images.dtype == labels.dtype == np.uint8 and labels.ndim > 1 and images.size == labels.size > 0:
        tell_unscaled_targets(labels)
    end = len(images) - len(images) % batch_size if drop_last else len(images)
    n = max(0, steps_per_epoch(end, batch_size) - start)
    return Batches(partial(_epoch, images, labels, batch_size, rng, start, dtype, end), n)


def _epoch(
    images: Array, labels: Array, batch_size: int, rng: Any, start: int, dtype: Any, end: int
) -> Iterator[tuple[Tensor, Array]]:
    """The batches of one epoch, up to the example `end` of its order."""
    order = None if rng is None else backend_of(images).from_host(rng.permutation(len(images)))
    for begin in range(start * batch_size, end, batch_size):
        chosen: Any = slice(begin, begin + batch_size) if order is None else order[begin : begin + batch_size]
        plain = order is not None and images.ndim == 3
        kernel = kernel_for(images, "take") if plain else None  # on a GPU: images, scale and labels at once
        taken = NotImplemented if kernel is None else kernel(images, labels, chosen, dtype)
        if taken is not NotImplemented:
            yield Tensor(taken[0]), taken[1]
            continue
        x = scale(images[chosen], dtype)
        y = labels[chosen]  # copied below if it is a view: like x, the caller may change it in place
        yield Tensor(x[:, None] if x.ndim == 3 else x), y.copy() if order is None else y


def tell_unscaled_targets(targets: Array) -> None:
    """Warn about images as targets of images, as of an autoencoder, of which `batches` would scale only one."""
    if targets.max() > BRIGHT:
        tell("batches divides images by 255, but not these targets, which are bytes up to "
             f"{targets.max()}: compare with x itself, or give both as floats, images / np.float32(255)")  # fmt: skip


def statistics(images: Array) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, after `scale`. For uint8 they are exact: sums of integers."""
    wide = np.int32 if images.dtype == np.uint8 else np.float64
    total = squares = 0.0
    for begin in range(0, len(images), 1024):
        part: Any = images[begin : begin + 1024].astype(wide)
        total += float(part.sum())
        squares += float((part * part).sum())
    unit = 255 if images.dtype == np.uint8 else 1
    mean = total / images.size
    return mean / unit, math.sqrt(max(0.0, squares / images.size - mean**2)) / unit


def scale(pixels: Array, dtype: Any = np.float32) -> Array:
    """uint8 pixels 0 to 255 as floats in [0, 1]; other pixels are only cast to the dtype."""
    if pixels.dtype != np.uint8:
        return pixels.astype(dtype)
    backend, dtype = backend_of(pixels), np.dtype(dtype)
    scaled: Array = backend.xp.multiply(pixels, dtype.type(1 / 255), out=backend.empty(pixels.shape, dtype))
    return scaled
