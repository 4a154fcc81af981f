"""The interface of an optimizer, whether it is one rule (rule.py) or two in sequence (hybrid.py)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from minidl.backend import kernel_for, same_bits
from minidl.optim.custom import is_own_rule
from minidl.optim.explain import Look, Term
from minidl.optim.flat import FlatParameters
from minidl.optim.groups import described
from minidl.refuse import Named

if TYPE_CHECKING:
    from minidl.optim.rule import Rule

Schedule: TypeAlias = Callable[[int], float]  # step number within the phase, 0, 1, 2, ... -> learning rate
Rate: TypeAlias = float | Schedule
State: TypeAlias = dict[str, Any]  # {"vectors": {name: NumPy array}, "scalars": {name: anything JSON can hold}}


def rate_to_show(optimizer: Optimizer) -> float:
    """The learning rate of the next step, for a record. After the last step of a table of rates there is none: then the
    rate of that last step, or a run would fail when it has been trained."""
    try:
        return float(optimizer.lr)
    except Exception:
        rule = optimizer.active
        if not rule.t or not callable(rule.lr_or_schedule):
            raise
        return float(rule.lr_or_schedule(rule.t - 1)) * rule.schedule_scale


def has_own_step(kind: type[Optimizer]) -> bool:
    """Whether a class of the user's own takes its step otherwise: its Python would run only while it is captured."""
    return is_own_rule(kind.step) or is_own_rule(kind.update)


class SwitchEvent(NamedTuple):
    """The moment when training left its first phase.

    step       optimizer steps taken before the switch
    epoch      epochs finished by then
    lr         learning rate of the first step after it
    condition  what triggered it, in the grammar of `--switch`
    """

    step: int
    epoch: int
    lr: float
    condition: str


class Optimizer(Named, ABC):
    """What the trainer uses of any optimizer, one rule or a hybrid of two."""

    switch_event: SwitchEvent | None = None  # stays None for an optimizer of one phase
    flat: FlatParameters = None  # type: ignore[assignment] # the parameters; None until they are bound

    @property
    @abstractmethod
    def phase(self) -> str:
        """The rule in use now: "sgd", "adam", ..."""

    @property
    @abstractmethod
    def active(self) -> Rule:
        """The rule that takes the next step."""

    @property
    @abstractmethod
    def lr(self) -> float:
        """The learning rate of the next step. Assigning a number makes it constant from then on."""

    @lr.setter
    @abstractmethod
    def lr(self, rate: float) -> None: ...

    @same_bits
    def step(self) -> None:
        """One update of all parameters from their gradients. A captured step replays the middle part (fast/gpu)."""
        self.advance()
        self.update()
        self.settle()

    @abstractmethod
    def advance(self) -> None:
        """Count the step, and set its learning rate."""

    @abstractmethod
    def update(self) -> None:
        """All the arithmetic on vectors."""

    @abstractmethod
    def settle(self) -> None:
        """Read what the step has shown, and decide whether to switch."""

    def kind(self) -> Any:
        """What determines the arithmetic of a step, apart from its values; None where it can't be captured."""
        rule, flat = self.active, self._bound()
        find = kernel_for(flat.w, "formula") if rule.t else None  # the first step is not captured
        formula = None if find is None else find(rule)
        own = has_own_step(type(self)) or has_own_step(type(rule))
        if formula is None or own or not flat.holds(flat.params) or rule.groups or rule.own_t:
            return None  # a step in parts is not captured either
        if not flat.all_moving():
            return None
        return rule, formula, rule.p is None, rule.max_norm

    @abstractmethod
    def state_dict(self) -> State:
        """All that is needed to resume bit for bit: {"vectors": {name: array}, "scalars": {name: JSON value}}.

        The parameters themselves are the model's: see Module.state_dict().
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the optimizer back. Raises ValueError, and changes nothing, if the state is of another optimizer."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients: `.grad` becomes None, or zeros where set_to_none is False."""
        self._bound().zero_grad(set_to_none)

    def report(self, epoch: int, **metrics: float) -> None:
        """Record the progress: epochs finished, 1 after the first, and metrics such as val_loss. Called after each."""

    def verdict(self) -> str | None:
        """A sentence on whether and when the optimizer switched; None where there is nothing to switch."""
        return None

    def terms(self, look: Look) -> list[Term]:
        """What happened in a step, quantity by quantity. `look` was made before it and has ended (see explain.py)."""
        return look.terms()

    def __repr__(self) -> str:
        """The class with its options as they are now, such as Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08)."""
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        names += [name for name in ("weight_decay", "max_norm") if name not in names and getattr(self, name, None)]
        options = [f"{name}={getattr(self, name)}" for name in names]
        rule = self.active
        if rule is self and rule.groups:  # not for a hybrid: its rules show theirs
            options.append(f"groups={described(rule)}")
        return f"{type(self).__name__}({', '.join(options)})"

    def _called_lr(self, *rate: Any) -> Any:
        """Keras's name for `lr`: it raises, because setting it would silently do nothing."""
        raise AttributeError("it is called lr here: optimizer.lr = 0.01")

    learning_rate = property(_called_lr, _called_lr)

    def _bound(self) -> FlatParameters:
        if self.flat is None:
            raise RuntimeError("it has no parameters: write SGD(model.parameters()) or Hybrid(model.parameters(), ...)")
        return self.flat
