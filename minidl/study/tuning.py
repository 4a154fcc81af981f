"""Fair tuning: every contestant gets the same number of settings, drawn at random, and each is trained in full.

The first round trains every setting with one seed. The better ones get more seeds, round by round: halving adds
seeds and never shortens a run, because a tenth of a run favours the largest learning rates. A setting with a collapsed
run is never chosen if there is one without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minidl.training.search import Axis, Point, Rank

Round = tuple[int, int]  # the number of settings left, and of seeds for each
OUTER = 0.1  # a winner this close to an end of its range is reported


@dataclass(frozen=True)
class Tuned:
    """The state of a contestant's tuning.

    points  the settings, as drawn
    ranks   the rank of each over its seeds so far; None while one of its runs is missing
    needed  (index of a setting, seeds that it needs), for all that are known to be needed so far
    best    the winner's index; None until the tuning is finished
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
    """The state of the tuning.

    rounds  (settings, seeds), the first with all settings; each following one has the best of those before
    judge   (setting, seeds) -> the setting's rank over that many seeds, None if a run is missing
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
