"""Who takes part: optimizers, hybrids, and the controls that tell the switch from the change of rate that it brings.

A Contestant is a name, a recipe for its optimizer, and the axes along which it is tuned. A recipe is plain data, such
as {"opt": "hybrid", "lr": 0.001, "lr_sgd": 0.01, "at": 0.6}; it decides the optimizer completely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minidl.optim import SGD, Adam, AfterSteps, Hybrid, Optimizer, Schedule
from minidl.tensor import Tensor
from minidl.training.build import build
from minidl.training.presets import decided
from minidl.training.search import Choice, Log, Point, Space

Recipe = Mapping[str, Any]
TAILORED = "tailored"  # the moment of a switch: the one that tuning chose for the tailored hybrid
MOMENTUM = 0.9  # of every SGD here, but GNMT's, which has none


@dataclass(frozen=True)
class Contestant:
    """A way to train.

    key     short name, for files and tables;   name  what it is, in a few words
    block   constant, control or cosine: the part of the table that it stands in
    fixed   the part of its recipe that is not tuned. "at" is the share of the run before the switch (or the cut of the
            rate); TAILORED copies the tailored hybrid's
    space   what is tuned
    """

    key: str
    name: str
    block: str
    fixed: tuple[tuple[str, Any], ...]
    space: Space

    @property
    def follows(self) -> bool:
        """Whether it takes over the moment of the tailored hybrid, and so has to wait for that."""
        return dict(self.fixed).get("at") == TAILORED

    def recipe(self, point: Point, at: float | None = None) -> dict[str, Any]:
        """The recipe at a point of its space; `at` replaces TAILORED."""
        recipe = dict(self.fixed) | self.space.values(point)
        if self.follows:
            recipe["at"] = at
        return recipe


# ---- from a recipe to an optimizer ----


def make_optimizer(recipe: Recipe, params: Iterable[Tensor], steps: int, steps_per_epoch: int) -> Optimizer:
    """The optimizer of a recipe, for a run of so many steps. Beside what `training.build` takes, a recipe knows

    at      the share of the steps before the switch
    factor  no switch at that moment, only a cut: the rate is multiplied by this from there on
    opt     "sgd-adam": SGD first, then Adam
    """
    options = dict(recipe)
    name, at, factor = options.pop("opt"), options.pop("at", None), options.pop("factor", None)
    first_part = 0 if at is None else moment(at, steps)
    if factor is not None:
        rate = cut(options["lr"], first_part, factor)
        return Adam(params, rate) if name == "adam" else SGD(params, rate, MOMENTUM)
    if name == "sgd-adam":
        sgd, adam = SGD(lr=options["lr"], momentum=MOMENTUM), Adam(lr=options["lr_after"])
        return Hybrid(params, first=sgd, then=adam, switch=AfterSteps(first_part))
    if name == "hybrid":
        options |= {"switch": f"step:{first_part}", "momentum": MOMENTUM, "schedule_sgd": "constant"}
    options = decided(name, options)
    return build(name, params, total_steps=steps, steps_per_epoch=steps_per_epoch, **options)


def moment(at: float, steps: int) -> int:
    """The number of steps before the switch."""
    return max(1, round(at * steps))


def cut(lr: float, at_step: int, factor: float) -> Schedule:
    """lr until step `at_step`, lr times factor from there."""
    return lambda k: lr if k < at_step else lr * factor


# ---- who takes part. Each has the same number of starting points; the most promising come first ----

_ADAPTIVE = Space((Log("lr"),), ((-3,), (-2.5,), (-3.5,), (-2,), (-4,), (-1.5,)))
_SGD = Space((Log("lr"),), ((-1.5,), (-1,), (-2,), (-2.5,), (-0.5,), (-3,)))
_THEN_SGD = Space(
    (Log("lr_sgd"), Log("lr")), ((-2, -3), (-1.5, -3), (-2, -2.5), (-1.5, -2.5), (-2.5, -3), (-2.5, -2.5))
)
_TAILORED = Space(
    (Choice("at", (0.2, 0.4, 0.6, 0.8)), Log("lr_sgd"), Log("lr")),
    ((0.8, -2, -3), (0.4, -1.5, -3), (0.4, -2, -2.5), (0.8, -1.5, -2.5), (0.4, -2.5, -3), (0.8, -2.5, -2.5)),
)
_CUT_ADAM = Space(
    (Log("factor", high=0), Log("lr")), ((-1, -3), (-0.5, -3), (-1, -2.5), (-0.5, -2.5), (-1.5, -3), (-1.5, -2.5))
)
_CUT_SGD = Space(
    (Log("factor", high=0), Log("lr")), ((-1, -1.5), (-0.5, -1.5), (-1, -1), (-0.5, -1), (-1.5, -1.5), (-1.5, -1))
)
_THEN_ADAM = Space((Log("lr_after"), Log("lr")), ((-3, -1.5), (-3.5, -1.5), (-3, -1), (-3.5, -1), (-4, -1.5), (-4, -1)))
_GNMT = Space(  # plain SGD: its steps are a tenth of those with momentum 0.9
    (Log("lr_sgd"), Log("lr")), ((-0.5, -3), (-1, -3), (-0.5, -2.5), (-1, -2.5), (0, -3), (0, -2.5))
)


def _contestant(key: str, name: str, space: Space, block: str = "constant", **fixed: Any) -> Contestant:
    return Contestant(key, name, block, tuple(fixed.items()), space)


def _fixed(share: float) -> Contestant:
    percent = f"{share:.0%}".replace("%", " %")
    name = f"Hybrid: Adam, then SGD after {percent} of the epochs"
    return _contestant(f"hybrid-{share * 100:.0f}", name, _THEN_SGD, opt="hybrid", at=share)


CONTESTANTS = (
    _contestant("sgd", "SGD with momentum", _SGD, opt="momentum"),
    _contestant("adam", "Adam", _ADAPTIVE, opt="adam"),
    _contestant("adamw", "AdamW, weight decay 0.01", _ADAPTIVE, opt="adamw"),
    _contestant("rmsprop", "RMSprop", _ADAPTIVE, opt="rmsprop"),
    _contestant("hybrid", "Hybrid, tailored: Adam, then SGD at a tuned moment", _TAILORED, opt="hybrid"),
    _fixed(0.2),
    _fixed(0.4),
    _fixed(0.8),
    _contestant("swats", "SWATS, exact (tolerance 1e-9)", _ADAPTIVE, opt="swats"),
    _contestant("swats-rel", "SWATS, relative tolerance 1e-3", _ADAPTIVE, opt="swats", switch="swats:rtol=1e-3"),
    _contestant("gnmt", "GNMT's recipe: Adam, then SGD that halves", _GNMT, opt="gnmt"),
    _contestant("blend", "Blend: RMSprop slides into SGD", _SGD, opt="blend"),
    _contestant("adam-cut", "Adam, rate cut at the hybrid's moment", _CUT_ADAM, "control", opt="adam", at=TAILORED),
    _contestant("sgd-cut", "SGD, rate cut at the hybrid's moment", _CUT_SGD, "control", opt="momentum", at=TAILORED),
    _contestant(
        "sgd-adam", "SGD, Adam from the hybrid's moment on", _THEN_ADAM, "control", opt="sgd-adam", at=TAILORED
    ),
    _contestant("sgd-cosine", "SGD with a cosine schedule", _SGD, "cosine", opt="momentum", schedule="cosine"),
    _contestant("adam-cosine", "Adam with a cosine schedule", _ADAPTIVE, "cosine", opt="adam", schedule="cosine"),
)
