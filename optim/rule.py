"""The base class of update rules: what all have in common, so that a rule's own file is only its formula.

A step is always the same: collect the gradient g, clip it, look up the learning rate, let the rule write the step
vector p, and add it: w <- w + p. A rule such as Adam states which vectors it keeps (`vectors`) and how p follows from g
(`rule`).

With a formula (formula.py) the replay page shows how each value is computed, and a GPU takes the step in one kernel.
A `rule`, in place on arrays, is faster on the CPU and may be any code; without a formula it always runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypedDict

import numpy as np

from minidl.backend import Array, backend_of, kernel_for, to_numpy, xp_of
from minidl.fast.formula import value_of
from minidl.fast.gpu.slip import CantRepeat, is_recording_step
from minidl.optim.checks import above, at_least, check_vectors, number, parts_of, refuse
from minidl.optim.clip import clip
from minidl.optim.custom import (
    Built,
    built_of,
    check_generators,
    check_rule,
    is_own_rule,
    numbers_of,
    options_of,
    put_numbers,
    put_options,
    tell_what_is_lost,
    unready,
)
from minidl.optim.first_step import check_formula, first_step_of_own
from minidl.optim.flat import FlatParameters
from minidl.optim.formula import Formula, Line, has_formula, lines_of, remembers, rule_by_formula
from minidl.optim.groups import Group, ParamsOrGroups, count_steps, parts, read_groups
from minidl.optim.optimizer import Optimizer, Rate, State
from minidl.optim.subnormal import EVERY, flush, means_nothing

Params: TypeAlias = ParamsOrGroups | None


class Clipping(TypedDict, total=False):
    """What every rule takes by keyword besides its own arguments; see Rule."""

    max_norm: float | None


class Common(Clipping, total=False):
    """The same and weight decay, for rules that take it by keyword only."""

    weight_decay: float


class Rule(Optimizer):
    """An update rule on flat vectors. A subclass gives `name`, `vectors`, and `rule` or `formula` or both.

    Every rule takes these besides its own, and raises ValueError for one that is out of range:

    params        the model's parameters, or groups with their own learning rate and weight decay (groups.py); None
                  makes an unbound rule, for Hybrid to bind. Parameters that are frozen or have no gradient do not move
    lr            learning rate >= 0, or a schedule: a function of the step number (from 0) that returns one
    weight_decay  lambda >= 0: adds lambda w to the gradient (L2 regularization) unless the rule says otherwise
    max_norm      clip the gradient to this global norm before each step (Pascanu et al. 2013, Alg. 1); None: no limit

    t, rate       steps taken, and the last learning rate. Inside `rule`, t counts the steps of the parameters at hand
    p             (n,) the step last added to w, without decoupled weight decay; None unless `keep_step` asked for it
    """

    name: ClassVar[str]
    vectors: tuple[str, ...] = ()  # attributes that hold the rule's state, each (n,), zero at first
    p: Array | None = None
    _keeps_step = _taken = False  # taken by a Hybrid

    def __init_subclass__(cls, **more: Any) -> None:
        """A custom formula takes precedence over the `rule` that its class inherits."""
        super().__init_subclass__(**more)
        if "formula" in vars(cls) and "rule" not in vars(cls) and is_own_rule(cls):
            cls.rule = rule_by_formula()  # type: ignore[method-assign]
        cls._as_defined = vars(cls).get("rule"), vars(cls).get("decayed")  # type: ignore[attr-defined]

    def __init__(
        self,
        params: Params = None,
        lr: Rate = 1e-3,
        *,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        **unknown: Any,
    ) -> None:
        refuse(type(self).__name__, unknown)
        check_rule(type(self), Rule)
        self.lr_or_schedule: Rate = lr if callable(lr) else at_least("lr", lr, 0)
        self.schedule_scale = 1.0  # factor on a schedule, set by lr_after in Hybrid
        self.weight_decay = at_least("weight_decay", weight_decay, 0)
        self.max_norm = None if max_norm is None else above("max_norm", max_norm, 0)
        self.t, self.rate = 0, 0.0
        self.lr_factor = 1.0  # factor on every rate, from outside: a PyTorch scheduler's
        self.decay_scale = 1.0  # factor on every weight decay, set by Hybrid at the switch
        self._built = Built({}, {})  # what a custom rule keeps in self before the first step
        self._given = options_of(self)
        self.groups: Sequence[Group] = ()  # none: one learning rate and one weight decay for all
        self.own_t: list[int] | None = None  # the steps of each parameter, once some have rested
        self.whole: Rule | None = None  # the rule that this is a part of, in a step that is taken in parts
        if params is not None:
            params, self.groups = read_groups(params, lr)
            self.bind(FlatParameters.of(params))

    def bind(self, flat: FlatParameters) -> None:
        """Work on these parameters from now on, with fresh state."""
        self.check()
        self.lines()  # raises where the formula has no line for a vector
        self.flat, self.t, self.rate, self.own_t = flat, 0, 0.0, None
        self.p = flat.zeros() if self._keeps_step else None
        for name in self.vectors:
            setattr(self, name, flat.zeros())

    def check(self) -> None:
        """Raise TypeError where a custom rule has no name, or its vectors are not those that it takes."""
        if not isinstance(self.vectors, str):
            self.vectors = tuple(self.vectors)
        check_rule(type(self), Rule, self.vectors)

    def release(self) -> None:
        """Release the parameters and the memory of the state vectors, and reset what a custom rule has counted."""
        if self.t:
            put_numbers(self, self._built.numbers)
        self.flat = None  # type: ignore[assignment]
        self.p = None
        for name in self.vectors:
            delattr(self, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """For copies and pickles: the vectors are laid out as new ones would be (see flat.py)."""
        vars(self).update(state)
        if self.flat is not None:
            kept = () if self.p is None else ("p",)
            for name in (*self.vectors, *kept):
                values = getattr(self, name)
                setattr(self, name, self.flat.zeros())
                getattr(self, name)[...] = values

    def keep_step(self) -> Array:
        """Keep every whole step from now on; returns the vector p (n,) that it is kept in.

        Writing it out and reading it again takes a fifth of an update's time.
        """
        self._keeps_step = True
        if self.p is None:
            self.p = self._bound().zeros()
        return self.p

    # ---- the step ---------------------------------------------------------------------------------------------

    @property
    def formula(self) -> Formula | None:
        """The formula of the next step: for most rules an attribute of their class."""
        return None

    def rule(self, *args: Any, **kwargs: Any) -> None:
        """rule(g, p, lr, **state): write the step into p and update the state vectors, in place.

        All arrays are the same slice of the flat vectors: the formula must be elementwise. self.t is the number of this
        step, from 1.
        """
        self._by_formula(*args, **kwargs)

    def _by_formula(self, g: Array, p: Array, lr: float, **state: Array) -> None:
        if self.formula is None:
            raise NotImplementedError(f"{type(self).__name__} needs a formula, or rule(self, g, p, lr, **state)")
        values = {**self.given(lr), "g": g, **{f"{name}_old": vector for name, vector in state.items()}}
        for line in self.formula.lines:
            values[line.symbol] = value_of(line.expression, values)
        for name in self.vectors:
            state[name][...] = values[name]
        p[...] = values["p"]

    def advance(self) -> None:
        self._built = self._built if self.t else built_of(self)
        self.rate, self.t = self.lr * self.lr_factor, self.t + 1

    def update(self) -> None:
        flat = self._bound()
        resting = flat.collect()
        if self.max_norm is not None:
            clip(flat.g, self.max_norm)
        for part in self._parts(resting) if resting or self.own_t or self.groups else (self,):
            part._move()

    def _parts(self, resting: list[int]) -> list[Rule]:
        """This rule for each slice of the vectors that is updated alike."""
        if is_recording_step():
            raise CantRepeat("parameters that rest, or are in groups, are updated part by part")
        if self.p is not None:
            self.p[...] = 0
        count_steps(self, resting)
        return parts(self, resting)

    def _move(self) -> None:
        if not self.t or not remembers(self.formula).issubset(self.vectors):
            raise unready(self)
        flat, lr = self._bound(), self.rate
        kernel = kernel_for(flat.w, "rule")  # in one pass: see minidl/fast/loops/rules.py and gpu/rules.py
        if kernel is not None and kernel(self) is not NotImplemented:
            return
        steps = flat.room if self.p is None else self.p
        rule = first_step_of_own(self) if self.t == 1 and is_own_rule(type(self)) else self.rule
        for b in flat.blocks:
            w, g = flat.w[b], flat.g[b]
            p = steps[: len(w)] if self.p is None else steps[b]  # the same memory for each block stays in the cache
            state = {name: getattr(self, name)[b] for name in self.vectors}
            if getattr(self.rule, "by_formula", False):  # which may read w before decoupled decay
                state["w"] = w.copy()
            rule(self.decayed(w, g, lr) if self.weight_decay else g, p, lr, **state)
            w += p
            if flat.xp is np and self.t % EVERY == 0 and self.flushes:
                for v in state.values():
                    flush(v)

    @property
    def steps(self) -> int:
        """Steps that the optimizer has taken, including this one."""
        return (self.whole or self).t

    @property
    def flushes(self) -> bool:
        """Whether 0 can take the place of subnormal numbers in this rule's state: see subnormal.py."""
        return means_nothing(getattr(self, "eps", 1.0), self._bound().w.dtype)

    def settle(self) -> None:
        pass

    def decayed(self, w: Array, g: Array, lr: float) -> Array:
        """The gradient that the rule sees: with weight decay, g + lambda w (`.grad` itself stays as it is).

        Where the formula has decoupled decay, w shrinks here, and the rule sees g.
        """
        if self.weight_decay == 0:
            return g
        if self.formula is not None and self.formula.decay:
            w *= 1 - self.formula.decay_rate(self.given(lr)) * self.weight_decay
            return g
        d = self._bound().scratch(g)
        xp_of(w).multiply(w, self.weight_decay, out=d)
        d += g
        return d

    # ---- the formula: see formula.py ----------------------------------------------------------------------------

    def lines(self) -> tuple[Line, ...] | None:
        """The formula of the next step up to the new w, weight decay included; None where there is none.

        None also for a class that overrides the `rule` or the decay of one that has a formula.
        Raises ValueError where the formula has no line for one of the rule's vectors.
        """
        replaced = "rule" in vars(self) or "decayed" in vars(self)
        formula = self.formula if has_formula(type(self)) and not replaced else None
        both = formula is not None and not getattr(self.rule, "by_formula", False)
        if both and is_own_rule(type(self)) and self.steps == 1:
            check_formula(self)
        return None if formula is None else lines_of(formula, self.weight_decay > 0, self.name, self.vectors)

    def given(self, lr: float) -> dict[str, Any]:
        """The values that the formula is computed from, at this learning rate."""
        own = {} if self.formula is None else self.formula.values(self)
        return {"lr": lr, "t": self.t, "wd": self.weight_decay, **own}

    # ---- the rate ---------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return self.name

    @property
    def active(self) -> Rule:
        return self

    @property
    def lr(self) -> float:
        if not callable(self.lr_or_schedule):
            return self.lr_or_schedule
        rate = number("the learning rate that the schedule returned", self.lr_or_schedule(self.t)) * self.schedule_scale
        if not 0 <= rate < math.inf:
            raise ValueError(f"the schedule returned {rate} at step {self.t}: a learning rate is a finite number >= 0")
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        self.lr_or_schedule, self.schedule_scale = at_least("lr", rate, 0), 1.0

    def set_peak(self, rate: float) -> None:
        """Continue at this learning rate: as a constant, or as the factor of the schedule if there is one."""
        if callable(self.lr_or_schedule):
            self.schedule_scale = rate
        else:
            self.lr = rate

    def scale_decay(self, factor: float) -> None:
        """Multiply all weight decays by this factor from now on."""
        self.weight_decay *= factor
        self.decay_scale *= factor

    def rates(self) -> dict[str, Any]:
        """The current values of what a switch changes: vars(rule).update(rates) restores them."""
        return {name: vars(self)[name] for name in ("lr_or_schedule", "schedule_scale", "weight_decay", "decay_scale")}

    # ---- saving and loading -----------------------------------------------------------------------------------

    def state_dict(self) -> State:
        self._bound()
        if type(self).state_dict is Rule.state_dict:
            tell_what_is_lost(self, self._built.sums)
        rate = None if callable(self.lr_or_schedule) else self.lr_or_schedule
        return {
            "vectors": {name: to_numpy(getattr(self, name)).copy() for name in self.vectors},
            "scalars": {"rule": self.name, "t": self.t, "rate": rate, "scale": self.schedule_scale} | self._seldom(),
        }

    def _seldom(self) -> dict[str, Any]:
        """What most runs never have: parameters that have rested, a decay changed by a switch, options set by hand, and
        values that a custom rule has changed in self."""
        numbers = numbers_of(self) if self.t else {}
        own = {name: value for name, value in numbers.items() if self._built.numbers.get(name, vars) != value}
        options = {name: value for name, value in options_of(self).items() if value != self._given.get(name, value)}
        seldom = {"own_t": self.own_t and list(self.own_t), "decay_scale": self.decay_scale, "own": own or None}
        seldom["options"] = options or None
        return {name: value for name, value in seldom.items() if value not in (None, 1.0)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vectors, scalars = parts_of(state)
        self._check_state(vectors, scalars, self.vectors, self.lr_or_schedule)
        for name in self.vectors:
            own = getattr(self, name)
            own[...] = backend_of(own).from_host(vectors[name])
        given = self._given if self.t else self._given | options_of(self)  # a new rule's, as its program has set them
        self._built = self._built if self.t else built_of(self)
        put_numbers(self, self._built.numbers | scalars.get("own", {}))
        own_t = scalars.get("own_t")
        self.t, self.schedule_scale, self.own_t = scalars["t"], scalars["scale"], own_t and list(own_t)
        self.rate = 0.0  # until the next step
        put_options(self, given | scalars.get("options", {}), scalars.get("decay_scale", 1.0))
        if scalars["rate"] is not None:
            self.lr_or_schedule = scalars["rate"]

    def _check_state(
        self, vectors: Mapping[str, Any], scalars: Mapping[str, Any], names: tuple[str, ...], rate: Rate
    ) -> None:
        """Raise ValueError for a state that is not of this rule, with these vectors and this rate or schedule."""
        flat = self._bound()
        if scalars["rule"] != self.name:
            raise ValueError(f"this state is of the rule '{scalars['rule']}', this optimizer is '{self.name}': "
                             "build the one that was saved")  # fmt: skip
        if scalars["rate"] is None and not callable(rate):
            raise ValueError("this state was saved with a schedule: build the optimizer with the same lr=schedule")
        check_vectors(vectors, names, flat.w)
        check_generators(self, scalars.get("own", {}))
        own_t = scalars.get("own_t")
        if own_t is not None and len(own_t) != len(flat.params):
            raise ValueError(f"the state is of {len(own_t)} parameters, this optimizer has {len(flat.params)}")


Rule.rule.by_formula = True  # type: ignore[attr-defined]
