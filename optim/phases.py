"""What goes together in a Hybrid: checks of its two rules, and of what is handed over from the first to the second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from minidl.optim.adam import Adam, AdamW
from minidl.optim.checks import at_least
from minidl.optim.optimizer import Optimizer
from minidl.optim.progress import Progress
from minidl.optim.rule import Rule
from minidl.optim.sgd import SGD

MEASURED = ("projected", "matched")  # what lr_after may be: a rate measured in the first phase
LrAfter: TypeAlias = float | str | Callable[[Progress], float] | None


def check_rules(first: Rule, then: Rule) -> None:
    """Two unbound rules, which no other Hybrid has. Raises TypeError or ValueError."""
    for rule in (first, then):
        if not isinstance(rule, Rule):
            what = f"the class {rule.__name__} itself" if isinstance(rule, type) else f"a {type(rule).__name__}"
            raise TypeError(f"first and then must be rules, as in first=Adam(lr=1e-3), got {what}")
        rule.check()
        if type(rule).step is not Optimizer.step:
            raise TypeError(
                f"{type(rule).__name__} has a step() of its own, which a Hybrid does not call: it calls advance(), "
                "update() and settle(), so put it into one of these"
            )
    if first is then or first._taken or then._taken:
        raise ValueError("each phase of each Hybrid needs a rule of its own: create it anew, then=SGD(lr=0.1)")
    if first.flat is not None or then.flat is not None:
        raise ValueError("Hybrid binds its rules itself: pass them without parameters, as in first=Adam(lr=1e-3)")


def checked_rate(lr_after: LrAfter, then: Rule) -> LrAfter:
    """The same; a number as a float. Raises ValueError."""
    if lr_after is None or callable(lr_after):
        return lr_after
    if not isinstance(lr_after, str):
        return at_least("lr_after", lr_after, 0)
    if lr_after not in MEASURED:
        raise ValueError(f"lr_after must be 'projected', 'matched', a number or a function, got {lr_after!r}")
    if not isinstance(then, SGD):
        raise ValueError(f"lr_after={lr_after!r} is a rate for SGD, but then is {type(then).__name__}")
    return lr_after


def check_carry(carry: str, first: Rule, then: Rule, lr_after: LrAfter) -> None:
    """The choice "momentum" needs Adam's average and SGD's momentum. Raises ValueError."""
    if carry not in ("nothing", "momentum"):
        raise ValueError(f"carry must be 'nothing' or 'momentum', got {carry!r}")
    if carry == "nothing":
        return
    if not isinstance(first, Adam) or not isinstance(then, SGD) or then.momentum == 0:
        raise ValueError("carry='momentum' needs first=Adam and then=SGD with momentum > 0")
    if lr_after == "matched":
        raise ValueError("lr_after='matched' sizes a first step without momentum: use carry='nothing'")


def check_decay(decay_after: str | None, first: Rule, then: Rule) -> None:
    """The choice "matched" needs AdamW, and an SGD whose decay can be scaled. Raises ValueError."""
    if decay_after not in (None, "matched"):
        raise ValueError(f"decay_after must be 'matched' or None, got {decay_after!r}")
    if decay_after and not (isinstance(first, AdamW) and isinstance(then, SGD) and then.weight_decay > 0):
        raise ValueError("decay_after='matched' needs first=AdamW and then=SGD, both with a weight decay")
