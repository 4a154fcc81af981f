"""The studies that come with the package: a quick one for any machine, and the paper's."""

from __future__ import annotations

from dataclasses import replace

from minidl.study.contestants import CONTESTANTS, SMALL
from minidl.study.regimes import Map, Regime, Shows
from minidl.study.study import Study

GOOD_MLP = Shows(train=(0.99, 1.0), test=(0.975, 1.0))
GOOD_CNN = Shows(train=(0.99, 1.0), test=(0.988, 1.0))
OVER = Shows(train=(0.999, 1.0), gap=(0.04, 1.0))
WRONG = Shows(train=(0.98, 1.0), gap=(0.25, 1.0))
UNDER = Shows(train=(0.0, 0.95), gap=(-0.03, 0.03))

MOMENTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
MAP = Map(MOMENTS, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03, 0.1, 0.2, 0.5), (2000, 2001, 2002))
MAP_2 = replace(MAP, seeds=(2000, 2001))
MAP_5 = Map((0.05, 0.1, 0.2, 0.4, 0.8), (0.003, 0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03, 0.1, 0.5), (2000, 2001))

# fmt: off
PAPER = Study(
    name="paper",
    dataset="mnist",
    regimes=(
        Regime("under-fit MLP", 10_000, 4_000, 10, 100, 40, UNDER, hidden=(6,), margin=0.003, floor=0.75, map=MAP),
        Regime("over-fit MLP", 1_000, 4_000, 40, 50, 20, OVER, hidden=(256, 128), margin=0.003, floor=0.8, map=MAP),
        Regime(
            "over-fit CNN", 1_000, 3_000, 30, 50, 20, OVER,
            filters=(8, 16), hidden=(64,), margin=0.003, floor=0.85, map=MAP,
        ),
        Regime("under-fit CNN", 6_000, 3_000, 8, 64, 30, UNDER, filters=(1, 2), margin=0.003, floor=0.7, map=MAP),
        Regime(
            "wrong labels MLP", 4_000, 4_000, 30, 64, 30, WRONG,
            hidden=(256, 128), wrong_labels=0.2, margin=0.005, floor=0.4, map=MAP,
        ),
        Regime(
            "good-fit MLP", 54_000, 6_000, 20, 128, 40, GOOD_MLP,
            hidden=(256, 128), margin=0.001, floor=0.95, map=MAP_2,
        ),
        Regime(
            "good-fit CNN", 54_000, 6_000, 8, 128, 16, GOOD_CNN,
            filters=(16, 32), hidden=(128,), margin=0.001, floor=0.97, map=MAP_5, contestants=SMALL,
        ),
    ),
    contestants=CONTESTANTS,
    seeds=tuple(range(20)),
    tuning_seeds=(1000, 1001, 1002),
    rounds=((20, 1), (5, 3)),
    pinned=True,
)

# Of 4,000 training images: the gap between training and validation accuracy is wider than on full MNIST.
UNDER_5K = Shows(train=(0.0, 0.95), gap=(-0.06, 0.06))
GOOD_5K = Shows(train=(0.9, 1.0), gap=(-0.01, 0.08))
MAP_3 = Map((0.05, 0.2, 0.6), (0.003, 0.03, 0.3), (0.01, 0.1, 0.5), (2000,))

QUICK = replace(
    PAPER,
    name="quick",
    dataset="mnist5k",
    regimes=(
        Regime("under-fit MLP", 3_000, 900, 5, 50, 10, UNDER_5K, hidden=(4,), margin=0.01, floor=0.5, map=MAP_3),
        Regime("over-fit MLP", 300, 900, 20, 25, 10, OVER, hidden=(64, 64), margin=0.01, floor=0.6, map=MAP_3),
        Regime(
            "over-fit CNN", 250, 900, 20, 50, 5, OVER,
            filters=(4, 8), hidden=(32,), margin=0.01, floor=0.6, map=MAP_3,
        ),
        Regime("under-fit CNN", 1_500, 900, 5, 50, 10, UNDER_5K, filters=(1, 2), margin=0.01, floor=0.5, map=MAP_3),
        Regime(
            "wrong labels MLP", 600, 900, 20, 50, 10, WRONG,
            hidden=(64, 64), wrong_labels=0.2, margin=0.01, floor=0.3, map=MAP_3,
        ),
        Regime("good-fit MLP", 3_000, 900, 8, 50, 10, GOOD_5K, hidden=(32,), margin=0.005, floor=0.8, map=MAP_3),
        Regime("good-fit CNN", 1_200, 900, 5, 50, 5, GOOD_5K, filters=(4, 8), margin=0.005, floor=0.8, map=MAP_3),
    ),
    contestants=tuple(c for c in CONTESTANTS if c.key in SMALL),
    seeds=tuple(range(6)),
    tuning_seeds=(1000, 1001),
    rounds=((5, 1), (2, 2)),
    pinned=False,
)

# fmt: on

STUDIES = {study.name: study for study in (QUICK, PAPER)}
