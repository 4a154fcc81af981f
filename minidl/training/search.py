"""What a search for settings looks through, and what makes one setting better than another.

Two searches use it: `minidl.tune` tries a whole grid for a part of a run, and the better half for longer; the study
(study/tuning.py) spends a fixed number of whole runs on the neighbours of the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

Point: TypeAlias = "tuple[float, ...]"  # a place along each axis
Rank: TypeAlias = "tuple[float, float]"  # smaller is better
STEPS = (0.5, 0.25)  # decades


def rank(val_accuracy: float, val_loss: float) -> Rank:
    """For sorting, best first, by the validation split. Of equal accuracies, the smaller loss wins."""
    return -val_accuracy, val_loss


def by_rank(ranks: Mapping[Point, Rank | None]) -> list[Point]:
    """The settings, best first; of equals, the one that was tried first."""
    return sorted(ranks, key=lambda point: ranks[point] or (0.0, 0.0))


@dataclass(frozen=True)
class Log:
    """A rate or factor, by its decimal exponent: -2.5 is 0.00316."""

    name: str
    low: float = -6
    high: float = 2

    def value(self, place: float) -> float:
        return float(f"{10.0**place:.2e}")

    def beside(self, place: float, step: float) -> Iterator[float]:
        """The places next to this one."""
        yield from (p for p in (place + step, place - step) if self.low <= p <= self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few values, in their order."""

    name: str
    values: tuple[float, ...]

    def value(self, place: float) -> float:
        return place

    def beside(self, place: float, step: float) -> Iterator[float]:
        """The places next to this one."""
        i = self.values.index(place)
        yield from (self.values[j] for j in (i + 1, i - 1) if 0 <= j < len(self.values))


@dataclass(frozen=True)
class Space:
    """What is tuned: the axes, and the settings to begin with, the most promising first."""

    axes: tuple[Log | Choice, ...]
    start: tuple[Point, ...]

    def values(self, point: Point) -> dict[str, float]:
        return {axis.name: axis.value(place) for axis, place in zip(self.axes, point, strict=True)}

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Points that differ in one place: half a decade away along each axis, then a quarter."""
        for step in STEPS:
            for i, axis in enumerate(self.axes):
                for place in axis.beside(point[i], step):
                    yield (*point[:i], place, *point[i + 1 :])


def grid(*axes: Choice) -> Space:
    """Every combination of the axes' values."""
    return Space(axes, tuple(product(*(axis.values for axis in axes))))
