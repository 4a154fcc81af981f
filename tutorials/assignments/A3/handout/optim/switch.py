"""When to leave the first phase: conditions on the progress of training, each a plain function of one record.

A condition reads the Progress and answers yes or no. Conditions keep no state of their own, so a resumed run decides
like an uninterrupted one. Join them with | (either) and & (both). str() gives a condition in the grammar of `--switch`,
and `parse_switch` in switch_text.py parses it.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from minidl.optim.checks import at_least, pythons, whole_number
from minidl.optim.progress import Progress

Test: TypeAlias = Callable[[Progress], bool]  # a Condition, or any function of the progress


class Condition(ABC):
    """A yes-or-no question about the progress, asked after each step and each report. Joined by `|` and `&`.

    A subclass answers in `__call__(progress)`, from `progress` alone: it may be asked more than once, and what it
    changes in itself is not saved.
    """

    @property
    def needs_projection(self) -> bool:
        """Whether it reads gamma and Lambda, which cost a pass over the vectors at each step."""
        return False

    @property
    def needs_reports(self) -> bool:
        """Whether it can't be met before an epoch has been reported."""
        return False

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it reads from the report after each epoch: "val_loss", ..."""
        return ()

    @abstractmethod
    def __call__(self, progress: Progress) -> bool: ...

    def reason(self, progress: Progress) -> str:
        """The part of the condition that is met."""
        return str(self)

    def __or__(self, other: Test) -> Condition:
        return AnyOf((self, other))

    def __ror__(self, other: Test) -> Condition:
        return AnyOf((other, self))

    def __and__(self, other: Test) -> Condition:
        return AllOf((self, other))

    def __rand__(self, other: Test) -> Condition:
        return AllOf((other, self))

    def __bool__(self) -> bool:
        joined = "join conditions with | and &, not `or` and `and`, and in a function call them, condition(progress)"
        raise TypeError(f"{self} is neither true nor false by itself: {joined}")


@dataclass(frozen=True)
class AfterSteps(Condition):
    """After n optimizer steps, n >= 1: `step:1000`. Raises ValueError for another n."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", whole_number("the number of steps", self.n, 1))

    def __call__(self, progress: Progress) -> bool:
        return progress.step >= self.n

    def __str__(self) -> str:
        return f"step:{self.n}"


@dataclass(frozen=True)
class AfterEpochs(Condition):
    """After n epochs, n >= 1: `epoch:3`. Raises ValueError for another n."""

    n: int

    needs_reports: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", whole_number("the number of epochs", self.n, 1))

    def __call__(self, progress: Progress) -> bool:
        return progress.epoch >= self.n

    def __str__(self) -> str:
        return f"epoch:{self.n}"


@dataclass(frozen=True)
class Plateau(Condition):
    """The metric has not improved for `patience` epochs in a row. `plateau:patience=2`.

    metric     lower is better, except that higher is where the name ends in "accuracy"
    patience   epochs, at least 1
    min_delta  >= 0. An improvement beats the best so far by more than this

    Raises ValueError for an argument out of range.
    """

    metric: str = "val_loss"
    patience: int = 2
    min_delta: float = 0.0

    needs_reports: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", whole_number("patience", self.patience, 1))
        object.__setattr__(self, "min_delta", at_least("min_delta", self.min_delta, 0))

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def __call__(self, progress: Progress) -> bool:
        return self.standing(progress)[1] >= self.patience

    def standing(self, progress: Progress) -> tuple[float, int]:
        """The best value so far, and the number of epochs without improvement."""
        raise NotImplementedError("A3: Plateau.standing is yours to write")

    def __str__(self) -> str:
        metric = "" if self.metric == "val_loss" else f"metric={self.metric},"
        min_delta = f",min_delta={self.min_delta!r}" if self.min_delta else ""
        return f"plateau:{metric}patience={self.patience}{min_delta}"


@dataclass(frozen=True)
class Crossing(Condition):
    """The metric has reached the level: an accuracy from below, others from above. `crossing:val_accuracy=0.97`.

    metric  name of a reported metric, such as "val_loss"
    level   in the metric's unit; accuracies are fractions. Raises ValueError for one that is not finite
    """

    metric: str
    level: float

    needs_reports: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", _level(self.level))

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def __call__(self, progress: Progress) -> bool:
        values = progress.history(self.metric)[-1:]
        return any(v >= self.level if _higher_is_better(self.metric) else v <= self.level for v in values)

    def __str__(self) -> str:
        return f"crossing:{self.metric}={self.level!r}"


@dataclass(frozen=True)
class Gap(Condition):
    """Over-fitting: train_accuracy - val_accuracy has reached the level, both fractions. `gap:0.02`."""

    level: float

    needs_reports: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", _level(self.level))

    @property
    def metrics(self) -> tuple[str, ...]:
        return "train_accuracy", "val_accuracy"

    def __call__(self, progress: Progress) -> bool:
        raise NotImplementedError("A3: Gap.__call__ is yours to write")

    def __str__(self) -> str:
        return f"gap:{self.level!r}"


@dataclass(frozen=True)
class Projected(Condition):
    """SWATS's criterion (Keskar & Socher 2017, Algorithm 1): |Lambda - gamma| < eps. `swats`, `swats:rtol=0.001`.

    eps     absolute tolerance; 1e-9, the paper's, if rtol is not given either. On real data it is almost never met
    rtol    relative tolerance instead: |Lambda - gamma| < rtol |Lambda|. The practical choice
    window  compare Lambda with the mean of the last `window` gammas, which averages out the noise of single batches;
            1 is the paper's

    Asked from step 2 window on (the paper's k > 1): only then has Lambda seen as many steps outside the window as
    in it. Still, an average of few gammas is easily close to the next one: combine a wide tolerance with a minimum
    step, as in `swats:rtol=0.01 & step:500`. Never met while Lambda <= 0, which is not a learning rate (a case that the
    paper leaves open). Raises ValueError for an argument out of range.
    """

    eps: float | None = None
    rtol: float | None = None
    window: int = 1

    def __post_init__(self) -> None:
        if self.eps is not None and self.rtol is not None:
            raise ValueError(f"give eps or rtol, not both (got {self.eps} and {self.rtol})")
        if self.eps is None and self.rtol is None:
            object.__setattr__(self, "eps", 1e-9)
        object.__setattr__(self, "eps", pythons(self.eps))
        object.__setattr__(self, "rtol", pythons(self.rtol))
        tolerance = self.eps if self.rtol is None else self.rtol
        if tolerance is None or not 0 < tolerance < math.inf:
            raise ValueError(f"needs a tolerance > 0, got {tolerance}")
        object.__setattr__(self, "window", whole_number("window", self.window, 1))

    @property
    def needs_projection(self) -> bool:
        return True

    def __call__(self, progress: Progress) -> bool:
        found = self.distance(progress)
        return found is not None and progress.lambdas[-1] > 0 and found[0] < found[1]

    def distance(self, progress: Progress) -> tuple[float, float] | None:
        """|Lambda - gamma| now, and the tolerance to fall below; None while it is too early to ask."""
        raise NotImplementedError("A3: Projected.distance is yours to write")

    def __str__(self) -> str:
        parts = [] if self.eps in (None, 1e-9) else [f"eps={self.eps!r}"]
        parts += [] if self.rtol is None else [f"rtol={self.rtol!r}"]
        parts += [] if self.window == 1 else [f"window={self.window}"]
        return "swats" + (":" + ",".join(parts) if parts else "")


@dataclass(frozen=True)
class Function(Condition):
    """A function of your own. It may read gamma and Lambda, so they are computed for it at each step."""

    test: Test

    @property
    def needs_projection(self) -> bool:
        return True

    def __call__(self, progress: Progress) -> bool:
        return bool(self.test(progress))

    def __str__(self) -> str:
        name, code = getattr(self.test, "__name__", type(self.test).__name__), getattr(self.test, "__code__", None)
        if name != "<lambda>" or code is None:
            return f"<{name}>"
        cell = "ipykernel" in code.co_filename or code.co_filename.startswith("<")
        return f"<lambda in line {code.co_firstlineno}{'' if cell else f' of {os.path.basename(code.co_filename)}'}>"


@dataclass(frozen=True)
class _Joined(Condition):
    parts: tuple[Test, ...]

    def __post_init__(self) -> None:
        flat: list[Condition] = []  # (a | b) | c and a | (b | c) are both a | b | c
        for part in map(as_condition, self.parts):
            flat.extend(part.conditions if isinstance(part, _Joined) and type(part) is type(self) else [part])
        if len(flat) < 2:
            raise ValueError(f"{type(self).__name__} joins at least two conditions, got {len(flat)}")
        object.__setattr__(self, "parts", tuple(flat))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(map(as_condition, self.parts))

    @property
    def needs_projection(self) -> bool:
        return any(part.needs_projection for part in self.conditions)

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(metric for part in self.conditions for metric in part.metrics)


class AnyOf(_Joined):
    """At least one of the conditions in `parts`: `a | b`."""

    def __call__(self, progress: Progress) -> bool:
        raise NotImplementedError("A3: AnyOf.__call__ is yours to write")

    @property
    def needs_reports(self) -> bool:
        return all(part.needs_reports for part in self.conditions)

    def reason(self, progress: Progress) -> str:
        return " | ".join(part.reason(progress) for part in self.conditions if part(progress))

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


class AllOf(_Joined):
    """All the conditions in `parts`: `a & b`."""

    @property
    def needs_reports(self) -> bool:
        return any(part.needs_reports for part in self.conditions)

    def __call__(self, progress: Progress) -> bool:
        raise NotImplementedError("A3: AllOf.__call__ is yours to write")

    def __str__(self) -> str:
        return " & ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.conditions)


def as_condition(test: Test) -> Condition:
    """A condition unchanged; any other function as a Function."""
    if isinstance(test, type):  # calling it would make one, which is true at the first step
        raise TypeError(f"the switch condition is the class {test.__name__} itself: write {test.__name__}(...)")
    if not callable(test):
        raise TypeError(f"a switch condition is a function of Progress, got {test!r}: for a string, parse_switch(text)")
    return test if isinstance(test, Condition) else Function(test)


def _level(level: float) -> float:
    if not math.isfinite(level):
        raise ValueError(f"the level must be a finite number, got {level}")
    return pythons(level)


def _higher_is_better(metric: str) -> bool:
    return metric.endswith("accuracy")
