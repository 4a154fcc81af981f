"""Learning-rate schedules: plain functions of the step number k = 0, 1, 2, ... that return the rate of that step.

Each function here makes one; hand it to any optimizer as `lr`. In a hybrid each phase counts its own steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minidl.optim.checks import at_least
from minidl.optim.grammar import Convert, GrammarError, Reader, number, whole
from minidl.optim.optimizer import Schedule


def constant(lr: float) -> Schedule:
    """Always lr."""
    at_least("lr", lr, 0)
    return lambda k: lr


def step(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr factor^(k // every): multiplied by `factor` after each `every` steps."""
    at_least("lr", lr, 0)
    at_least("every", every, 1)
    at_least("factor", factor, 0)
    return lambda k: lr * factor ** (k // every)


def halving(lr: float, start: int, every: int) -> Schedule:
    """lr until step `start`, half of it from there, and half again after each `every` steps more."""
    at_least("lr", lr, 0)
    at_least("start", start, 0)
    at_least("every", every, 1)
    return lambda k: lr * 0.5 ** (0 if k < start else 1 + (k - start) // every)


def cosine(lr: float, total_steps: int, final: float = 0.0) -> Schedule:
    """From lr at step 0 down to `final` at step total_steps along half a cosine, and `final` from there.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    at_least("lr", lr, 0)
    at_least("total_steps", total_steps, 1)
    at_least("final", final, 0)
    return lambda k: final + (lr - final) * (1 + math.cos(math.pi * min(k / total_steps, 1))) / 2


def warmup(schedule: Schedule, steps: int) -> Schedule:
    """The schedule, its first `steps` rates multiplied by 1/steps, 2/steps, ..., 1 (Goyal et al. 2017, sec. 2.2)."""
    at_least("steps", steps, 0)
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
