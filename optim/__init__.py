"""optim: every update rule of the study on one flat vector, and the switch from one to another.

Reading order, by growing complexity: flat, optimizer (the frame), sgd, adam, rmsprop, adagrad (the rules), schedule,
switch (the conditions), hybrid, projection, swats, gnmt, blend, then presets and build. `optim.torch` has the same
optimizers for PyTorch; it is imported only when you ask for it.
"""

from optim import kernels as _kernels  # noqa: F401 (registers the rules' kernels for the GPU)
from optim.adagrad import Adagrad
from optim.adam import Adam, AdamW
from optim.blend import Blend
from optim.build import DEFAULT_LR, NAMES, build
from optim.flat import FlatParameters
from optim.gnmt import GNMT
from optim.grammar import GrammarError
from optim.hybrid import Hybrid
from optim.optimizer import Optimizer, Rule, Schedule, SwitchEvent
from optim.presets import PRESETS, Preset, preset
from optim.progress import Progress
from optim.rmsprop import RMSprop
from optim.schedule import ScheduleError, parse_schedule
from optim.sgd import SGD
from optim.swats import SWATS
from optim.switch import (
    AfterEpochs,
    AfterSteps,
    AllOf,
    AnyOf,
    Condition,
    Crossing,
    Gap,
    Plateau,
    Projected,
)
from optim.switch_text import SwitchError, parse_switch

__all__ = [
    "DEFAULT_LR",
    "GNMT",
    "NAMES",
    "PRESETS",
    "SGD",
    "SWATS",
    "Adagrad",
    "Adam",
    "AdamW",
    "AfterEpochs",
    "AfterSteps",
    "AllOf",
    "AnyOf",
    "Blend",
    "Condition",
    "Crossing",
    "FlatParameters",
    "Gap",
    "GrammarError",
    "Hybrid",
    "Optimizer",
    "Plateau",
    "Preset",
    "Progress",
    "Projected",
    "RMSprop",
    "Rule",
    "Schedule",
    "ScheduleError",
    "SwitchError",
    "SwitchEvent",
    "build",
    "parse_schedule",
    "parse_switch",
    "preset",
]
