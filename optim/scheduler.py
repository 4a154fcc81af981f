"""LinearLR, ExponentialLR and OneCycleLR as in PyTorch: objects that set an optimizer's learning rate at each step().

    scheduler = ExponentialLR(optimizer, gamma=0.9)
    for epoch in range(10):
        ...                     # train
        scheduler.step()

They are for loops of your own, and programs ported from PyTorch. A Trainer needs none of them: there the learning rate
itself is a schedule, a function of the step, as in Adam(params, lr=schedule.onecycle(0.01, total_steps=1000)).

As in PyTorch, LinearLR and ExponentialLR multiply the current rate: if there are two on one optimizer, both multiply
it, and if you set it yourself, optimizer.lr = 0.01, they continue from there. OneCycleLR overwrites it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from minidl.optim.checks import at_least, fraction, whole_number
from minidl.optim.optimizer import Optimizer, Schedule
from minidl.optim.rule import Rule
from minidl.optim.schedule import along, exponential, linear, onecycle


class Scheduler:
    """What the three share: steps counted from 0, and the learning rate of each.

    last_epoch  steps of the scheduler so far; PyTorch's name, even where a step is a batch
    """

    keeps_base: ClassVar[bool] = True  # whether it multiplies the optimizer's own rate

    def __init__(self, optimizer: Optimizer, make: Callable[[float], Schedule], base: float) -> None:
        self.optimizer, self.make = optimizer, make
        self._go_from(base)
        self.last_epoch = 0
        self._set()

    def step(self) -> None:
        """Advance by one step: call it after each epoch, or for OneCycleLR after each batch."""
        was, now = self.rate(self.last_epoch), self.optimizer.lr
        if self.keeps_base and now != was and was > 0:  # set by the user, or another scheduler
            self._go_from(self.base * now / was)
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The current learning rate, in a list as in PyTorch."""
        return [self.optimizer.lr]

    def state_dict(self) -> dict[str, Any]:
        """The steps so far, the current learning rate, and the one that it multiplies."""
        kept = {"base_lrs": [self.base], "_last_lr": self.get_last_lr()} if self.keeps_base else {}
        return {"last_epoch": self.last_epoch} | kept

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict()` returned."""
        self.last_epoch = whole_number("last_epoch", state["last_epoch"], 0)
        if self.keeps_base and "base_lrs" in state:
            self._go_from(at_least("base_lrs[0]", state["base_lrs"][0], 0))
        self._set()
        if self.keeps_base and "_last_lr" in state:
            self.optimizer.lr = state["_last_lr"][0]

    def _go_from(self, base: float) -> None:
        self.base, self.rate = base, self.make(base)

    def _set(self) -> None:
        self.optimizer.lr = self.rate(self.last_epoch)


class LinearLR(Scheduler):
    """Linear from start_factor times the optimizer's learning rate to end_factor times it.

    total_iters  steps until it gets there; constant from then on

    Raises ValueError for an argument out of range.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        make = partial(linear, total_iters=total_iters, start_factor=start_factor, end_factor=end_factor)
        super().__init__(optimizer, make, _base(optimizer))


class ExponentialLR(Scheduler):
    """The optimizer's learning rate times gamma^k after k steps; gamma >= 0."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        super().__init__(optimizer, partial(exponential, gamma=gamma, steps_per_epoch=1), _base(optimizer))


class OneCycleLR(Scheduler):
    """One cycle of the learning rate (Smith & Topin 2018), a step after each batch.

    optimizer         whose learning rate is set
    max_lr            the highest learning rate
    total_steps       the length of the run; or give epochs and steps_per_epoch
    pct_start         the share of it until max_lr is reached
    anneal_strategy   "cos", half a cosine each way, or "linear"
    cycle_momentum    cycle the momentum of SGD or RMSprop, or Adam's first beta, inversely: from
                      max_momentum down to base_momentum where the learning rate is highest, and back
    div_factor        it starts at max_lr / div_factor
    final_div_factor  and ends at that / final_div_factor
    three_phase       down as slowly as up, and only then to the final value (see schedule.onecycle)

    Raises ValueError where the length or the momentum is missing, or an argument is out of range.
    """

    keeps_base = False

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        _base(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR needs total_steps, or both epochs and steps_per_epoch")
            total_steps = whole_number("epochs", epochs, 1) * whole_number("steps_per_epoch", steps_per_epoch, 1)
        if cycle_momentum:
            fraction("base_momentum", base_momentum)
            fraction("max_momentum", max_momentum)
        up, last = pct_start * total_steps - 1, float(total_steps - 1)
        middle = [(2 * up, max_momentum)] if three_phase else []
        self.corners = [(0.0, max_momentum), (up, base_momentum), *middle, (last, max_momentum)]
        self.anneal, self.cycles = anneal_strategy, cycle_momentum
        rule = optimizer.active
        if cycle_momentum and not hasattr(rule, "betas") and not getattr(rule, "momentum", 0):
            raise ValueError(
                f"{type(rule).__name__} has no momentum to cycle: give it one, SGD(..., momentum=0.9), or set "
                "cycle_momentum=False"
            )
        make = partial(
            onecycle, total_steps=total_steps, pct_start=pct_start, anneal_strategy=anneal_strategy,
            div_factor=div_factor, final_div_factor=final_div_factor, three_phase=three_phase,
        )  # fmt: skip
        super().__init__(optimizer, make, max_lr)

    def _set(self) -> None:
        super()._set()
        rule: Any = self.optimizer.active
        if self.cycles and hasattr(rule, "betas"):
            rule.betas = (self._momentum(), rule.betas[1])
        elif self.cycles:
            rule.momentum = self._momentum()

    def _momentum(self) -> float:
        return along(self.corners, self.anneal, self.last_epoch)


def _base(optimizer: Optimizer) -> float:
    """The optimizer's learning rate, to be multiplied. Raises TypeError for an optimizer of two phases."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"a scheduler takes the optimizer whose rate it sets, not a {type(optimizer).__name__}. For a "
                        "schedule to give as lr: schedule.linear(1e-3, 500) of minidl.optim")  # fmt: skip
    if not isinstance(optimizer, Rule) or callable(optimizer.lr_or_schedule):
        what = "has a schedule already" if isinstance(optimizer, Rule) else "has phases with their own learning rates"
        raise TypeError(
            f"this {type(optimizer).__name__} {what}: give each rule its schedule as lr, "
            "as in first=Adam(lr=schedule.linear(1e-3, 500))"
        )
    return optimizer.lr
