"""The study: what does the switch from Adam to SGD buy? `python -m minidl.study --preset quick --out DIR`."""

from minidl.study.contestants import CONTESTANTS, Contestant
from minidl.study.execute import run_study
from minidl.study.regimes import Regime
from minidl.study.studies import PAPER, PRESETS, QUICK
from minidl.study.study import Study

__all__ = ["CONTESTANTS", "PAPER", "PRESETS", "QUICK", "Contestant", "Regime", "Study", "run_study"]
