"""The study's command with more presets, of a few small runs: `python -m tests.tiny_study --preset tiny`."""

import sys
from dataclasses import replace

from minidl.study import CONTESTANTS, STUDIES, Map, Regime, Shows, Study

TAKING_PART = ("sgd", "adam", "hybrid", "swats", "adam-cut", "sgd-adam", "adam-ema")
MAP = Map((0.1, 0.5), (0.01, 0.1), (0.1, 0.5), (2000,))

TINY = Study(
    name="tiny",
    dataset="mnist5k",
    regimes=(
        Regime("small MLP", 300, 200, 5, 50, 5, Shows(), hidden=(16,), margin=0.02, map=MAP),
        Regime("small CNN", 100, 100, 5, 50, 2, Shows(), filters=(2,), margin=0.02),
    ),
    contestants=tuple(c for c in CONTESTANTS if c.key in TAKING_PART),
    seeds=(0, 1, 2),
    tuning_seeds=(1000, 1001),
    rounds=((3, 1), (1, 2)),
)
ONE = replace(TINY, regimes=TINY.regimes[:1])  # pictures take longer than these runs
SLOW = replace(TINY, name="slow", regimes=(replace(TINY.regimes[0], train_images=3_000, epochs=5),))
STUDIES |= {"tiny": ONE, "slow": SLOW, "pinned": replace(ONE, pinned=True)}  # in this process, for the command below

if __name__ == "__main__":
    from minidl.study.__main__ import main

    sys.exit(main())
