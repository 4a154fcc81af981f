"""Learning-rate schedules: plain functions of the step number k = 0, 1, 2, ... that return the rate of that step.

Each function here makes one; hand it to any optimizer as `lr`. In a hybrid each phase counts its own steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec

from minidl.optim.checks import at_least, whole_number
from minidl.optim.grammar import Convert, GrammarError, Reader, number, whole
from minidl.optim.optimizer import Schedule

P = ParamSpec("P")


class Made:
    """A schedule that knows how it was made, so that it can be pickled with its optimizer."""

    def __init__(self, make: Callable[..., Schedule], how: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.make, self.how, self.named = make, how, named
        self.rate = make(*how, **named)

    def __call__(self, k: int) -> float:
        return self.rate(k)

    def __reduce__(self) -> Any:
        return partial(globals()[self.make.__name__], *self.how, **self.named), ()


def remembered(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Mark a function that makes a schedule: what it makes becomes Made."""

    @wraps(make)
    def made(*how: P.args, **named: P.kwargs) -> Schedule:
        return Made(make, how, named)

    return made


@remembered
def constant(lr: float) -> Schedule:
    """Always lr."""
    at_least("lr", lr, 0)
    return lambda k: lr


@remembered
def step(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr factor^(k // every): multiplied by `factor` after each `every` steps."""
    at_least("lr", lr, 0)
    whole_number("every", every, 1)
    at_least("factor", factor, 0)
    return lambda k: lr * factor ** (k // every)


@remembered
def halving(lr: float, start: int, every: int) -> Schedule:
    """lr until step `start`, half of it from there, and half again after each `every` steps more."""
    at_least("lr", lr, 0)
    whole_number("start", start, 0)
    whole_number("every", every, 1)
    return lambda k: lr * 0.5 ** (0 if k < start else 1 + (k - start) // every)


@remembered
def cosine(lr: float, total_steps: int, final: float = 0.0) -> Schedule:
    """From lr at step 0 down to `final` at step total_steps along half a cosine, where it ends.

    Loshchilov & Hutter 2017, eq. 5, without restarts. To ask for a later step is a ValueError: the curve would rise.
    """
    at_least("lr", lr, 0)
    whole_number("total_steps", total_steps, 1)
    at_least("final", final, 0)

    def rate(k: int) -> float:
        if k > total_steps:
            raise ValueError(f"the cosine ends at step {total_steps}, this is step {k}: make one for the whole length")
        return final + (lr - final) * (1 + math.cos(math.pi * k / total_steps)) / 2

    return rate


@remembered
def warmup(schedule: Schedule, steps: int) -> Schedule:
    """The schedule, its first `steps` rates multiplied by 1/steps, 2/steps, ..., 1 (Goyal et al. 2017, sec. 2.2)."""
    whole_number("steps", steps, 0)
    return lambda k: schedule(k) * (1 if k + 1 >= steps else (k + 1) / steps)


# ---- the text form ----


class ScheduleError(GrammarError):
    """A `--schedule` text that can't be read."""


_KEYS: dict[str, dict[str, Convert]] = {
    "constant": {},
    "step": {"every": whole, "factor": number},
    "halving": {"start": whole, "every": whole},
    "cosine": {"final": number},
}
_MAKE: dict[str, Callable[..., Schedule]] = {"constant": constant, "step": step, "halving": halving, "cosine": cosine}
_REQUIRED = {"step": ("every",), "halving": ("start", "every")}
_EXPECTED = "a schedule, such as constant, step:every=1000,factor=0.1, halving:start=600,every=100, cosine:warmup=100"


def parse_schedule(text: str, *, lr: float, total_steps: int) -> Schedule:
    """The schedule that the text describes, with peak rate lr: `cosine:warmup=100`, `step:every=1000,factor=0.1`, ...

    Each takes `warmup=STEPS`. cosine's `final` is a fraction of lr; it ends at step total_steps. Raises ScheduleError,
    which shows the place and what was expected there.
    """
    reader = Reader(text, ScheduleError)
    call = reader.call(_EXPECTED)
    if reader.at < len(text):
        reader.fail(reader.at, "expected the end")
    name = reader.choose(call.name, _KEYS, "schedule")
    values = reader.values(call, {**_KEYS[name], "warmup": whole})
    for key in _REQUIRED.get(name, ()):
        if key not in values:
            reader.fail(call.name.at, f"'{name}' needs {key}=STEPS")
    warm = values.pop("warmup", 0)
    if name == "cosine":
        values = {"total_steps": total_steps, "final": lr * values.get("final", 0.0)}
    schedule: Schedule = reader.build(call, _MAKE[name], {"lr": lr, **values})
    return reader.build(call, warmup, {"schedule": schedule, "steps": warm}) if warm else schedule
