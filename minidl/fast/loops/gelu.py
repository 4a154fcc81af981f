"""GELU, x times the normal distribution's Phi(x): the output and its slope in one pass, sharing one e^x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from minidl.backend import CPU, Array
from minidl.fast.linear import plain
from minidl.fast.loops.compiler import SETTINGS, loop, part
from minidl.fast.loops.layout import crew, cuts
from minidl.fast.loops.points import exp, flat, planar, shaped
from minidl.fast.loops.team import share
from minidl.fast.loops.words import entry
from minidl.tensor import Tensor, record

C, K = math.sqrt(2 / math.pi), 0.044715


@part
def tail_32(z, e):
    """erfc(z) = 1 - erf(z) for z >= 0, where e = e^(-z^2): Hastings 1955, 7.1.26 in Abramowitz & Stegun. To 1.5e-7."""
    one = np.float32(1)
    t = one / (one + np.float32(0.3275911) * z)
    p = np.float32(1.061405429) * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    return p * t * e


def tail(z, e):
    """The same in the precision of z."""
    raise NotImplementedError


@overload(tail, jit_options=SETTINGS)
def _tail(z, e):
    if z == types.float32:
        return lambda z, e: tail_32(z, e)
    return lambda z, e: math.erfc(z)


@part
def exact_part(i, parts, x, y, slope):
    """Some elements: Phi(x) = erfc(-x / sqrt 2) / 2, and its slope is e^(-x^2 / 2) / sqrt(2 pi)."""
    some = slice(len(x) * i // parts, len(x) * (i + 1) // parts)
    x, y, slope, real = x[some], y[some], slope[some], x.dtype.type
    zero, one, half = real(0), real(1), real(0.5)
    to_z, to_density, least = real(math.sqrt(0.5)), real(1 / math.sqrt(2 * math.pi)), real(-87)
    for j in range(len(x)):
        v = x[j]
        square = v * v * -half
        e = zero if square < least else exp(square)
        lower = half * tail(abs(v) * to_z, e)  # Phi(-|x|)
        phi = one - lower if v > zero else lower
        y[j] = v * phi
        slope[j] = phi + v * (e * to_density)


@part
def tanh_part(i, parts, x, y, slope):
    """Some elements: (1 + tanh u) / 2 = 1 / (1 + e^(-2u)) for Phi, u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    some = slice(len(x) * i // parts, len(x) * (i + 1) // parts)
    x, y, slope, real = x[some], y[some], slope[some], x.dtype.type
    zero, one, two, c, k, three, most = real(0), real(1), real(2), real(C), real(K), real(3 * K), real(88)
    for j in range(len(x)):
        v = x[j]
        power = -two * c * (v + k * v * v * v)
        phi = zero if power > most else one / (one + exp(power))
        y[j] = v * phi
        slope[j] = phi + v * (two * phi * (one - phi) * c * (one + three * v * v))


@loop
def exact(team, x, y, slope):
    """y = x Phi(x) and its slope, all flat."""
    parts = cuts(len(x), 4 * len(x))
    share(team, parts, entry(exact_part, (parts, x, y, slope)))


@loop
def by_tanh(team, x, y, slope):
    """The same with the approximation."""
    parts = cuts(len(x), 4 * len(x))
    share(team, parts, entry(tanh_part, (parts, x, y, slope)))


@part
def times_part(i, parts, a, b, out):
    """Some elements."""
    some = slice(len(a) * i // parts, len(a) * (i + 1) // parts)
    a, b, out = a[some], b[some], out[some]
    for j in range(len(a)):
        out[j] = a[j] * b[j]


@loop
def times(team, a, b, out):
    """out = a * b, all flat."""
    parts = cuts(len(a), len(a))
    share(team, parts, entry(times_part, (parts, a, b, out)))


def gelu(x: Tensor, approximate: str = "none") -> Any:
    """See ops.gelu. Any shape."""
    forms = {"none": exact, "tanh": by_tanh}
    if type(x) is not Tensor or not plain(x) or not x.data.size or approximate not in forms:
        return NotImplemented
    few = planar(x.data)
    numbers = flat(x.data, few)
    y, slope = CPU.empty(numbers.shape, x.dtype), CPU.empty(numbers.shape, x.dtype)
    forms[approximate](crew(4 * y.size), numbers, y, slope)

    def vjp(g: Array) -> Array:
        dx = CPU.empty(slope.shape, x.dtype)
        times(crew(y.size), flat(g, few), slope, dx)
        return shaped(dx, x.shape, few)

    return record("gelu", shaped(y, x.shape, few), (x, vjp))
