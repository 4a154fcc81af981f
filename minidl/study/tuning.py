"""Fair tuning: every contestant gets the same number of settings, whatever it has to tune.

The first settings are a grid on a log scale, half a decade apart, fixed beforehand. The others are spent one by one:
the next is always a neighbour of the best so far that was not tried yet. So a grid whose best is at its edge widens
there, and one whose best is inside gets finer, in quarter decades.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minidl.training.search import Log, Point, Rank, Space, by_rank


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


def edges(space: Space, best: Point, tried: list[Point]) -> list[str]:
    """The names of the log axes along which the best setting has no tried value beyond it on one side."""
    names = []
    for i, axis in enumerate(space.axes):
        places = [point[i] for point in tried]
        if isinstance(axis, Log) and best[i] in (min(places), max(places)):
            names.append(axis.name)
    return names
