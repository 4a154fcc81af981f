"""How close a switch condition is to being met: a number, the level that it waits for, and a sentence.

Conditions in switch.py only say yes or no, which is all that training needs. An observer needs more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from minidl.optim.custom import sum_of
from minidl.optim.progress import Progress
from minidl.optim.switch import AfterEpochs, AfterSteps, AllOf, AnyOf, Condition, Crossing, Gap, Plateau, Projected


@dataclass(frozen=True)
class Standing:
    """One condition at one moment.

    condition  in the grammar of `--switch`
    metric     what the value is: "step", "epochs without improvement of val_loss", "|Lambda - gamma|", ...
    value      now, and the level to reach; None where there is no such number (yet)
    words      the state in a sentence
    met        whether the condition is met
    """

    condition: str
    metric: str
    value: float | None
    level: float | None
    words: str
    met: bool


def singles(condition: Condition) -> Iterator[Condition]:
    """The single conditions in a joined one."""
    if isinstance(condition, (AnyOf, AllOf)):
        for part in condition.conditions:
            yield from singles(part)
    else:
        yield condition


def sum_of_conditions(condition: Condition) -> int:
    """A checksum of what conditions keep in self; none of it changes, unless one is the user's own."""
    tests = [getattr(one, "test", one) for one in singles(condition)]
    return sum_of([getattr(getattr(test, "__self__", test), "__dict__", {}) for test in tests])


def standings(condition: Condition, progress: Progress) -> list[Standing]:
    """The state of each single condition."""
    found = []
    for one in singles(condition):
        metric, value, level, words = _measure(one, progress)
        found.append(Standing(str(one), metric, value, level, words, one(progress)))
    return found


def state(condition: Condition, progress: Progress) -> str:
    """The state of a condition in words, joined by "or" and "and" as it is."""
    if isinstance(condition, AnyOf):
        return "; or ".join(state(part, progress) for part in condition.conditions)
    if isinstance(condition, AllOf):
        parts = [(state(part, progress), isinstance(part, AnyOf)) for part in condition.conditions]
        return "; and ".join(f"({words})" if any_of else words for words, any_of in parts)
    return _measure(condition, progress)[-1]


def _measure(condition: Condition, progress: Progress) -> tuple[str, float | None, float | None, str]:
    match condition:
        case AfterSteps(n=n):
            return "step", progress.step, n, f"step {progress.step:,} of {n:,}"
        case AfterEpochs(n=n):
            return "epochs finished", progress.epoch, n, f"{progress.epoch} of {n} epochs finished"
        case Plateau(metric=metric, patience=patience):
            best, waited = condition.standing(progress)
            what = f"epochs without improvement of {metric}"
            if not progress.reports:
                return what, None, patience, f"{metric}: no epoch finished yet"
            now = progress.history(metric)[-1]
            words = f"{metric} {now:.4g}, best {best:.4g}: {waited} of {patience} epochs without improvement"
            return what, waited, patience, words
        case Crossing(metric=metric, level=level):
            if not progress.reports:
                return metric, None, level, f"{metric}: no epoch finished yet"
            value = progress.history(metric)[-1]
            return metric, value, level, f"{metric} {value:.4g}, waits for {level:g}"
        case Gap(level=level):
            what = "train_accuracy - val_accuracy"
            if not progress.reports:
                return what, None, level, f"{what}: no epoch finished yet"
            value = progress.history("train_accuracy")[-1] - progress.history("val_accuracy")[-1]
            return what, value, level, f"{what} = {value:.4f}, waits for {level:g}"
        case Projected():
            return _projected(condition, progress)
        case _:
            return "", None, None, f"{condition} says {'yes' if condition(progress) else 'no'}"


def _projected(condition: Projected, progress: Progress) -> tuple[str, float | None, float | None, str]:
    what = "|Lambda - gamma|"
    found = condition.distance(progress)
    if found is None or progress.lam is None:
        return what, None, None, f"gamma and Lambda are compared from step {2 * condition.window} on"
    distance, tolerance = found
    if math.isnan(distance):
        return what, None, tolerance, "this step has no gamma: p and g are at right angles"
    gamma = "gamma" if condition.window == 1 else f"the mean of {condition.window} gammas"
    words = f"{gamma} is {distance:.3g} from Lambda = {progress.lam:.4g}, waits for less than {tolerance:.3g}"
    return what, distance, tolerance, words + ("" if progress.lam > 0 else "; and Lambda <= 0 is not a learning rate")
