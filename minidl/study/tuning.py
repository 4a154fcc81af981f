"""Fair tuning: every contestant gets the same number of settings, drawn at random, and each is trained in full.

The first round trains every setting with one seed. The better ones get more seeds, round by round: halving adds seeds,
it never shortens a run, for a tenth of a run favours the largest rates. A setting with a collapsed run is never chosen
while there is one without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minidl.training.search import Axis, Point, Rank

Round = tuple[int, int]  # so many settings are left, each with so many seeds
OUTER = 0.1  # a winner this near to an end of its range is reported


@dataclass(frozen=True)
class Tuned:
    """How the tuning of a contestant stands.

    points  the settings, as drawn
    ranks   how each did over the seeds that it has had so far; None while a run of it is missing
    needed  (setting's number, seeds that it needs) of all that is known to be needed so far
    best    the winner's number; None while the tuning is not finished
    """

    points: list[Point]
    ranks: list[Rank | None]
    needed: list[tuple[int, int]]
    best: int | None

    @property
    def finished(self) -> bool:
        return self.best is not None

    @property
    def winner(self) -> Point:
        assert self.best is not None
        return self.points[self.best]


def tune(points: list[Point], rounds: Sequence[Round], judge: Callable[[int, int], Rank | None]) -> Tuned:
    """Where the tuning stands.

    rounds  (settings, seeds), the first with all settings; each following one has the better of those before
    judge   rank of a setting over its first so many seeds, None where a run is missing
    """
    alive = list(range(len(points)))
    ranks: list[Rank | None] = [None] * len(points)
    needed: list[tuple[int, int]] = []
    for count, seeds in rounds:
        alive = alive[:count]
        needed += [(i, seeds) for i in alive]
        found = {i: judge(i, seeds) for i in alive}
        for i, rank in found.items():
            ranks[i] = rank if rank is not None else ranks[i]
        if None in found.values():
            return Tuned(points, ranks, needed, None)
        alive.sort(key=lambda i: found[i] or (0.0, 0.0))
    return Tuned(points, ranks, needed, alive[0])


def edges(axes: Sequence[Axis], winner: Point) -> list[str]:
    """The names of the axes along which the winner lies in the outer tenth of the range."""
    return [axis.name for axis, u in zip(axes, winner, strict=True) if not OUTER <= u <= 1 - OUTER]
