"""The contestants: optimizers, hybrids, and controls that tell the switch from the change of learning rate it brings.

A Contestant is a name, a recipe for its optimizer, and the axes along which it is tuned. A recipe is plain data, such
as {"opt": "hybrid", "lr": 0.001, "lr_sgd": 0.01, "momentum": 0.9, "at": 0.6}; it determines the optimizer completely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minidl.optim import SGD, Adam, AfterSteps, Hybrid, Optimizer, Schedule
from minidl.optim.average import AveragedAdam
from minidl.optim.schedule_free import ScheduleFree
from minidl.optim.swats_tensors import TensorSWATS
from minidl.tensor import Tensor
from minidl.training.build import build
from minidl.training.loader import load
from minidl.training.own import called_with
from minidl.training.own_file import is_own
from minidl.training.presets import decided
from minidl.training.search import Axis, Log, Point, Remainder, values

Recipe = Mapping[str, Any]
BLOCKS = ("constant", "switch", "control", "decay", "average", "own")


@dataclass(frozen=True)
class Contestant:
    """A way to train.

    key     short name, for files and tables;   name  what it is, in a few words
    block   one of BLOCKS: its part of the table
    fixed   the part of its recipe that is not tuned
    axes    what is tuned, each with its range: Log("lr", 1e-4, 1e-2), Remainder("momentum", 0.5, 0.99)
    """

    key: str
    name: str
    block: str
    fixed: tuple[tuple[str, Any], ...]
    axes: tuple[Axis, ...]

    def recipe(self, point: Point) -> dict[str, Any]:
        """The recipe at a point of its axes."""
        return dict(self.fixed) | values(self.axes, point)


# ---- from a recipe to an optimizer ----


def make_optimizer(recipe: Recipe, params: Iterable[Tensor], steps: int, steps_per_epoch: int) -> Optimizer:
    """The optimizer of a recipe, for a run of `steps` steps. Besides the options of `training.build`, a recipe may have

    at      the share of the steps before the switch
    factor  no switch at that moment, only a cut: from there on the learning rate is multiplied by this
    opt     "sgd-adam": SGD first, then Adam; "adam-ema", "schedule-free", "swats-tensor"; "file.py:Name", a user's,
            which is called with the rest of the recipe, and with `total_steps` and `steps_per_epoch` if it names them
    """
    options = dict(recipe)
    name = options.pop("opt")
    if is_own(name):  # all of its options are its own, whatever they are called
        return called_with(load(name), list(params), options, steps, steps_per_epoch)
    at, factor = options.pop("at", None), options.pop("factor", None)
    first_part = 0 if at is None else moment(at, steps)
    if name in OTHERS:
        return OTHERS[name](params, **options)
    if factor is not None:
        rate = cut(options["lr"], first_part, factor)
        return Adam(params, rate) if name == "adam" else SGD(params, rate, options["momentum"])
    if name == "sgd-adam":
        sgd, adam = SGD(lr=options["lr"], momentum=options["momentum"]), Adam(lr=options["lr_after"])
        return Hybrid(params, first=sgd, then=adam, switch=AfterSteps(first_part))
    if name == "swats-window":
        switch = f"swats:rtol={options['rtol']},window={WINDOW}"
        options = {"switch": switch, "momentum": 0.9, "lr": options["lr"], "lr_after": "projected"}
        name = "hybrid"
    if name == "hybrid":
        options = {"schedule_sgd": "constant", "momentum": 0.9} | options
        options |= {} if at is None else {"switch": f"step:{first_part}"}
        options = decided(name, options) | {"schedule_sgd": options["schedule_sgd"]}
    else:
        options = decided(name, options)
    return build(name, params, total_steps=steps, steps_per_epoch=steps_per_epoch, **options)


OTHERS = {"adam-ema": AveragedAdam, "schedule-free": ScheduleFree, "swats-tensor": TensorSWATS}
WINDOW = 20  # gammas, whose mean is compared with Lambda


def moment(at: float, steps: int) -> int:
    """The number of steps before the switch. Raises ValueError for a moment that would never come."""
    if not 0 <= at <= 1:
        raise ValueError(f"a moment is a share of the run, from 0 to 1, got {at:g}")
    return max(1, round(at * steps))


def cut(lr: float, at_step: int, factor: float) -> Schedule:
    """lr until step `at_step`, lr times factor from there."""
    return lambda k: lr if k < at_step else lr * factor


# ---- the contestants; their ranges were fixed by a pilot that was discarded (tutorials/study/PLAN.md) ----

ADAM = Log("lr", 1e-4, 3e-2)
SGD_LR = Log("lr", 3e-3, 1.0)
MOMENTUM = Remainder("momentum", 0.5, 0.98)
AT = Log("at", 0.02, 0.9)  # the share of the run before the switch: early moments were best with wrong labels
LR_SGD = Log("lr_sgd", 1e-3, 0.5)
FACTOR = Log("factor", 0.003, 0.5)  # at most a half: a factor of 1 would be no cut
DECAY = Remainder("decay", 0.8, 0.999)


def _contestant(block: str, key: str, name: str, *axes: Axis, **fixed: Any) -> Contestant:
    return Contestant(key, name, block, tuple(fixed.items()), axes)


def _hybrid(share: float) -> Contestant:
    name = f"Adam, then SGD after {share * 100:.0f} % of the run"
    return _contestant("switch", f"hybrid-{share * 100:.0f}", name, ADAM, LR_SGD, MOMENTUM, opt="hybrid", at=share)


CONTESTANTS = (
    _contestant("constant", "sgd", "SGD with momentum", SGD_LR, MOMENTUM, opt="momentum"),
    _contestant("constant", "adam", "Adam", ADAM, opt="adam"),
    _contestant("constant", "adamw", "AdamW, weight decay 0.01", ADAM, opt="adamw"),
    _contestant("constant", "rmsprop", "RMSprop", ADAM, opt="rmsprop"),
    _contestant("switch", "hybrid", "Adam, then SGD at a tuned moment", AT, ADAM, LR_SGD, MOMENTUM, opt="hybrid"),
    _hybrid(0.2),
    _hybrid(0.4),
    _hybrid(0.8),
    _contestant(
        "switch", "hybrid-plateau", "Adam, then SGD where validation stalls", ADAM, LR_SGD, MOMENTUM,
        opt="hybrid", switch="plateau:patience=2",
    ),
    _contestant("switch", "swats", "SWATS, exact (tolerance 1e-9)", ADAM, opt="swats"),
    _contestant("switch", "swats-rel", "SWATS, relative tolerance 1e-3", ADAM, opt="swats", switch="swats:rtol=1e-3"),
    _contestant("switch", "swats-tensor", "SWATS per tensor, as public code has it", ADAM, opt="swats-tensor"),
    _contestant(
        "switch", "swats-window", f"SWATS, mean of {WINDOW} gammas, tuned tolerance", ADAM, Log("rtol", 1e-3, 0.3),
        opt="swats-window",
    ),
    _contestant("switch", "gnmt", "GNMT: Adam, then SGD that halves", ADAM, Log("lr_sgd", 0.01, 3), opt="gnmt"),
    _contestant("switch", "blend", "Blend: RMSprop slides into SGD", SGD_LR, MOMENTUM, opt="blend"),
    _contestant("control", "adam-cut", "Adam, its rate cut at a tuned moment", AT, ADAM, FACTOR, opt="adam"),
    _contestant(
        "control", "sgd-cut", "SGD, its rate cut at a tuned moment", AT, SGD_LR, MOMENTUM, FACTOR, opt="momentum"
    ),
    _contestant(
        "control", "sgd-adam", "SGD, then Adam at a tuned moment", AT, SGD_LR, MOMENTUM, Log("lr_after", 1e-5, 1e-2),
        opt="sgd-adam",
    ),
    _contestant("decay", "adam-cosine", "Adam, cosine schedule", ADAM, opt="adam", schedule="cosine"),
    _contestant("decay", "adam-linear", "Adam, linear to zero", ADAM, opt="adam", schedule="linear"),
    _contestant("decay", "sgd-cosine", "SGD, cosine schedule", SGD_LR, MOMENTUM, opt="momentum", schedule="cosine"),
    _contestant(
        "decay", "hybrid-cosine", "Adam, then SGD with a cosine", AT, ADAM, LR_SGD, MOMENTUM,
        opt="hybrid", schedule_sgd="cosine",
    ),
    _contestant("average", "adam-ema", "Adam, average of its weights", ADAM, DECAY, opt="adam-ema"),
    _contestant("average", "schedule-free", "Schedule-free Adam", ADAM, opt="schedule-free"),
)  # fmt: skip

SMALL = ("sgd", "adam", "hybrid", "adam-cut", "adam-cosine", "sgd-cosine", "hybrid-cosine", "adam-ema")
