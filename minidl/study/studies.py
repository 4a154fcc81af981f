"""The studies that come with the package: a quick one for every machine, and the paper's."""

from __future__ import annotations

from dataclasses import replace

from minidl.study.contestants import CONTESTANTS
from minidl.study.regimes import Regime
from minidl.study.study import Study

# What must be seen: (lowest, highest) train accuracy, (lowest, highest) gap between train and validation accuracy.
UNDER = ((0.0, 0.95), (-0.02, 0.02))
GOOD = ((0.96, 1.0), (-0.01, 0.025))
OVER = ((0.998, 1.0), (0.04, 1.0))

PAPER = Study(
    name="paper",
    dataset="mnist",
    regimes=(
        Regime("good-fit MLP", 54_000, 5_000, 5, 128, 20, (0.95, 0.97, 0.975, 0.98), GOOD, hidden=(256, 128)),
        Regime("good-fit CNN", 6_000, 3_000, 5, 64, 12, (0.94, 0.96, 0.97, 0.975), GOOD, filters=(4, 8)),
        Regime("over-fit CNN", 1_000, 3_000, 15, 50, 12, (0.85, 0.9, 0.92, 0.93), OVER, filters=(8, 16), hidden=(128,)),
        Regime("over-fit MLP", 1_000, 5_000, 15, 50, 12, (0.8, 0.85, 0.88, 0.89), OVER, hidden=(512, 512)),
        Regime("under-fit CNN", 6_000, 3_000, 5, 64, 12, (0.8, 0.85, 0.9), UNDER, filters=(3, 3)),
        Regime("under-fit MLP", 54_000, 5_000, 5, 128, 20, (0.8, 0.85, 0.88), UNDER, hidden=(6,)),
    ),
    contestants=CONTESTANTS,
    seeds=tuple(range(10)),
    tuning_seeds=(1000,),
    grid=6,
    tuning_runs=8,
)

# Of 4,000 training images: whoever learns them well is further from the validation images than on full MNIST.
GOOD_5K = ((0.9, 1.0), (-0.01, 0.06))

QUICK = replace(
    PAPER,
    name="quick",
    dataset="mnist5k",
    regimes=(
        Regime("good-fit MLP", 3_500, 500, 5, 50, 10, (0.8, 0.85, 0.9, 0.92), GOOD_5K, hidden=(32,)),
        Regime("good-fit CNN", 1_200, 500, 5, 50, 5, (0.8, 0.85, 0.9), GOOD_5K, filters=(4, 8)),
        Regime("over-fit CNN", 250, 500, 20, 50, 5, (0.7, 0.8, 0.85), OVER, filters=(4, 8), hidden=(32,)),
        Regime("over-fit MLP", 300, 500, 15, 25, 10, (0.7, 0.75, 0.8), OVER, hidden=(128, 128)),
        Regime("under-fit CNN", 1_200, 500, 5, 50, 5, (0.6, 0.7, 0.8), UNDER, filters=(3, 3)),
        Regime("under-fit MLP", 3_500, 500, 5, 50, 10, (0.6, 0.7, 0.8), UNDER, hidden=(4,)),
    ),
    seeds=(0, 1, 2),
    grid=4,
    tuning_runs=5,
)

PRESETS = {study.name: study for study in (QUICK, PAPER)}
