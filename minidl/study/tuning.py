"""Fair tuning: every contestant gets the same number of settings, whatever it has to tune.

The first settings are a grid on a log scale, half a decade apart, fixed beforehand. The others are spent one by one:
the next is always a neighbour of the best so far that was not tried yet. So a grid whose best is at its edge widens
there, and one whose best is inside gets finer, in quarter decades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Point: TypeAlias = "tuple[float, ...]"  # a place along each axis
Rank: TypeAlias = "tuple[float, float]"  # smaller is better
STEPS = (0.5, 0.25)  # decades


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


def settings(space: Space, grid: int, total: int, rank: Callable[[Point], Rank | None]) -> tuple[list[Point], bool]:
    """The settings that tuning has chosen to try so far, and whether these are all.

    grid   how many of the starting points to use;   total  how many settings in all
    rank   how a setting did, None where that is not known yet. While one is unknown, no further setting is chosen.
    """
    tried = list(space.start[:grid])
    while True:
        ranks = {point: rank(point) for point in tried}
        if None in ranks.values():
            return tried, False
        following = _following(space, ranks) if len(tried) < total else None
        if following is None:
            return tried, True
        tried.append(following)


def _following(space: Space, ranks: Mapping[Point, Rank | None]) -> Point | None:
    """The first untried neighbour of the best setting; of the second best where the best has none left, and so on."""
    for point in by_rank(ranks):
        for neighbour in space.neighbours(point):
            if neighbour not in ranks:
                return neighbour
    return None


def by_rank(ranks: Mapping[Point, Rank | None]) -> list[Point]:
    """The settings, best first; of equals, the one that was tried first."""
    return sorted(ranks, key=lambda point: ranks[point] or (0.0, 0.0))


def edges(space: Space, best: Point, tried: list[Point]) -> list[str]:
    """The names of the log axes along which the best setting has no tried value beyond it on one side."""
    names = []
    for i, axis in enumerate(space.axes):
        places = [point[i] for point in tried]
        if isinstance(axis, Log) and best[i] in (min(places), max(places)):
            names.append(axis.name)
    return names
