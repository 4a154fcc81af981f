"""What a study must not have: a run that counts twice, results that can't be told apart, runs of length zero."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from types import NoneType
from typing import Any

from minidl.optim.checks import at_least, fraction, whole_number
from minidl.optim.grammar import unknown
from minidl.study.contestants import moment
from minidl.study.regimes import Regime, Shows, slug


def check_seeds(what: str, seeds: tuple[int, ...]) -> None:
    """Raise ValueError for an invalid or repeated seed: a run that counts as two makes intervals too narrow."""
    for seed in seeds:
        whole_number(f"each of {what}", seed, 0)
    if twice := sorted(seed for seed, n in Counter(seeds).items() if n > 1):
        raise ValueError(f"the seed {twice[0]} appears twice in {what}: the same run would count as two")


def check_layers(what: str, sizes: Any) -> None:
    """Raise ValueError for what is not a tuple of sizes of layers."""
    if not isinstance(sizes, (tuple, list)):
        raise ValueError(f"{what} must be a tuple of whole numbers, such as (16,), got {sizes!r}")
    for size in sizes:
        whole_number(f"each of {what}", size, 1)


def check_regimes(regimes: tuple[Regime, ...], keys: list[str]) -> None:
    """Raise ValueError if there is none, two share a name or the file names of their figures, one lists only
    contestants that do not exist, or a number is out of range."""
    if not regimes:
        raise ValueError("a study needs at least one regime")
    for a, b in pairwise(sorted((regime.name for regime in regimes), key=slug)):
        if a == b:
            raise ValueError(f"two regimes are called {a!r}: their results would be mixed, rename one")
        if slug(a) == slug(b):
            raise ValueError(f"{a!r} and {b!r} would share the file names of their figures: rename one")
    for regime in regimes:
        for name in ("train_images", "epochs", "batch_size", "looks"):
            whole_number(f"{regime.name}: {name}", getattr(regime, name), 1)
        for name in ("wrong_labels", "floor"):
            fraction(f"{regime.name}: {name}", getattr(regime, name))
        at_least(f"{regime.name}: margin", regime.margin, 0)
        for name in ("filters", "hidden"):
            check_layers(f"{regime.name}: {name}", getattr(regime, name))
        if not isinstance(regime.network, (str, NoneType)):
            raise ValueError(f"{regime.name}: network must be a text such as 'nets.py:Net', got {regime.network!r}")
        if not isinstance(regime.shows, Shows):
            raise ValueError(f"{regime.name}: shows must be a Shows, such as Shows(), got {regime.shows!r}")
        if regime.map is not None:
            check_seeds(f"the seeds of {regime.name}'s map", regime.map.seeds)
            for at in regime.map.moments:
                moment(at, regime.steps)
        if regime.contestants is not None and keys and not set(keys) & set(regime.contestants):
            raise ValueError(f"{regime.name}: {unknown('contestant', str(min(regime.contestants, default='')), keys)}")
