"""Ranking of settings, and random search.

Two searches use the same ranking: `minidl.tune` trains a whole grid for a fraction of a run, and the better half for
longer; the study (study/tuning.py) draws settings at random and trains each in full.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Rank: TypeAlias = "tuple[float, float]"  # smaller is better
Point: TypeAlias = "tuple[float, ...]"  # a position on each axis, from 0 (its lower end) to 1


def rank(val_accuracy: float, val_loss: float) -> Rank:
    """Sort key, best first: validation accuracy, then validation loss."""
    return -val_accuracy, val_loss


@dataclass(frozen=True)
class Log:
    """A positive number from low to high, uniform on a logarithmic scale: a learning rate, a factor, a fraction."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"the axis {self.name!r} needs 0 < low < high, got {self.low} and {self.high}")

    def value(self, place: float) -> float:
        """The number at a position from 0 to 1, to three digits."""
        return _three_digits(self.low * (self.high / self.low) ** place)


@dataclass(frozen=True)
class Remainder:
    """A number whose distance to 1 is uniform on a logarithmic scale: a momentum, the decay rate of an average.

    From 0.9 to 0.99 the memory of an average grows tenfold, as it does from 0 to 0.9.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < 1:
            raise ValueError(f"the axis {self.name!r} needs 0 <= low < high < 1, got {self.low} and {self.high}")

    def value(self, place: float) -> float:
        """The number at a position from 0 to 1; its distance to 1 has three digits."""
        return round(1 - _three_digits((1 - self.low) * ((1 - self.high) / (1 - self.low)) ** place), 9)


Axis: TypeAlias = "Log | Remainder"


def draw(axes: Sequence[Axis], count: int, seed: int) -> list[Point]:
    """`count` points, drawn uniformly from the unit cube of the axes (Bergstra & Bengio 2012).

    Each axis has its own random stream, keyed by its name: two searches with a common axis try the same positions on
    it, so neither has better luck there.
    """
    columns = [np.random.default_rng([seed, zlib.crc32(axis.name.encode())]).random(count) for axis in axes]
    return [tuple(float(u) for u in place) for place in zip(*columns, strict=True)] if axes else [()]


def values(axes: Sequence[Axis], point: Point) -> dict[str, float]:
    """The settings at a point, by name."""
    return {axis.name: axis.value(place) for axis, place in zip(axes, point, strict=True)}


def _three_digits(x: float) -> float:
    return float(f"{x:.2e}")
