"""One step in slow motion: at a few weights, each quantity of the update rule's formula with the number that it had.

A Look takes the numbers out of the optimizer's own vectors, before the step and after it. Each rule lists its terms
(`Rule.step_terms`) in the symbols of its docstring, so that whoever shows a step shows the formula that ran. A formula
is written in Python's syntax over the symbols above it: a test evaluates every one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from minidl.backend import Array, to_numpy

if TYPE_CHECKING:
    from minidl.optim.optimizer import Optimizer, Rule


class Term(NamedTuple):
    """A quantity of a step.

    symbol   its name: "m"; "m_old" is what m was before the step
    value    a number for each of the weights looked at, or one for all of them
    formula  how it follows from the terms before it: "b1 * m_old + (1 - b1) * g"; "" for what is given
    words    what it is
    """

    symbol: str
    value: Array | float
    formula: str = ""
    words: str = ""


class Look:
    """The next step of an optimizer, at a few places of its flat vectors. Make one before the step, `end()` it after.

    places   indices into w, an integer array on the optimizer's device
    rule     the Rule that takes the step; lr is its rate, and t, once it has ended, the steps that it has taken
    before   {name: values} of w and of the rule's state vectors
    after    the same, and the gradient g and the step p

    Nothing here waits for the device until somebody reads the `terms()`.
    """

    def __init__(self, optimizer: Optimizer, places: Array) -> None:
        self.rule: Rule = optimizer.active
        flat = self.rule._bound()
        self.places, self.lr = places, self.rule.lr
        # The vectors themselves, for a switch inside the step takes them from the rule.
        self._state = {"w": flat.w, **{name: getattr(self.rule, name) for name in self.rule.vectors}}
        self._step = {"g": flat.g, "p": self.rule.keep_step()}
        self.before = {name: vector[places] for name, vector in self._state.items()}
        self.after: dict[str, Array] = {}
        self.t = 0

    def end(self) -> None:
        """The step is done: take the numbers after it."""
        self.t = self.rule.t
        self.after = {name: vector[self.places] for name, vector in (self._state | self._step).items()}
        self._state, self._step = {}, {}

    def __getitem__(self, symbol: str) -> Any:
        """The values of a vector after the step, or of "m_old" before it, as a NumPy array."""
        name = symbol.removesuffix("_old")
        return to_numpy(self.after[name] if name == symbol else self.before[name])

    def given(self, symbol: str, words: str = "") -> Term:
        """A term that is one of the recorded vectors as it is."""
        return Term(symbol, self[symbol], "", words)

    def term(self, symbol: str, formula: str, words: str = "") -> Term:
        """A term whose value is a recorded vector's and whose formula tells how the rule made it."""
        return Term(symbol, self[symbol], formula, words)

    def terms(self) -> list[Term]:
        """The whole step: what every rule has in common around the rule's own terms."""
        rule, decay, g = self.rule, self.rule.weight_decay, "g"
        clipped = "" if rule.max_norm is None else f", clipped to a norm of at most {rule.max_norm:g}"
        terms = [
            Term("t", self.t, "", "number of this step, as this rule counts"),
            Term("lr", self.lr, "", "rate"),
            self.given("w_old", "the weight before the step"),
            self.given("g", f"gradient of the loss{clipped}"),
        ]
        shrinking = rule.decay_rate(self) if decay else None
        if decay:
            terms.append(Term("wd", decay, "", "weight decay"))
        if decay and shrinking is None:
            g = "d"
            terms.append(Term(g, self["g"] + decay * self["w_old"], "g + wd * w_old", "gradient with weight decay"))
        terms += rule.step_terms(self, g)
        if shrinking is None:
            return [*terms, self.term("w", "w_old + p", "the weight after the step")]
        rate, value = shrinking
        shrunk = Term("w_shrunk", self["w_old"] * (1 - value * decay), f"w_old * (1 - {rate} * wd)", "decay, apart")
        return [*terms, shrunk, self.term("w", "w_shrunk + p", "the weight after the step")]
