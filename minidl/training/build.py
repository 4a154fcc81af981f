"""Optimizers by name, for `--opt` and the related command-line options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minidl.optim.adagrad import Adagrad
from minidl.optim.adam import Adam, AdamW
from minidl.optim.blend import Blend
from minidl.optim.gnmt import GNMT
from minidl.optim.grammar import unknown
from minidl.optim.hybrid import Hybrid
from minidl.optim.optimizer import Optimizer, Rate, Schedule
from minidl.optim.rmsprop import RMSprop
from minidl.optim.schedule import parse_schedule
from minidl.optim.sgd import SGD
from minidl.optim.swats import SWATS
from minidl.optim.switch import Projected
from minidl.optim.switch_text import parse_switch
from minidl.tensor import Tensor
from minidl.training.loader import load
from minidl.training.own import own_optimizer
from minidl.training.own_file import is_own
from minidl.training.presets import DEFAULTS

NAMES = tuple(DEFAULTS)

# The options of each optimizer, besides lr, weight_decay and max_norm, which all of them have.
_OPTIONS: dict[str, set[str]] = {
    "sgd": {"schedule"},
    "momentum": {"schedule", "momentum"},
    "nesterov": {"schedule", "momentum"},
    "adagrad": {"schedule"},
    "rmsprop": {"schedule", "momentum"},
    "adam": {"schedule", "betas"},
    "adamw": {"schedule", "betas"},
    "hybrid": {"schedule", "betas", "schedule_sgd", "momentum", "switch", "lr_after", "lr_sgd"},
    "swats": {"switch", "betas"},
    "gnmt": {"lr_sgd"},
    "blend": {"schedule", "momentum"},
}


def build(
    name: str,
    params: Iterable[Tensor],
    *,
    total_steps: int,
    steps_per_epoch: int,
    lr: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    schedule: str | None = None,
    betas: Sequence[float] | None = None,
    switch: str | None = None,
    lr_after: float | str | None = None,
    lr_sgd: float | None = None,
    schedule_sgd: str | None = None,
) -> Optimizer:
    """The optimizer of this name (see NAMES) for these parameters. Its options must be complete: see presets.decided.

    name             one of NAMES, or a user's own class or function: "mine.py:Lion" (see own.py)

    total_steps      length of the run, for gnmt, blend and schedules that have an end
    steps_per_epoch  for blend and schedules in epochs
    lr               the learning rate; hybrid, swats, gnmt: Adam's;   lr_sgd: that of SGD in hybrid and gnmt
    lr_after         hybrid: "projected", "matched" or a number, instead of lr_sgd
    schedule         a string for parse_schedule; in a hybrid for Adam's phase. schedule_sgd is for SGD's phase, and
                     ends with the run
    betas            Adam's, also in hybrid and swats; None: Adam's defaults
    switch           a string for parse_switch. For swats: one `swats:...` condition, which sets its tolerance

    Raises ValueError for an unknown name, an option that the optimizer does not have, or a number out of range;
    SwitchError and ScheduleError, which are ValueErrors too, for a string that can't be parsed.
    """
    given: dict[str, Any] = {
        "momentum": momentum or None, "switch": switch, "lr_after": lr_after, "lr_sgd": lr_sgd, "schedule": schedule,
        "schedule_sgd": schedule_sgd, "betas": betas,
    }  # fmt: skip
    if is_own(name):
        given |= {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "clip_norm": clip_norm}
        given |= {"schedule": schedule, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        return own_optimizer(load(name), params, **given)
    _check(name, given)
    assert lr is not None, "only a user's own optimizer may have no learning rate"
    momentum, weight_decay = momentum or 0.0, weight_decay or 0.0
    common: dict[str, Any] = {"max_norm": clip_norm, "weight_decay": weight_decay}
    rate: Rate = lr
    if schedule:
        rate = parse_schedule(schedule, lr=lr, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    adam = common if betas is None else {"betas": tuple(betas), **common}
    match name:
        case "sgd":
            return SGD(params, rate, **common)
        case "momentum" | "nesterov":
            return SGD(params, rate, momentum, nesterov=name == "nesterov", **common)
        case "adagrad":
            return Adagrad(params, rate, **common)
        case "rmsprop":
            return RMSprop(params, rate, momentum=momentum, **common)
        case "adam":
            return Adam(params, rate, **adam)
        case "adamw":
            return AdamW(params, rate, **adam)
        case "swats":
            return SWATS(params, rate, **_swats_tolerance(switch), **adam)
        case "gnmt":
            assert lr_sgd is not None
            return GNMT(params, total_steps, lr, lr_sgd, **common)
        case "hybrid":
            assert switch is not None
            assert lr_sgd is not None
            # With weight decay, AdamW, whose decay is decoupled: it is not part of the step that is projected.
            first = (AdamW if weight_decay else Adam)(lr=rate, **adam)
            lengths = total_steps, steps_per_epoch
            return _hybrid(params, lengths, first, switch, lr_after, lr_sgd, schedule_sgd, momentum, common)
        case _:  # blend
            # The paper's centre and period are 10 and 5 of 90 epochs: here the same fractions of the run.
            ninetieth = total_steps / steps_per_epoch / 90
            shape = {"center": 10 * ninetieth, "period": 5 * ninetieth}
            return Blend(params, rate, steps_per_epoch=steps_per_epoch, momentum=momentum, **shape, **common)


def _check(name: str, given: dict[str, Any]) -> None:
    if name not in NAMES:
        raise ValueError(unknown("optimizer", name, NAMES))
    for option, value in given.items():
        if value is not None and option not in _OPTIONS[name]:
            having = ", ".join(n for n in NAMES if option in _OPTIONS[n])
            raise ValueError(f"{option.replace('_', '-')} does not apply to '{name}': it is an option of {having}")


def _hybrid(
    params: Iterable[Tensor],
    lengths: tuple[int, int],
    first: Adam,
    switch: str,
    lr_after: float | str | None,
    lr_sgd: float,
    schedule_sgd: str | None,
    momentum: float,
    common: dict[str, Any],
) -> Hybrid:
    rest = RestOfRun(schedule_sgd, lr_sgd if lr_after is None else 1.0, *lengths) if schedule_sgd else None
    then = SGD(lr=rest or lr_sgd, momentum=momentum, **common)
    decay_after = "matched" if common["weight_decay"] else None
    hybrid = Hybrid(params, first, then, switch=parse_switch(switch), lr_after=lr_after, decay_after=decay_after)
    if rest is not None:
        rest.hybrid = hybrid
    return hybrid


@dataclass
class RestOfRun:
    """The schedule of a hybrid's SGD, over the steps left after the switch; copied and pickled with the hybrid."""

    text: str
    peak: float
    total_steps: int
    steps_per_epoch: int
    hybrid: Hybrid | None = None

    def __post_init__(self) -> None:
        self(0)  # raises now, not at the switch, if the text can't be parsed

    def __call__(self, k: int) -> float:
        gone = (self.hybrid and self.hybrid.switch_step) or 0
        return _read(self.text, self.peak, max(1, self.total_steps - gone), self.steps_per_epoch)(k)


@lru_cache(maxsize=16)  # parse a text once
def _read(text: str, peak: float, steps: int, steps_per_epoch: int) -> Schedule:
    return parse_schedule(text, lr=peak, total_steps=steps, steps_per_epoch=steps_per_epoch)


def _swats_tolerance(switch: str | None) -> dict[str, Any]:
    if switch is None or switch == "auto":
        return {}
    condition = parse_switch(switch)
    if not isinstance(condition, Projected) or condition.window != 1:
        raise ValueError(f"'swats' switches by its own rule: --switch swats:eps=E or swats:rtol=R, got '{switch}'")
    if condition.rtol is not None:
        return {"switch_rtol": condition.rtol}
    return {"switch_eps": condition.eps}
