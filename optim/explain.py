"""One step in slow motion: for a few weights, the value of each quantity in the update rule's formula.

A Look copies values from the optimizer's own vectors before and after the step. What lies in between is computed from
the rule's formula (formula.py), so what is shown of a step is the formula that ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minidl.backend import Array, to_numpy
from minidl.fast.formula import value_of
from minidl.optim.custom import is_own_rule
from minidl.optim.formula import Given, lines_of, way_taken
from minidl.optim.groups import Group

if TYPE_CHECKING:
    from minidl.optim.optimizer import Optimizer
    from minidl.optim.rule import Rule


class Term(NamedTuple):
    """A quantity of a step.

    symbol   its name: "m"; "m_old" is what m was before the step
    value    one number for each weight looked at, or one for all of them
    formula  how it follows from the terms before it: "b1 * m_old + (1 - b1) * g"; "" if it is given
    words    what it is
    """

    symbol: str
    value: Array | float
    formula: str = ""
    words: str = ""


class Look:
    """The next step of an optimizer, at a few places of its flat vectors. Make one before the step, `end()` it after.

    places   indices into w, an integer array on the optimizer's device
    rule     the Rule that takes the step; lr is its learning rate, and t, after `end()`, its step count. Where
             parameters are in groups, or rest, `terms()` has these for each weight looked at
    before   {name: values} of w and of the rule's state vectors
    after    the same, and the gradient g and the step p

    Nothing here waits for the device until `terms()` is read.
    """

    def __init__(self, optimizer: Optimizer, places: Array) -> None:
        self.rule: Rule = optimizer.active
        self._own = any(map(is_own_rule, (type(optimizer), type(self.rule))))
        flat = self.rule._bound()
        self.places, self.lr, self.wd = places, self.rule.lr, self.rule.weight_decay
        # Keep the formula and the vectors: a switch during the step removes them from the rule.
        self._formula, self._lines = self.rule.formula, self.rule.lines()
        self._params = flat.params
        self._groups, self._decay_scale = self.rule.groups, self.rule.decay_scale
        self._own_before = self._own_t = self.rule.own_t
        self._decays = bool(self.wd) or any(group.weight_decay for group in self._groups)
        if self._formula is not None and self._lines is not None and self._decays:
            self._lines = lines_of(self._formula, True, self.rule.name, self.rule.vectors)
        self._state = {"w": flat.w, **{name: getattr(self.rule, name) for name in self.rule.vectors}}
        self._step = {"g": flat.g, "p": self.rule.keep_step()}
        self.before = {name: vector[places] for name, vector in self._state.items()}
        self.after: dict[str, Array] = {}
        self.t = 0
        self._numbers: dict[str, Any] = {}  # those given to the formula, such as Adam's betas

    def end(self) -> None:
        """The step is done: record the values after it."""
        self.t = self.rule.t
        self._own_t = self.rule.own_t
        self._numbers = {} if self._formula is None else self._formula.values(self.rule)
        self.after = {name: vector[self.places] for name, vector in (self._state | self._step).items()}
        self._state, self._step = {}, {}

    def __getitem__(self, symbol: str) -> Any:
        """The values of a vector after the step, or of "m_old" before it, as a NumPy array."""
        name = symbol.removesuffix("_old")
        return to_numpy(self.after[name] if name == symbol else self.before[name])

    def terms(self) -> list[Term]:
        """The whole step. A rule without a formula is shown by its vectors."""
        terms = self._given()
        values = {term.symbol: term.value for term in terms}
        for symbol, expression, words in self._lines or ():
            formula, worked_out = way_taken(expression, values), symbol not in self.after
            if not worked_out and self._own and not self._agrees(symbol, value_of(expression, values)):
                formula = ""
            values[symbol] = value_of(expression, values) if worked_out else self[symbol]
            terms.append(Term(symbol, values[symbol], formula, words))
        if self._lines is not None:
            return terms
        both = [Term(name + when, self[name + when]) for name in self.before if name != "w" for when in ("_old", "")]
        return [*terms, *both, Term("p", self["p"], "", "the step"), self._end()]

    def _given(self) -> list[Term]:
        """What is known when the step begins: common to all rules, then the rule's own numbers and state."""
        rule = self.rule
        clipped = "" if rule.max_norm is None else f", clipped to a norm of at most {rule.max_norm:g}"
        t, lr, wd = self._of_each() if self._groups or self._own_t else (self.t, self.lr, self.wd)
        terms = [
            Term("t", t, "", "step number, as this rule counts"),
            Term("lr", lr, "", "learning rate"),
            Term("w_old", self["w_old"], "", "the weight before the step"),
            Term("g", self["g"], "", f"gradient of the loss{clipped}"),
        ]
        if self._decays:  # what the lines are written for, even where none of these weights decays
            terms.append(Term("wd", wd, "", "weight decay"))
        if self._lines is None or self._formula is None:
            return terms
        for term in self._formula.terms:
            if isinstance(term, Given):
                terms.append(Term(term.symbol, self._numbers[term.symbol], "", term.words))
            elif term.symbol in self.before:
                words = f"{term.words}, before the step".removeprefix(", ")
                terms.append(Term(f"{term.symbol}_old", self[f"{term.symbol}_old"], "", words))
        return terms

    def _of_each(self) -> tuple[Array, Array, Array]:
        """t, learning rate and weight decay of each weight, by its group and its parameter's own step count."""
        params = self._params
        which = np.searchsorted(np.cumsum([p.size for p in params]), to_numpy(self.places), side="right")
        before = np.array(self._own_before or [self.t - 1] * len(params))
        after = np.array(self._own_t or [self.t] * len(params))
        groups = [group for group in self._groups for _ in range(group.count)] or [Group(1)] * len(params)
        rests = before == after
        t, lr = np.where(rests, self.t, after), np.array([self.lr * group.lr_scale for group in groups])
        wd = np.where(rests, 0.0, [group.decay(self.wd, self._decay_scale) for group in groups])
        return t[which].astype(np.int32), lr[which], wd[which]

    def _agrees(self, symbol: str, value: Any) -> bool:
        """Whether a vector has the value its formula gives, where weights moved: a custom `update` may change it."""
        now = self[symbol]
        change = now - self[f"{symbol}_old"] if symbol in self.before else now
        error = np.abs(now - value)[self["p"] != 0]
        return not bool((error > 1e-3 * np.abs(change).max() + 1e-6 * np.abs(now).max()).any())

    def _end(self) -> Term:
        """The new weight of a rule without a formula: with weight decay, how it was computed is not known."""
        plain = not self._decays and self._agrees("w", self["w_old"] + self["p"])
        return Term("w", self["w"], "w_old + p" if plain else "", "the weight after the step")
