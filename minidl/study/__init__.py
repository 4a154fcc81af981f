"""The study: when should training leave Adam, and what does it buy? `python -m minidl.study --preset quick --out DIR`.

    from minidl.study import QUICK, run_study

    if __name__ == "__main__":  # its worker processes run this file again
        run_study(QUICK, "studies/quick", own="mine.py")

To add an optimizer or a network of your own, put it in a file: see own.py. To define a study of your own, build a Study
from Regimes and Contestants, whose axes are Log and Remainder.
"""

from minidl.study.contestants import CONTESTANTS, Contestant
from minidl.study.execute import run_study
from minidl.study.regimes import Map, Regime, Shows
from minidl.study.studies import PAPER, QUICK, STUDIES
from minidl.study.study import Study
from minidl.training.search import Log, Remainder

__all__ = [
    "CONTESTANTS", "PAPER", "QUICK", "STUDIES", "Contestant", "Log", "Map", "Regime", "Remainder", "Shows", "Study",
    "run_study",
]  # fmt: skip
