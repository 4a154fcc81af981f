"""optim: the study's update rules, each on one flat vector, and the switch from one to another.

Reading order, simplest first: flat, optimizer and rule (the frame), formula, sgd, adam, rmsprop, adagrad (the
rules), schedule, scheduler, switch (the conditions), hybrid, projection, swats, gnmt, blend. `minidl.optim.torch` has
the same optimizers for PyTorch; it is imported only when you ask for it.
"""

if __name__ == "optim":  # a clone's root is on sys.path: this would be a second copy, with its own classes
    raise ImportError("import minidl.optim: the folder optim is a part of the package minidl")

import importlib
from typing import TYPE_CHECKING, Any

from minidl.optim.adagrad import Adagrad
from minidl.optim.adam import Adam, AdamW
from minidl.optim.blend import Blend
from minidl.optim.flat import FlatParameters
from minidl.optim.formula import Formula, Given, Line
from minidl.optim.gnmt import GNMT
from minidl.optim.grammar import GrammarError
from minidl.optim.hybrid import Hybrid
from minidl.optim.optimizer import Optimizer, Schedule, SwitchEvent
from minidl.optim.progress import Progress
from minidl.optim.rmsprop import RMSprop
from minidl.optim.rule import Rule
from minidl.optim.schedule import MAKERS, ScheduleError, parse_schedule
from minidl.optim.scheduler import ExponentialLR, LinearLR, OneCycleLR
from minidl.optim.sgd import SGD
from minidl.optim.swats import SWATS
from minidl.optim.switch import AfterEpochs, AfterSteps, AllOf, AnyOf, Condition, Crossing, Gap, Plateau, Projected
from minidl.optim.switch_text import SwitchError, parse_switch
from minidl.refuse import listed, missing

__all__ = [
    "GNMT", "SGD", "SWATS", "Adagrad", "Adam", "AdamW", "AfterEpochs", "AfterSteps", "AllOf", "AnyOf", "Blend",
    "Condition", "Crossing", "ExponentialLR", "FlatParameters", "Formula", "Gap", "Given", "GrammarError", "Hybrid",
    "Line", "LinearLR", "OneCycleLR", "Optimizer", "Plateau", "Progress", "Projected", "RMSprop", "Rule",
    "Schedule", "ScheduleError", "SwitchError", "SwitchEvent", "parse_schedule", "parse_switch",
]  # fmt: skip


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in ("average", "schedule_free", "torch"):  # `import minidl.optim` is enough for optim.torch.wrap
            return importlib.import_module(f"minidl.optim.{name}")
        if name in MAKERS:
            raise missing("minidl.optim", name, otherwise=f"minidl.optim.schedule.{name}")
        rules = "a rule of your own is a class with a formula: see optim/sgd.py"
        raise missing("minidl.optim", name, otherwise=rules, known=__all__)


def __dir__() -> list[str]:
    return listed(__name__)
