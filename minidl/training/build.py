"""From a name to an optimizer: what stands behind `--opt` and its companions on the command line."""

from __future__ import annotations

from collections.abc import Iterable
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
from minidl.training.presets import preset

# The rate of each optimizer where none is given, for MNIST and batches of about 100.
DEFAULT_LR = {
    "sgd": 0.1,
    "momentum": 0.02,
    "nesterov": 0.02,
    "adagrad": 0.02,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
    "hybrid": None,  # the preset's
    "swats": 1e-3,
    "gnmt": 2e-4,
    "blend": 0.05,
}
NAMES = tuple(DEFAULT_LR)

# The options that an optimizer has, beside lr, weight_decay and max_norm, which all have.
_OPTIONS: dict[str, set[str]] = {
    "sgd": {"schedule"},
    "momentum": {"schedule", "momentum"},
    "nesterov": {"schedule", "momentum"},
    "adagrad": {"schedule"},
    "rmsprop": {"schedule", "momentum"},
    "adam": {"schedule"},
    "adamw": {"schedule"},
    "hybrid": {"schedule", "schedule_sgd", "momentum", "switch", "lr_after", "lr_sgd"},
    "swats": {"switch"},
    "gnmt": {"lr_sgd"},
    "blend": {"schedule", "momentum"},
}


def build(
    name: str,
    params: Iterable[Tensor],
    *,
    total_steps: int,
    steps_per_epoch: int,
    model: str = "mlp",
    dataset: str = "mnist",
    lr: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    switch: str | None = None,
    lr_after: float | str | None = None,
    lr_sgd: float | None = None,
    schedule: str | None = None,
    schedule_sgd: str | None = None,
    max_norm: float | None = None,
) -> Optimizer:
    """The optimizer of this name (see NAMES) for these parameters; None means the default of that optimizer.

    total_steps      length of the run, for gnmt, blend and schedules that have an end
    steps_per_epoch  for blend
    model, dataset   choose hybrid's preset (presets.py), which fills in what is None. switch "auto" is the preset's
    lr               the rate; hybrid, swats, gnmt: of Adam;   lr_sgd: of hybrid's and gnmt's SGD
    lr_after         hybrid: "projected", "matched" or a number, instead of lr_sgd
    schedule         a text for parse_schedule. In a hybrid it applies to each phase, unless schedule_sgd gives SGD's
                     phase its own; that phase's ends with the run
    switch           a text for parse_switch. For swats: one `swats:...` condition, which sets its tolerance

    Raises ValueError for an unknown name, an option that the optimizer does not have, or a number out of range;
    SwitchError and ScheduleError, which are ValueErrors too, for a text that can't be read.
    """
    if name not in NAMES:
        raise ValueError(unknown("optimizer", name, NAMES))
    given = {
        "momentum": momentum, "switch": switch, "lr_after": lr_after, "lr_sgd": lr_sgd, "schedule": schedule,
        "schedule_sgd": schedule_sgd,
    }  # fmt: skip
    for option, value in given.items():
        if value is not None and option not in _OPTIONS[name]:
            having = ", ".join(n for n in NAMES if option in _OPTIONS[n])
            raise ValueError(f"{option.replace('_', '-')} does not apply to '{name}': it is for {having}")
    common: dict[str, Any] = {"max_norm": max_norm, "weight_decay": weight_decay or 0.0}
    if name == "hybrid":
        return _hybrid(params, total_steps, round(total_steps / steps_per_epoch), model, dataset, lr, given, common)
    peak = lr if lr is not None else DEFAULT_LR[name]
    assert peak is not None
    rate: Rate = parse_schedule(schedule, lr=peak, total_steps=total_steps) if schedule else peak
    mu = 0.9 if momentum is None else momentum
    match name:
        case "sgd":
            return SGD(params, rate, **common)
        case "momentum" | "nesterov":
            return SGD(params, rate, mu, nesterov=name == "nesterov", **common)
        case "adagrad":
            return Adagrad(params, rate, **common)
        case "rmsprop":
            return RMSprop(params, rate, momentum=momentum or 0.0, **common)
        case "adam":
            return Adam(params, rate, **common)
        case "adamw":
            return AdamW(params, rate, **{**common, "weight_decay": 1e-2 if weight_decay is None else weight_decay})
        case "swats":
            return SWATS(params, rate, **_swats_tolerance(switch), **common)
        case "gnmt":
            clipping = {} if max_norm is None else {"max_norm": max_norm}
            sgd = {} if lr_sgd is None else {"lr_sgd": lr_sgd}
            return GNMT(params, total_steps, peak, **sgd, **clipping, weight_decay=common["weight_decay"])
        case _:
            # The paper's centre and period are epochs 10 and 5 of 90: the same fractions of this run.
            ninetieth = total_steps / steps_per_epoch / 90
            shape = {"center": 10 * ninetieth, "period": 5 * ninetieth}
            return Blend(params, rate, steps_per_epoch=steps_per_epoch, momentum=mu, **shape, **common)


def _hybrid(
    params: Iterable[Tensor],
    total_steps: int,
    epochs: int,
    model: str,
    dataset: str,
    lr: float | None,
    given: dict[str, Any],
    common: dict[str, Any],
) -> Hybrid:
    row = preset(model, dataset, epochs)
    lr = row.lr if lr is None else lr
    lr_sgd = row.lr_sgd if given["lr_sgd"] is None else given["lr_sgd"]
    momentum = row.momentum if given["momentum"] is None else given["momentum"]
    lr_after = row.lr_after if given["lr_after"] is None and given["lr_sgd"] is None else given["lr_after"]
    condition = parse_switch(str(row.switch) if given["switch"] in (None, "auto") else given["switch"])
    schedule, schedule_sgd = given["schedule"], given["schedule_sgd"] or given["schedule"] or row.schedule_sgd
    first_rate: Rate = parse_schedule(schedule, lr=lr, total_steps=total_steps) if schedule else lr
    then_rate: Rate = lr_sgd
    if schedule_sgd:

        @lru_cache(maxsize=1)  # the text is read once
        def sgd_phase(steps: int) -> Schedule:
            return parse_schedule(schedule_sgd, lr=lr_sgd if lr_after is None else 1.0, total_steps=steps)

        def then_rate(k: int) -> float:  # over what the switch has left of the run
            return sgd_phase(max(1, total_steps - (hybrid.switch_step or 0)))(k)

    weight_decay = common["weight_decay"]
    hybrid = Hybrid(
        params,
        # With weight decay, Adam's decoupled form: the decay is no part of the step that is projected.
        first=(AdamW if weight_decay else Adam)(lr=first_rate, **common),
        then=SGD(lr=then_rate, momentum=momentum, **common),
        switch=condition,
        lr_after=lr_after,
    )
    return hybrid


def _swats_tolerance(switch: str | None) -> dict[str, Any]:
    if switch is None or switch == "auto":
        return {}
    condition = parse_switch(switch)
    if not isinstance(condition, Projected) or condition.window != 1:
        raise ValueError(f"'swats' switches by its own rule: --switch swats:eps=E or swats:rtol=R, got '{switch}'")
    if condition.rtol is not None:
        return {"switch_rtol": condition.rtol}
    return {"switch_eps": condition.eps}
