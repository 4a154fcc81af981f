"""What a study can't be: the same run counted twice, results that can't be told apart, runs of no length."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from minidl.optim.checks import whole_number
from minidl.optim.grammar import unknown
from minidl.study.regimes import Regime, slug


def check_seeds(what: str, seeds: tuple[int, ...]) -> None:
    """Raise ValueError for a seed that is none, or that comes twice: one run that counts as two narrows intervals."""
    for seed in seeds:
        whole_number(f"each of {what}", seed, 0)
    if twice := sorted(seed for seed, n in Counter(seeds).items() if n > 1):
        raise ValueError(f"the seed {twice[0]} comes twice in {what}: the same run would count as two")


def check_regimes(regimes: tuple[Regime, ...], keys: list[str]) -> None:
    """Raise ValueError where there is none, two have one name or pictures of one name, one asks only for contestants
    that are not there, or a number is out of range."""
    if not regimes:
        raise ValueError("a study needs at least one regime")
    for a, b in pairwise(sorted((regime.name for regime in regimes), key=slug)):
        if a == b:
            raise ValueError(f"two regimes are called {a!r}: their results would be mixed, give one another name")
        if slug(a) == slug(b):
            raise ValueError(f"{a!r} and {b!r} would share the names of their pictures: give one another name")
    for regime in regimes:
        for name in ("train_images", "epochs", "batch_size", "looks"):
            whole_number(f"{regime.name}: {name}", getattr(regime, name), 1)
        if regime.contestants is not None and keys and not set(keys) & set(regime.contestants):
            raise ValueError(f"{regime.name}: {unknown('contestant', str(min(regime.contestants, default='')), keys)}")
