"""The calls that the grader can make to a submission of A3. This runs in the student's process.

If one part builds on another, the other part's results are given, so that each part is marked by itself.
"""

from array import array
from typing import Any

import numpy as np
import part_calls

from minidl.optim import switch
from minidl.optim.adam import Adam
from minidl.optim.hybrid import Hybrid
from minidl.optim.progress import Progress
from minidl.optim.projection import Projection
from minidl.optim.sgd import SGD
from minidl.optim.swats import SWATS
from minidl.tensor import Tensor


def projection(beta2: float, ps: Any, gs: Any) -> dict[str, Any]:
    """A Projection after each pair of step and gradient."""
    own, lams = Projection(beta2), []
    for p, g in zip(ps, gs, strict=True):
        own.measure(p, g)
        own.add()
        lams.append(own.lam)
    return {"gammas": np.array(own.gammas), "lambdas": np.array(own.lambdas), "lams": np.array(lams, np.float64)}


def plateau(options: dict[str, Any], reports: list[dict[str, float]]) -> list[Any]:
    """Plateau.standing, and what the condition returns."""
    condition, progress = switch.Plateau(**options), _reported(reports)
    best, waited = condition.standing(progress)
    return [float(best), int(waited), bool(condition(progress))]


def gap(level: float, reports: list[dict[str, float]]) -> bool:
    """What Gap returns."""
    return bool(switch.Gap(level)(_reported(reports)))


def _reported(reports: list[dict[str, float]]) -> Progress:
    """The progress of a training with two steps per epoch, after these reports."""
    return Progress(step=2 * len(reports), epoch=len(reports), reports=reports)


def joined(which: str, answers: list[bool]) -> bool:
    """AnyOf or AllOf of conditions that return these answers."""
    return bool(getattr(switch, which)(tuple(_saying(answer) for answer in answers))(Progress()))


def _saying(answer: bool) -> Any:
    return lambda progress: answer


def projected(options: dict[str, Any], gammas: Any, lambdas: Any) -> list[Any]:
    """Projected.distance, and what the condition returns."""
    progress = Progress(step=len(gammas), gammas=array("d", gammas), lambdas=array("d", lambdas))
    condition = switch.Projected(**options)
    found = condition.distance(progress)
    return [None if found is None else [float(number) for number in found], bool(condition(progress))]


def rate_after(lr_after: Any, momentum: float, nesterov: bool, lam: float | None, ratio: float | None) -> Any:
    """Hybrid._rate_after, with this Lambda and length ratio. "function" stands for a function of the progress."""
    chosen = (lambda progress: 0.25 * progress.step) if lr_after == "function" else lr_after
    own = Hybrid(_leaf(np.zeros(2)), Adam(), SGD(momentum=momentum, nesterov=nesterov), switch.AfterSteps(9), chosen)
    own.progress.step = 6
    own.progress.lambdas = [] if lam is None else [lam]
    own._length_ratio = ratio
    rate = own._rate_after()
    return None if rate is None else float(rate)


def hybrid(
    w: Any, gradients: Any, then: dict[str, Any], condition: list[Any], lr_after: Any, carry: str, lambdas: list[float]
) -> dict[str, Any]:
    """Train with Adam(lr=0.01), then SGD; an epoch has two steps. Lambda is given for each step."""
    own = Hybrid(
        parameters := _leaf(w), Adam(lr=0.01), SGD(**then), getattr(switch, condition[0])(condition[1]), lr_after, carry
    )
    if own.projection is not None:
        given = iter(lambdas)
        lambdas_so_far = own.projection.lambdas
        own.projection.measure = lambda p, g: None  # type: ignore[method-assign]
        own.projection.add = lambda: lambdas_so_far.append(next(given))  # type: ignore[method-assign]
    trajectory, phases = [], []
    for k, g in enumerate(gradients):
        phases.append(own.phase)
        parameters[0].grad = g.copy()
        own.step()
        trajectory.append(parameters[0].data.copy())
        if k % 2:
            own.report(k // 2 + 1, val_loss=1.0)
    event = own.switch_event
    return {
        "w": np.array(trajectory),
        "phases": phases,
        "event": None if event is None else [int(event.step), int(event.epoch), float(event.lr), str(event.condition)],
        "step": None if own.switch_step is None else int(own.switch_step),
        "released": own.first.flat is None,
    }


def swats(options: dict[str, Any], w: Any, gradients: Any, at: int | None, lam: float) -> dict[str, Any]:
    """SWATS, forced to switch after step `at` (None: never) with this Lambda."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    own = SWATS(parameters := _leaf(w), **options)
    own.switch = switch.AfterSteps(at or 10**6)
    own.projection.measure = lambda p, g: None  # type: ignore[method-assign]
    own.projection.add = lambda: own.projection.lambdas.append(lam)  # type: ignore[method-assign]
    trajectory, phases = [], []
    for g in gradients:
        phases.append(own.phase)
        parameters[0].grad = g.copy()
        own.step()
        trajectory.append(parameters[0].data.copy())
    event = own.switch_event
    return {
        "w": np.array(trajectory),
        "phases": phases,
        "event": None if event is None else [int(event.step), float(event.lr)],
        "v": own.v if event is not None else None,
    }


def give_parts(names: list[str]) -> None:
    """Let the grader compute Hybrid._rate_after."""
    part_calls.give({"Hybrid._rate_after": (Hybrid, "_rate_after", _rate_after)}, names)


def _rate_after(self: Any) -> Any:
    """Send what the rate depends on to the grader; returns the rate."""
    then, lam, ratio = self.then, self.progress.lam, self._read_length_ratio()
    return part_calls.ask("Hybrid._rate_after", self.lr_after, then.momentum, then.nesterov, lam, ratio)


def _leaf(w: Any) -> list[Tensor]:
    return [Tensor(w.copy(), requires_grad=True)]
