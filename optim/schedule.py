"""Learning-rate schedules: plain functions of the step number k = 0, 1, 2, ... that return the rate of that step.

Each function here makes one; pass it to any optimizer as `lr`. In a hybrid each phase counts its own steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature
from itertools import pairwise
from typing import Any, ParamSpec

from minidl.optim.checks import above, at_least, pythons, whole_number
from minidl.optim.grammar import Convert, GrammarError, Reader, number, unknown, whole
from minidl.optim.optimizer import Schedule

P = ParamSpec("P")


class ScheduleEnded(ValueError):
    """A schedule was asked for a step after its end."""


class Made:
    """A schedule that remembers how it was made, so that it can be pickled with its optimizer."""

    def __init__(self, make: Callable[..., Schedule], how: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.make, self.how = make, tuple(map(pythons, how))
        self.named = {name: pythons(value) for name, value in named.items()}
        self.rate = make(*self.how, **self.named)

    def __call__(self, k: int) -> float:
        return self.rate(k)

    @property
    def peak(self) -> float:
        """The learning rate that it was made with: a warm-up and a cycle start below it."""
        height: Any = next(iter(signature(self.make).bind(*self.how, **self.named).arguments.values()))
        return float(getattr(height, "peak", height(0)) if callable(height) else height)

    def __reduce__(self) -> Any:
        return partial(MAKERS[self.make.__name__], *self.how, **self.named), ()


MAKERS: dict[str, Callable[..., Any]] = {}  # the functions below that make a schedule, by name


def remembered(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Decorator for a function that makes a schedule: the result becomes Made."""

    @wraps(make)
    def made(*how: P.args, **named: P.kwargs) -> Schedule:
        return Made(make, how, named)

    MAKERS[make.__name__] = made
    return made


@remembered
def constant(lr: float) -> Schedule:
    """Always lr. Raises ValueError for an lr below 0."""
    at_least("lr", lr, 0)
    return lambda k: lr


@remembered
def step(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr factor^(k // every): multiplied by `factor` after every `every` steps.

    Raises ValueError for an argument out of range.
    """
    at_least("lr", lr, 0)
    whole_number("every", every, 1)
    at_least("factor", factor, 0)
    return lambda k: _grown(lr, factor, k // every)


def _grown(lr: float, factor: float, times: int) -> float:
    """lr factor^times; infinite where that is too large for a float, so that a run fails before it starts."""
    try:
        return lr * factor**times
    except OverflowError:
        return math.inf


@remembered
def halving(lr: float, start: int, every: int) -> Schedule:
    """lr until step `start`, half of it from there, and halved again after every `every` steps.

    Raises ValueError for an argument out of range.
    """
    at_least("lr", lr, 0)
    whole_number("start", start, 0)
    whole_number("every", every, 1)
    return lambda k: lr * 0.5 ** (0 if k < start else 1 + (k - start) // every)


@remembered
def cosine(lr: float, total_steps: int, final: float = 0.0) -> Schedule:
    """From lr at step 0 down to `final` at step total_steps along half a cosine.

    Loshchilov & Hutter 2017, eq. 5, without restarts. Raises ValueError for a later step, where the curve would rise
    again, and for an argument out of range.
    """
    at_least("lr", lr, 0)
    whole_number("total_steps", total_steps, 1)
    at_least("final", final, 0)

    def rate(k: int) -> float:
        if k > total_steps:
            raise ScheduleEnded(
                f"the cosine ends at step {total_steps}, this is step {k}: make one for the whole length"
            )
        return final + (lr - final) * (1 + math.cos(math.pi * k / total_steps)) / 2

    return rate


@remembered
def linear(lr: float, total_iters: int, start_factor: float = 1.0, end_factor: float = 0.0) -> Schedule:
    """Linear from start_factor lr at step 0 to end_factor lr at step total_iters, constant from there.

    The formula and the arguments of PyTorch's LinearLR. Its defaults are a warm-up; these decay from lr to zero.
    Raises ValueError for an argument out of range.
    """
    at_least("lr", lr, 0)
    whole_number("total_iters", total_iters, 1)
    at_least("start_factor", start_factor, 0)
    at_least("end_factor", end_factor, 0)
    return lambda k: lr * (start_factor + (end_factor - start_factor) * min(k / total_iters, 1))


@remembered
def exponential(lr: float, gamma: float, steps_per_epoch: int) -> Schedule:
    """lr gamma^e in epoch e = 0, 1, 2, ...: PyTorch's ExponentialLR, stepped after each epoch.

    Raises ValueError for an argument out of range.
    """
    at_least("lr", lr, 0)
    at_least("gamma", gamma, 0)
    whole_number("steps_per_epoch", steps_per_epoch, 1)
    return lambda k: _grown(lr, gamma, k // steps_per_epoch)


@remembered
def onecycle(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """One cycle of the learning rate (Smith & Topin 2018, "Super-Convergence"): up to max_lr, then down to nearly 0.

    From max_lr / div_factor at step 0 up to max_lr at step pct_start total_steps - 1; from there down to
    max_lr / (div_factor final_div_factor) at step total_steps - 1, the last. With three_phase, as in the paper, it
    first falls as slowly as it rose, to where it began, and then on to the minimum. The paper has straight lines,
    anneal_strategy="linear"; "cos" is half a cosine each way. Raises ValueError for a step after total_steps, an
    argument out of range or another strategy.

    The formula, the arguments and the defaults of PyTorch's OneCycleLR with cycle_momentum=False.
    """
    at_least("max_lr", max_lr, 0)
    whole_number("total_steps", total_steps, 1)
    if not 0 <= pct_start <= 1:
        raise ValueError(f"pct_start must be in [0, 1], got {pct_start}")
    if anneal_strategy not in ANNEAL:
        raise ValueError(unknown("anneal_strategy", anneal_strategy, ANNEAL))
    initial = max_lr / above("div_factor", div_factor, 0)
    final = initial / above("final_div_factor", final_div_factor, 0)
    up, last = pct_start * total_steps - 1, total_steps - 1  # `up` lies between two steps, or before the first
    middle = [(2 * up, initial)] if three_phase else []
    corners = [(0.0, initial), (up, max_lr), *middle, (last, final)]

    def rate(k: int) -> float:
        if k > total_steps:
            raise ScheduleEnded(
                f"the cycle ends at step {total_steps}, this is step {k}: make one for the whole length"
            )
        return along(corners, anneal_strategy, k)

    return rate


def along(corners: Sequence[tuple[float, float]], strategy: str, k: int) -> float:
    """The value at step k of a curve through corners (step, value), interpolated between neighbours as in ANNEAL."""
    for (start, a), (end, b) in pairwise(corners):
        if k <= end:
            return ANNEAL[strategy](a, b, (k - start) / (end - start) if end > start else 1.0)
    return corners[-1][1]


ANNEAL: dict[str, Callable[[float, float, float], float]] = {  # (from, to, share of the way) -> the value there
    "cos": lambda a, b, share: b + (a - b) * (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda a, b, share: a + (b - a) * share,
}


@remembered
def warmup(schedule: Schedule, steps: int) -> Schedule:
    """The schedule, its first `steps` rates multiplied by 1/steps, 2/steps, ..., 1 (Goyal et al. 2017, sec. 2.2).

    Raises TypeError for a number in place of the schedule, ValueError where `steps` is not a whole number >= 0.
    """
    if not callable(schedule):
        raise TypeError(f"warmup takes a schedule, as in warmup(constant({schedule}), {steps}), got {schedule!r}")
    whole_number("steps", steps, 0)
    return lambda k: schedule(k) * (1 if k + 1 >= steps else (k + 1) / steps)


# ---- the text form ----


class ScheduleError(GrammarError):
    """A `--schedule` text that can't be parsed."""


_KEYS: dict[str, dict[str, Convert]] = {
    "constant": {},
    "step": {"every": whole, "factor": number},
    "halving": {"start": whole, "every": whole},
    "cosine": {"final": number},
    "linear": {"start_factor": number, "end_factor": number},
    "exponential": {"gamma": number},
    "onecycle": {"pct_start": number, "anneal_strategy": str, "div_factor": number, "final_div_factor": number},
}
_REQUIRED = {"step": {"every": "STEPS"}, "halving": {"start": "STEPS", "every": "STEPS"}, "exponential": {"gamma": "G"}}
_EXPECTED = (
    "a schedule, such as constant, step:every=1000,factor=0.1, halving:start=600,every=100, cosine:warmup=100, linear, "
    "exponential:gamma=0.9, onecycle"
)


def parse_schedule(text: str, *, lr: float, total_steps: int, steps_per_epoch: int | None = None) -> Schedule:
    """The schedule that the text describes, at peak rate lr: `cosine:warmup=100`, `step:every=1000,factor=0.1`, ...

    total_steps      length of the run, where cosine, linear and onecycle end
    steps_per_epoch  for exponential

    All take `warmup=STEPS` except onecycle, which has its own. cosine's `final` is a fraction of lr. Raises
    ScheduleError, which shows the position and what was expected there.
    """
    reader = Reader(text, ScheduleError)
    call = reader.call(_EXPECTED)
    if reader.at < len(text):
        reader.fail(reader.at, "expected the end")
    name = reader.choose(call.name, _KEYS, "schedule")
    values = reader.values(call, _KEYS[name] if name == "onecycle" else {**_KEYS[name], "warmup": whole})
    for key, what in _REQUIRED.get(name, {}).items():
        if key not in values:
            reader.fail(call.name.at, f"'{name}' needs {key}={what}")
    warm = values.pop("warmup", 0)
    if name == "exponential" and steps_per_epoch is None:
        reader.fail(call.name.at, "it goes by epochs, so parse_schedule needs steps_per_epoch")
    if name == "cosine":
        values["final"] = lr * values.get("final", 0.0)
    lengths: dict[str, dict[str, Any]] = {
        "cosine": {"total_steps": total_steps},
        "linear": {"total_iters": total_steps},
        "exponential": {"steps_per_epoch": steps_per_epoch},
        "onecycle": {"total_steps": total_steps},
    }
    schedule: Schedule = reader.build(call, partial(MAKERS[name], lr), {**values, **lengths.get(name, {})})
    if math.isinf(schedule(total_steps - 1)):
        reader.fail(call.name.at, f"its rate is too large for a number before step {total_steps:,}, the last")
    return reader.build(call, warmup, {"schedule": schedule, "steps": warm}) if warm else schedule
