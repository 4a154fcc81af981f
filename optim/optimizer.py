"""The optimizer's frame: what every update rule has in common, so that a rule's own file is only its formula.

A step is always the same: collect the gradient g, clip it, look up the rate, let the rule write the step vector p,
and add it: w <- w + p. A rule such as Adam states which vectors it keeps (`vectors`) and how p follows from g (`rule`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from minidl.backend import Array, backend_of, kernel_for, same_bits, to_numpy, xp_of
from minidl.optim.explain import Look, Term
from minidl.optim.flat import FlatParameters
from minidl.optim.subnormal import EVERY, flush
from minidl.tensor import Tensor

Params: TypeAlias = "Iterable[Tensor] | None"
Schedule: TypeAlias = Callable[[int], float]  # step number within the phase, 0, 1, 2, ... -> rate
Rate: TypeAlias = "float | Schedule"
State: TypeAlias = "dict[str, Any]"  # {"vectors": {name: NumPy array}, "scalars": {name: anything JSON can hold}}


class SwitchEvent(NamedTuple):
    """The moment when training left its first phase."""

    step: int  # optimizer steps taken before the switch
    epoch: int  # epochs finished by then
    lr: float  # rate of the first step after it
    condition: str  # what asked for it, in the grammar of `--switch`


class Optimizer(ABC):
    """What the trainer sees of any optimizer, be it one rule or a hybrid of two."""

    switch_event: SwitchEvent | None = None  # stays None for an optimizer of one phase
    flat: FlatParameters | None = None  # the parameters; None until they are bound

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
        """The rate of the next step. Assigning a number makes the rate constant from then on."""

    @lr.setter
    @abstractmethod
    def lr(self, rate: float) -> None: ...

    @same_bits
    def step(self) -> None:
        """One update of all parameters from their gradients.

        Its three parts are apart so that the middle one can be recorded once and replayed (minidl/fast/gpu/graph.py).
        """
        self.advance()
        self.update()
        self.settle()

    @abstractmethod
    def advance(self) -> None:
        """Count the step, and fix its rate."""

    @abstractmethod
    def update(self) -> None:
        """All the arithmetic on vectors."""

    @abstractmethod
    def settle(self) -> None:
        """Look at what the step has shown, and decide whether to switch."""

    def kind(self) -> Any:
        """What decides which arithmetic a step does, numbers apart; None where it can't be recorded."""
        rule, flat = self.active, self._bound()
        text = kernel_for(flat.w, "rule_text")
        text = None if text is None else text(rule)
        in_place = flat.holds(flat.params)
        return (rule, text, rule.p is None, rule.max_norm is None) if text is not None and in_place else None

    @abstractmethod
    def state_dict(self) -> State:
        """All that is needed to go on bit for bit: {"vectors": {name: array}, "scalars": {name: JSON value}}.

        The parameters themselves are the model's: see Module.state_dict().
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the optimizer back. Raises ValueError, and changes nothing, if the state is of another optimizer."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the last batch."""
        self._bound().zero_grad(set_to_none)

    def report(self, epoch: int, **metrics: float) -> None:  # noqa: B027 (most optimizers have no use for it)
        """Hear how training goes: epochs finished, and metrics such as val_loss. Called after each epoch."""

    def verdict(self) -> str | None:
        """A sentence on whether and when the optimizer switched; None where there is nothing to switch."""
        return None

    def terms(self, look: Look) -> list[Term]:
        """What happened in a step, quantity by quantity. `look` was made before it and has ended (see explain.py)."""
        return look.terms()

    def _bound(self) -> FlatParameters:
        if self.flat is None:
            raise RuntimeError(
                f"this {type(self).__name__} has no parameters: write {type(self).__name__}(model.parameters(), ...), "
                "or hand it to Hybrid(model.parameters(), first=..., then=...), which binds it"
            )
        return self.flat


class Rule(Optimizer):
    """An update rule on flat vectors. A subclass gives `name`, `vectors` and `rule`.

    params        the model's parameters; None makes an unbound rule, for Hybrid to bind
    lr            rate, a number >= 0, or a schedule: a function of the step number (from 0) that returns one
    weight_decay  lambda >= 0: adds lambda w to the gradient (L2 regularization) unless the rule says otherwise
    max_norm      clip the gradient to this global norm before each step (Pascanu et al. 2013, Alg. 1); None: don't

    t             steps taken
    rate          the rate of the last one
    p             (n,) the step last added to w, without a decoupled weight decay's part; None unless somebody asked
                  for it with `keep_step`: to write it out and read it again takes a fifth of the time of an update

    Raises ValueError for a hyper-parameter out of range.
    """

    name: ClassVar[str]
    vectors: tuple[str, ...] = ()  # attributes that hold the rule's state, each (n,), zero at first
    p: Array | None = None
    _keeps_step = False

    def __init__(self, params: Params, lr: Rate, *, weight_decay: float = 0.0, max_norm: float | None = None) -> None:
        self._rate: Rate = lr if callable(lr) else at_least("lr", lr, 0)
        self.scale = 1.0  # factor on a schedule, set by Hybrid's lr_after
        self.weight_decay = at_least("weight_decay", weight_decay, 0)
        self.max_norm = None if max_norm is None else above("max_norm", max_norm, 0)
        self.t, self.rate = 0, 0.0
        if params is not None:
            self.bind(FlatParameters.of(params))

    def bind(self, flat: FlatParameters) -> None:
        """Work on these parameters from now on, with fresh state."""
        self.flat, self.t = flat, 0
        self.p = flat.zeros() if self._keeps_step else None
        for name in self.vectors:
            setattr(self, name, flat.zeros())

    def release(self) -> None:
        """Give up the parameters and the memory of the state vectors."""
        self.flat = None
        self.p = None
        for name in self.vectors:
            delattr(self, name)

    def keep_step(self) -> Array:
        """Keep every whole step from now on; returns the vector p (n,) that it is kept in."""
        self._keeps_step = True
        if self.p is None:
            self.p = self._bound().zeros()
        return self.p

    # ---- the step ---------------------------------------------------------------------------------------------

    def rule(self, *args: Any, **kwargs: Any) -> None:
        """rule(g, p, lr, **state): write the step into p and bring the state vectors up to date, in place.

        All arrays are the same stretch of the flat vectors: the formula must be element by element.
        self.t counts this step: 1 at the first.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rule(self, g, p, lr, **state)")

    def advance(self) -> None:
        self.rate = self.lr
        self.t += 1

    def update(self) -> None:
        flat, lr = self._bound(), self.rate
        flat.collect()
        if self.max_norm is not None:
            kernel = kernel_for(flat.g, "clip")
            if kernel is None or kernel(flat.g, self) is NotImplemented:
                clip(flat.g, self.max_norm)
        kernel = kernel_for(flat.w, "rule")  # on a GPU: see kernels.py
        if kernel is not None and kernel(self) is not NotImplemented:
            return
        steps = flat.scratch("p", flat.w[flat.blocks[0]]) if self.p is None else self.p
        for b in flat.blocks:
            w, g = flat.w[b], flat.g[b]
            p = steps[: len(w)] if self.p is None else steps[b]  # the same memory for each block stays in the cache
            state = {name: getattr(self, name)[b] for name in self.vectors}
            self.rule(self.decayed(w, g, lr), p, lr, **state)
            w += p
            if flat.xp is np and self.t % EVERY == 0:
                for v in state.values():
                    flush(v)

    def settle(self) -> None:
        pass

    def decayed(self, w: Array, g: Array, lr: float) -> Array:
        """The gradient that the rule sees: with weight decay, g + lambda w (`.grad` itself stays as it is)."""
        if self.weight_decay == 0:
            return g
        d = self._bound().scratch("decayed", g)
        xp_of(w).multiply(w, self.weight_decay, out=d)
        d += g
        return d

    # ---- the step in slow motion: see explain.py ----------------------------------------------------------------

    def step_terms(self, look: Look, g: str) -> list[Term]:
        """The terms of `rule`, up to p; `g` is the symbol of the gradient that it sees.

        A rule that does not describe itself is shown by its state vectors and its step.
        """
        state = [look.given(name + when) for name in look.before if name != "w" for when in ("_old", "")]
        return [*state, look.given("p", "the step")]

    def decay_rate(self, look: Look) -> tuple[str, float] | None:
        """Symbol and value of the rate at which weight decay shrinks w itself; None where it goes into the gradient."""
        return None

    # ---- the rate ---------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return self.name

    @property
    def active(self) -> Rule:
        return self

    @property
    def lr(self) -> float:
        if not callable(self._rate):
            return self._rate
        rate = float(self._rate(self.t)) * self.scale
        if not 0 <= rate < math.inf:
            raise ValueError(f"the schedule gave the rate {rate} at step {self.t}: it must be a finite number >= 0")
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        self._rate, self.scale = at_least("lr", rate, 0), 1.0

    def set_peak(self, rate: float) -> None:
        """Go on at this rate: as a constant, or as the factor of the schedule if there is one."""
        if callable(self._rate):
            self.scale = rate
        else:
            self.lr = rate

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> State:
        self._bound()
        rate = None if callable(self._rate) else self._rate
        return {
            "vectors": {name: to_numpy(getattr(self, name)).copy() for name in self.vectors},
            "scalars": {"rule": self.name, "t": self.t, "rate": rate, "scale": self.scale},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        flat, vectors, scalars = self._bound(), state["vectors"], state["scalars"]
        if scalars["rule"] != self.name:
            raise ValueError(f"this state is of the rule '{scalars['rule']}', this optimizer is '{self.name}'")
        if (scalars["rate"] is None) != callable(self._rate) and scalars["rate"] is None:
            raise ValueError("this state was saved under a schedule: build the optimizer with the same lr=schedule")
        check_vectors(vectors, self.vectors, flat.w)
        for name in self.vectors:
            own = getattr(self, name)
            own[...] = backend_of(own).from_host(vectors[name])
        self.t, self.scale = scalars["t"], scalars["scale"]
        if scalars["rate"] is not None:
            self._rate = scalars["rate"]


def clip(g: Array, max_norm: float) -> None:
    """g <- g min(1, max_norm / (|g| + 1e-6)), in place, as torch.nn.utils.clip_grad_norm_ does.

    The norm stays on the device as a 0-d array: nothing waits for the GPU.
    """
    norm = g.dot(g) ** 0.5
    g *= (max_norm / (norm + 1e-6)).clip(None, 1.0)


# ---- checks: errors that name the number ----


def at_least(name: str, value: float, low: float) -> float:
    """`value` as a float, if it is a finite number >= low."""
    if not low <= value < math.inf:
        raise ValueError(f"{name} must be a finite number >= {low}, got {value}")
    return float(value)


def above(name: str, value: float, low: float) -> float:
    """`value` as a float, if it is a finite number > low."""
    if not low < value < math.inf:
        raise ValueError(f"{name} must be a finite number > {low}, got {value}")
    return float(value)


def fraction(name: str, value: float) -> float:
    """`value` as a float, if it is in [0, 1): the factor of an exponential average."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
    return float(value)


def check_vectors(vectors: Mapping[str, Any], names: Iterable[str], w: Array) -> None:
    """Raise ValueError unless there is exactly one vector like w for each name."""
    if set(vectors) != set(names):
        raise ValueError(f"the state has the vectors {sorted(vectors)}, this optimizer needs {sorted(names)}")
    for name, vector in vectors.items():
        if vector.shape != w.shape or vector.dtype != w.dtype:
            raise ValueError(
                f"the state's vector '{name}' is {vector.dtype} of shape {vector.shape}, "
                f"these parameters need {w.dtype} of shape {w.shape}"
            )


def within(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The vectors whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): vector for name, vector in vectors.items() if name.startswith(prefix)}


def without(vectors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The other vectors."""
    return {name: vector for name, vector in vectors.items() if not name.startswith(prefix)}
