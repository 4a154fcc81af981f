"""A rule's formula as data: written once, used everywhere.

The replay page shows it with its values (explain.py), it is compiled to a loop (minidl/fast/loops/rules.py) and on a
GPU to a kernel (minidl/fast/gpu/rules.py), and a rule without an in-place form is computed from it. Expressions are in
Python syntax, over the paper's symbols. These mean the same in every formula:

    g        the gradient                 lr   the learning rate of this step
    w_old    the weight before the step   t    the number of this step, from 1; or a vector of such numbers
    m_old    a state vector before the step; m is the state vector after it, and has a line of its own
    p        the step: the last line. What follows, w <- w + p and weight decay, is the same for all rules
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from keyword import iskeyword
from operator import attrgetter
from typing import Any, NamedTuple

from minidl.fast.formula import NUMBERS, names, parse, value_of
from minidl.optim.grammar import unknown

COMMON = ("g", "w_old", "lr", "t", "wd")  # wd is the weight decay
TAKEN = (*COMMON, "d", "w", "w_shrunk")  # `Formula.whole` has lines for the last three
WORDS = {*NUMBERS, "choose", "float32", "float64"}  # names in the generated loops; also number0, ...


class Given(NamedTuple):
    """A number that the rule has: a hyper-parameter, or a count such as that of its steps.

    symbol     in the formula: "b1"
    words      what it is
    attribute  of the rule, where it is found, such as "betas[0]"; "": named like the symbol
    """

    symbol: str
    words: str = ""
    attribute: str = ""


class Line(NamedTuple):
    """A quantity that is computed.

    symbol      its name in the lines below
    expression  how it follows from what is above it, in Python syntax
    words       what it is
    """

    symbol: str
    expression: str
    words: str = ""


class Formula:
    """A rule, from what is given to the step p.

    terms  Givens and Lines, in the order in which they are evaluated
    decay  how weight decay acts: "" adds lambda w to the gradient. Otherwise it is decoupled, w <- w - decay lambda w,
           and this is the expression of its rate, such as "lr", the same for all weights

    Raises ValueError where an expression can't be parsed or has a symbol that is not defined above it, p has no line, a
    symbol is reserved (g w_old lr t wd, and d w w_shrunk), a line applies the decay (wd) a second time, or the rate of
    the decay differs between weights.
    """

    def __init__(self, *terms: Given | Line, decay: str = "") -> None:
        self.terms, self.decay = terms, decay
        self.given = tuple(term for term in terms if isinstance(term, Given))
        self.lines = tuple(term for term in terms if isinstance(term, Line))
        self._check()

    def _check(self) -> None:
        symbols = [line.symbol for line in self.lines]
        if "p" not in symbols:
            raise ValueError("a formula needs a line for the step: Line('p', '-lr * g')")
        for symbol in (*symbols, *(given.symbol for given in self.given)):
            if symbol in TAKEN:
                raise ValueError(f"the formula's symbol {symbol!r} has a meaning in every formula: choose another name")
            if symbol in WORDS or re.fullmatch(r"number\d+", symbol) or not symbol.isidentifier() or iskeyword(symbol):
                raise ValueError(f"the formula can't have the symbol {symbol!r}: choose another name")
        known = {*COMMON, *(given.symbol for given in self.given), *(f"{symbol}_old" for symbol in symbols)}
        for line in self.lines:
            if "wd" in names(line.expression):
                raise ValueError(
                    f"the formula of {line.symbol} has wd, but weight decay needs no line: it is added to g, or with "
                    "decay='lr' shrinks w. Leave it out, or give a decay of your own another name"
                )
        for line in (*self.lines, Line("decay", self.decay or "lr")):
            for name in sorted(names(line.expression) - known):
                raise ValueError(f"the formula of {line.symbol}: {unknown('symbol', name, sorted(known))}")
            known.add(line.symbol)
        self._check_decay()

    def _check_decay(self) -> None:
        alike = {"lr", "t", "wd", *(given.symbol for given in self.given)}
        for line in self.lines:
            if names(line.expression) <= alike:
                alike.add(line.symbol)
        for name in sorted(names(self.decay or "lr") - alike):
            raise ValueError(
                f"the formula's decay {self.decay!r} has {name!r}, which differs between weights: it must be the same "
                "for all. A decay of only some weights belongs in the line of p, with its own constant in place of wd"
            )

    def values(self, rule: Any) -> dict[str, float]:
        """The numbers given, as the rule has them now."""
        return {symbol: look_up(rule) for symbol, look_up in self._places}

    @cached_property
    def _places(self) -> list[tuple[str, Callable[[Any], float]]]:
        return [(given.symbol, _place(given.attribute or given.symbol)) for given in self.given]

    def decay_rate(self, given: Mapping[str, Any]) -> Any:
        """The rate at which decoupled weight decay shrinks w: the value of `decay`."""
        scope = dict(given)
        for line in self.lines:
            if names(line.expression) <= set(scope):
                scope[line.symbol] = value_of(line.expression, scope)
        return value_of(self.decay, scope)

    def whole(self, decays: bool) -> tuple[Line, ...]:
        """All lines up to the new weight w, with weight decay or without."""
        return self._decaying if decays else self._plain

    @cached_property
    def _plain(self) -> tuple[Line, ...]:
        return (*self.lines, Line("w", "w_old + p", "the weight after the step"))

    @cached_property
    def _decaying(self) -> tuple[Line, ...]:
        if self.decay:
            shrunk = Line("w_shrunk", f"w_old * (1 - {self.decay} * wd)", "decoupled weight decay")
            return (*self.lines, shrunk, Line("w", "w_shrunk + p", "the weight after the step"))
        first = Line("d", "g + wd * w_old", "gradient with weight decay")
        return (first, *(line._replace(expression=re.sub(r"\bg\b", "d", line.expression)) for line in self._plain))


@cache
def lines_of(formula: Formula, decays: bool, rule: str, vectors: tuple[str, ...]) -> tuple[Line, ...]:
    """All lines of a rule's formula. Raises ValueError where one of its vectors has none."""
    lines = formula.whole(decays)
    for name in vectors:
        if all(line.symbol != name for line in lines):
            raise ValueError(f"the formula of '{rule}' has no line for its vector {name}")
    return lines


@cache
def remembers(formula: Formula | None) -> frozenset[str]:
    """The vectors whose old values a formula reads: an optimizer has those that it was built with."""
    read = set().union(*(names(line.expression) for line in formula.lines)) if formula else set()
    return frozenset(name.removesuffix("_old") for name in read if name.endswith("_old") and name != "w_old")


def has_formula(rule: Any) -> bool:
    """Whether the formula describes the rule: no subclass of the one with it overrides the rule or its decay, and
    neither was replaced later, as in Adam.rule = my_rule."""
    return _says(rule, rule.formula, rule.rule, rule.decayed)


@cache
def _says(rule: type, *parts: Any) -> bool:  # *parts: so that a class changed later is checked again
    for kind in rule.__mro__:
        if "formula" in vars(kind):
            return all(_is_own(kind, name) for name in ("rule", "decayed"))
        if "rule" in vars(kind) or "decayed" in vars(kind):
            return False
    return False


def _is_own(kind: type, name: str) -> bool:
    """Whether a class has its method by its definition, in this or, after an %autoreload, in a changed file."""
    method = vars(kind).get(name)
    if method is None or method in vars(kind).get("_as_defined", ()) or hasattr(method, "by_formula"):
        return True
    return bool(method.__qualname__.startswith(f"{kind.__qualname__}."))


def rule_by_formula() -> Any:
    """Rule.rule as a separate function for each class: when a user's file has changed, IPython's %autoreload writes the
    new code into the functions that the class has."""

    def rule(self: Any, *args: Any, **kwargs: Any) -> None:
        self._by_formula(*args, **kwargs)

    rule.by_formula = True  # type: ignore[attr-defined]
    return rule


def _place(place: str) -> Callable[[Any], float]:
    """A function that looks up the attribute of that name, or an item of it, as in "betas[0]"."""
    name, _, index = place.rstrip("]").partition("[")
    i = int(index or 0)
    return (lambda rule: getattr(rule, name)[i]) if index else attrgetter(name)


def way_taken(expression: str, values: Mapping[str, Any]) -> str:
    """An expression `a if test else b` reduced to the branch taken, where it is the same for all elements."""
    tree = parse(expression)
    if not isinstance(tree, ast.IfExp):
        return expression
    test = value_of(ast.unparse(tree.test), values)
    if getattr(test, "ndim", 0):
        return expression
    return way_taken(ast.unparse(tree.body if test else tree.orelse), values)
