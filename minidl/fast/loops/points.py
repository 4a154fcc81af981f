"""Elementwise operations, each in one pass over the memory: activations, dropout, converting bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from minidl.backend import CPU, Array
from minidl.fast.linear import channels_last, plain
from minidl.fast.loops.compiler import SETTINGS, loop, part
from minidl.fast.loops.layout import crew, cuts, stored
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry, multiply_high
from minidl.rng import CounterRng
from minidl.tensor import Tensor, record

RELU, SIGMOID, TANH, LEAKY = range(4)

# ---- e^x ----


@part
def exp_32(x):
    """e^x = 2^k e^r with |r| <= log(2) / 2: a polynomial (Cephes' expf), which vectorizes. Within 2 ulp."""
    one = np.float32(1)
    v = min(max(x, np.float32(-87.3)), np.float32(88.37))
    k = np.floor(v * np.float32(1.44269504) + np.float32(0.5))
    r = v - k * np.float32(0.693359375) + k * np.float32(2.12194440e-4)  # log(2) as a sum, its first term short
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    y = (p * r * r + r + one) * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return x if x != x else y  # NaN


def exp(x):
    """e^x in compiled loops. In float32 it saturates: it is never below the smallest normal number, nor infinity."""
    raise NotImplementedError


@overload(exp, jit_options=SETTINGS)
def _exp(x):
    if x == types.float32:
        return lambda x: exp_32(x)
    return lambda x: math.exp(x)


@part
def tanh_32(x):
    """tanh x = 1 - 2 / (e^2x + 1), and near 0, where that loses digits, a polynomial (Cephes' tanhf). It vectorizes."""
    one, two, size, z = np.float32(1), np.float32(2), abs(x), x * x
    p = np.float32(-5.70498872745e-3)
    p = p * z + np.float32(2.06390887954e-2)
    p = p * z + np.float32(-5.37397155531e-2)
    p = p * z + np.float32(1.33314422036e-1)
    p = p * z + np.float32(-3.33332819422e-1)
    far = one - two / (exp_32(two * size) + one)
    return (one + p * z) * x if size < np.float32(0.625) else (far if x >= 0 else -far)  # NaN stays


# ---- activations ----


@part
def forward_part(i, parts, kind, slope, x, y):
    """Some elements."""
    some = slice(len(x) * i // parts, len(x) * (i + 1) // parts)
    x, y, zero, one = x[some], y[some], x.dtype.type(0), x.dtype.type(1)
    if kind == RELU:
        for j in range(len(x)):
            y[j] = zero if x[j] <= zero else x[j]  # NaN stays
    elif kind == LEAKY:
        for j in range(len(x)):
            y[j] = x[j] if x[j] > zero else slope * x[j]
    else:
        least = x.dtype.type(-88 if x.itemsize == 4 else -math.inf)  # exp of float32 saturates at e^88.37
        for j in range(len(x)):
            y[j] = zero if x[j] < least else one / (one + exp(-x[j]))


@loop
def forward(team, kind, slope, x, y):
    """y = RELU, SIGMOID or LEAKY of x, both flat. slope: that of LEAKY below 0."""
    parts = cuts(len(x), 4 * len(x) if kind == SIGMOID else len(x))
    share(team, parts, entry(forward_part, (parts, kind, slope, x, y)))


@part
def tanh_part(i, parts, x, y):
    """Some elements."""
    some = slice(len(x) * i // parts, len(x) * (i + 1) // parts)
    x, y = x[some], y[some]
    for j in range(len(x)):
        y[j] = tanh_32(x[j])


@loop
def tanh_forward(team, x, y):
    """y = tanh(x), both flat and float32."""
    parts = cuts(len(x), 4 * len(x))
    share(team, parts, entry(tanh_part, (parts, x, y)))


@part
def backward_part(i, parts, kind, slope, g, y, dx):
    """Some elements."""
    some = slice(len(g) * i // parts, len(g) * (i + 1) // parts)
    g, y, dx, zero, one = g[some], y[some], dx[some], g.dtype.type(0), g.dtype.type(1)
    if kind == RELU:
        for j in range(len(g)):
            dx[j] = zero if y[j] <= zero else g[j]
    elif kind == LEAKY:
        for j in range(len(g)):
            dx[j] = g[j] if y[j] > zero else slope * g[j]
    elif kind == SIGMOID:
        for j in range(len(g)):
            dx[j] = g[j] * y[j] * (one - y[j])
    else:
        for j in range(len(g)):
            dx[j] = g[j] * (one - y[j] * y[j])


@loop
def backward(team, kind, slope, g, y, dx):
    """dx from g and y = RELU, SIGMOID, TANH or LEAKY of x, all flat."""
    parts = cuts(len(g), len(g))
    share(team, parts, entry(backward_part, (parts, kind, slope, g, y, dx)))


def relu(x: Tensor) -> Any:
    """See ops.relu. Any shape."""
    return _activation("relu", RELU, x)


def sigmoid(x: Tensor) -> Any:
    """See ops.sigmoid. Any shape."""
    return _activation("sigmoid", SIGMOID, x)


def tanh(x: Tensor) -> Any:
    """See ops.tanh. Any shape. In double precision it is NumPy's."""
    return _activation("tanh", TANH, x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Any:
    """See ops.leaky_relu. Any shape. No slope below 0: the output would not show where x is above 0."""
    known = isinstance(negative_slope, (int, float)) and negative_slope >= 0
    return _activation("leaky_relu", LEAKY, x, negative_slope) if known else NotImplemented


def _activation(name: str, kind: int, x: Tensor, slope: float = 0.0) -> Any:
    if type(x) is not Tensor or not plain(x) or not x.data.size:
        return NotImplemented
    few, below = planar(x.data), x.dtype.type(slope)
    numbers = flat(x.data, few)
    y = CPU.empty(numbers.shape, x.dtype)
    if kind != TANH:
        forward(crew(4 * y.size), kind, below, numbers, y)
    elif x.dtype == np.float32:
        tanh_forward(crew(4 * y.size), numbers, y)
    else:
        np.tanh(numbers, out=y)

    def vjp(g: Array) -> Array:
        dx = CPU.empty(y.shape, y.dtype)
        backward(crew(y.size), kind, below, flat(g, few), y, dx)
        return shaped(dx, x.shape, few)

    return record(name, shaped(y, x.shape, few), (x, vjp))


def planar(x: Array) -> bool:
    """Whether x is in the usual layout; else it is images stored as (N, H, W, C)."""
    return x.ndim != 4 or x.flags.c_contiguous or not channels_last(x).flags.c_contiguous


def flat(x: Array, few: bool) -> Array:
    """The elements of x as a vector, in memory order; images in the layout that `few` selects."""
    return (np.ascontiguousarray(x) if x.ndim != 4 else stored(x, few)).reshape(-1)


def shaped(numbers: Array, shape: tuple[int, ...], few: bool) -> Array:
    """The inverse of flat()."""
    if few:
        return numbers.reshape(shape)
    n, c, h, w = shape
    return numbers.reshape(n, h, w, c).transpose(0, 3, 1, 2)


# ---- dropout ----


@part
def philox(counter, step, key_0, key_1):
    """Philox 4x64 with ten rounds (Salmon et al. 2011): four random words of 64 bits, the same as NumPy's generator."""
    a, b, c, d = np.uint64(counter), np.uint64(0), np.uint64(step), np.uint64(0)
    for _ in range(10):
        m, n = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
        a, b, c, d = multiply_high(n, c) ^ b ^ key_0, n * c, multiply_high(m, a) ^ d ^ key_1, m * a
        key_0 += np.uint64(0x9E3779B97F4A7C15)
        key_1 += np.uint64(0xBB67AE8584CAA73B)
    return a, b, c, d


@part
def drop_part(i, parts, x, p, scale, key, step, keep, y):
    """Some elements: eight for each block of random bits."""
    n, zero, key_0, key_1 = (len(x) + 7) // 8, x.dtype.type(0), np.uint64(key[0]), np.uint64(key[1])
    start, stop = n * i // parts * 8, min(len(x), n * (i + 1) // parts * 8)
    for first in range(start, stop, 8):
        words, at = philox(first // 8 + 1, step, key_0, key_1), first  # NumPy increments before it draws
        for word in words:
            for half in (np.uint64(word & np.uint64(0xFFFFFFFF)), np.uint64(word >> np.uint64(32))):
                if at < stop:
                    keep[at] = np.float32(half >> np.uint64(8)) * np.float32(2.0**-24) >= p
                at += 1
    x, keep, y = x[start:stop], keep[start:stop], y[start:stop]
    for j in range(len(x)):
        y[j] = x[j] * (scale if keep[j] else zero)


@loop
def drop(team, x, p, scale, key, step, keep, y):
    """y = x * scale where a random number in [0, 1) is at least p, else x * 0; keep is the mask. All flat."""
    parts = cuts(len(x), len(x))
    share(team, parts, entry(drop_part, (parts, x, p, scale, key, step, keep, y)))


@part
def masked_part(i, parts, g, scale, keep, dx):
    """Some elements."""
    some = slice(len(g) * i // parts, len(g) * (i + 1) // parts)
    g, keep, dx, zero = g[some], keep[some], dx[some], g.dtype.type(0)
    for j in range(len(g)):
        dx[j] = g[j] * (scale if keep[j] else zero)


@loop
def masked(team, g, scale, keep, dx):
    """dx = g * scale where `keep` is true, else g * 0."""
    parts = cuts(len(g), len(g))
    share(team, parts, entry(masked_part, (parts, g, scale, keep, dx)))


def dropout(x: Tensor, p: float, rng: Any = None) -> Any:
    """See ops.dropout. Any shape; the mask is in the usual layout, so the output is too."""
    if type(x) is not Tensor or not plain(x) or not x.data.size or type(rng) is not CounterRng or not 0 <= p < 1:
        return NotImplemented
    scale, key, step = x.dtype.type(1 / (1 - p)), np.array(rng.key, np.uint64), rng.next_step()
    y, keep = CPU.empty(x.shape, x.dtype), np.empty(x.data.size, np.bool_)
    drop(crew(4 * x.data.size), flat(x.data, few=True), np.float32(p), scale, key, step, keep, y.reshape(-1))

    def vjp(g: Array) -> Array:
        dx = CPU.empty(x.shape, x.dtype)
        masked(crew(x.data.size), flat(g, few=True), scale, keep, dx.reshape(-1))
        return dx

    return record("dropout", y, (x, vjp))


# ---- a batch ----


@part
def take_part(i, parts, images, chosen, scale, x):
    """Some images."""
    for n in range(len(chosen) * i // parts, len(chosen) * (i + 1) // parts):
        pixels, numbers = images[chosen[n]], x[n]
        for j in range(len(numbers)):
            numbers[j] = pixels[j] * scale


@loop
def take_images(team, images, chosen, scale, x):
    """x (n, pixels) = scale * images[chosen], of images (N, pixels) of bytes."""
    parts = cuts(len(x), x.size)
    share(team, parts, entry(take_part, (parts, images, chosen, scale, x)))


def take(images: Array, labels: Array, chosen: Array, dtype: Any) -> Any:
    """A batch, see data/batches.py: (x (n, 1, H, W) in [0, 1], labels), from images (N, H, W) of bytes."""
    dtype = np.dtype(dtype)
    if images.dtype != np.uint8 or images.ndim != 3 or not images.flags.c_contiguous or dtype.char not in "fd":
        return NotImplemented
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(images):
        return NotImplemented
    x = CPU.empty((len(chosen), 1, *images.shape[1:]), dtype)
    pixels, numbers = images.reshape(len(images), -1), x.reshape(len(x), -1)
    take_images(crew(x.size), pixels, np.ascontiguousarray(chosen), dtype.type(1 / 255), numbers)
    return x, labels[chosen]
