"""A formula in Python's syntax, split for whatever evaluates it: a GPU kernel, a compiled loop, plain arrays.

A formula is a sequence of lines (symbol, expression), each computed from those above it and from given values. Some
names stand for vectors: a weight, its gradient, its state. Everything else is the same for every weight, so
`take_apart` hoists it: such subexpressions become numbers, which Python computes once per step, in double precision,
and the remainder is computed for each element. The caller chooses which names are vectors. So the step count t can be a
number, or a vector where parameters have skipped steps: then whatever depends on it is computed for each element.

    take_apart((("m", "b1 * m_old + (1 - b1) * g"), ("p", "-lr * m / (1 - b1**t)")), vectors=("g", "m_old"))
    numbers  number0 = b1;  number1 = 1 - b1;  number2 = -lr;  number3 = 1 - b1**t
    each     m = number0 * m_old + number1 * g;  p = number2 * m / number3
"""

from __future__ import annotations

import ast
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from minidl.backend import xp_of

Lines: TypeAlias = "tuple[tuple[str, str], ...]"

# What a formula may call: the functions of Python numbers, and their names in an array module.
NUMBERS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "abs": abs, "min": min, "max": max,
    "sign": lambda x: float((x > 0) - (x < 0)),
}  # fmt: skip
ARRAYS = {"sqrt": "sqrt", "exp": "exp", "log": "log", "abs": "abs", "min": "minimum", "max": "maximum", "sign": "sign"}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


# ---- reading a formula ----


_parsing = threading.Lock()


def tree_of(expression: str) -> ast.expr:
    """Any expression as a tree. One thread at a time: two can cause a SystemError in Python 3.11's parser."""
    with _parsing:
        return ast.parse(expression, mode="eval").body


def parse(expression: str) -> ast.expr:
    """The expression as a tree, normalized by _Plain. Raises ValueError, quoting the culprit, for anything that a
    formula can't contain."""
    try:
        tree = tree_of(expression.strip())
    except SyntaxError as error:
        raise ValueError(f"the formula {expression!r} is not valid Python: {error.msg}") from None
    for node in ast.walk(tree):
        _check(node, expression)
    return _Plain().visit(tree)


class _Plain(ast.NodeTransformer):
    """Rewrites what arrays, compilers and C treat differently to a form that they treat alike: a comparison used as a
    number is 1 or 0, and max(a, b, c) is max(max(a, b), c)."""

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        compared = isinstance(node.test, ast.Compare)
        node.test = self.generic_visit(node.test) if compared else self.visit(node.test)  # type: ignore[assignment]
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return ast.IfExp(self.generic_visit(node), ast.Constant(1.0), ast.Constant(0.0))  # type: ignore[arg-type]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        while len(node.args) > 2:
            a, b, *more = node.args
            node.args = [ast.Call(node.func, [a, b], []), *more]
        return node


def _check(node: ast.AST, expression: str) -> None:
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in NUMBERS:
            takes = "two or more values" if name in ("min", "max") else "one value"
            if len(args) != 1 if takes == "one value" else len(args) < 2:
                raise ValueError(f"the formula {expression!r}: {name} takes {takes}, not {len(args)}")
            return
        case ast.BinOp(op=op) if type(op) in OPERATORS or isinstance(op, ast.Pow):
            return
        case ast.UnaryOp(op=ast.USub()) | ast.Compare(ops=[_]) | ast.IfExp() | ast.Name():
            return
        case ast.Constant(value=int() | float()):
            return
        case ast.expr_context() | ast.operator() | ast.unaryop() | ast.cmpop():
            return
    raise ValueError(
        f"the formula {expression!r} contains {ast.unparse(node)!r}: it may contain + - * / **, comparisons, "
        f"`a if test else b`, and {', '.join(NUMBERS)}"
    )


def names(expression: str | ast.expr) -> set[str]:
    """The symbols in an expression, without the names of functions."""
    tree = parse(expression) if isinstance(expression, str) else expression
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}


# ---- evaluating it, on numbers and whole arrays ----


def value_of(expression: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression; `values` are numbers or arrays, of NumPy or CuPy.

    Raises ValueError where it has none, such as the square root of a negative number.
    """
    try:
        return eval(_compiled(expression), {"__builtins__": {}, **_FUNCTIONS, **values})
    except (ValueError, ArithmeticError) as error:
        numbers = ", ".join(f"{name} = {values[name]:.6g}" for name in sorted(names(expression))
                            if isinstance(values.get(name), (int, float)))  # fmt: skip
        raise ValueError(f"the formula {expression!r} has no value for {numbers}: {error}") from None


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> Any:
    tree = ast.Expression(_Chooses().visit(parse(expression)))
    return compile(ast.fix_missing_locations(tree), expression, "eval")


@lru_cache(maxsize=256)
def _together(lines: Lines) -> Any:
    """Code that evaluates all these lines, to a tuple."""
    values = [_Chooses().visit(parse(expression)) for _, expression in lines]
    return compile(ast.fix_missing_locations(ast.Expression(ast.Tuple(values, ast.Load()))), "numbers", "eval")


class _Chooses(ast.NodeTransformer):
    """`a if test else b` becomes `choose(test, lambda: a, lambda: b)`, which also takes arrays."""

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        no_arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        ways: list[ast.expr] = [ast.Lambda(no_arguments, way) for way in (node.body, node.orelse)]
        return ast.Call(ast.Name("choose", ast.Load()), [node.test, *ways], [])


def _choose(test: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    if getattr(test, "ndim", 0) == 0:
        return yes() if test else no()
    with np.errstate(all="ignore"):  # both are computed for all elements, and one may have no value for some
        return xp_of(test).where(test, yes(), no())


def _function(name: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        array = next((a for a in args if getattr(a, "ndim", 0)), None)
        return NUMBERS[name](*args) if array is None else getattr(xp_of(array), ARRAYS[name])(*args)

    return call


_FUNCTIONS = {"choose": _choose, **{name: _function(name) for name in NUMBERS}}


# ---- splitting it ----


@dataclass(frozen=True)
class Parts:
    """A formula, split into numbers of a step and lines for each element.

    vectors  the names that have a value for each element
    before   lines that are the same for all elements, in order
    numbers  (name, expression): number0, number1, ... computed once per step, from the given values and `before`
    each     the other lines, over vectors, numbers and each other
    """

    vectors: tuple[str, ...]
    before: Lines
    numbers: Lines
    each: Lines

    def work_out(self, values: Mapping[str, Any]) -> list[float]:
        """The numbers of a step, in order, from the given values, in double precision."""
        scope = {"__builtins__": {}, **_FUNCTIONS, **values}
        try:
            for symbol, expression in self.before:
                scope[symbol] = eval(_compiled(expression), scope)
            return list(map(float, eval(_together(self.numbers), scope)))  # in one call: it runs at every step
        except (ValueError, ArithmeticError):
            for symbol, expression in (*self.before, *self.numbers):
                scope[symbol] = value_of(expression, scope)  # raises for the one that has no value
            raise


@lru_cache(maxsize=256)
def take_apart(lines: Lines, vectors: tuple[str, ...], stored: tuple[str, ...] = ()) -> Parts:
    """Split a formula; see the top of this file.

    stored  symbols that are stored for each element, even where they are the same for all
    """
    varying, before, each = set(vectors), [], []
    moved = _MovesOut(varying)
    for symbol, expression in lines:
        tree = parse(expression)
        if names(tree) & varying or symbol in stored:
            each.append((symbol, ast.unparse(moved.visit(tree))))
            varying.add(symbol)
        else:
            before.append((symbol, expression))
    numbers = tuple((name, expression) for expression, name in moved.found.items())
    return Parts(vectors, tuple(before), numbers, tuple(each))


class _MovesOut(ast.NodeTransformer):
    """Replaces each maximal subexpression without a varying name by number0, number1, ..."""

    def __init__(self, varying: set[str]) -> None:
        self.varying = varying
        self.found: dict[str, str] = {}  # expression -> its number's name
        self.inside: list[str] = []  # enclosing branches of `a if test else b`: one not taken may have no value

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or isinstance(node, ast.Constant):
            return node
        if names(node) & self.varying:
            if isinstance(node, ast.Call):
                node.args = [self.visit(argument) for argument in node.args]  # type: ignore[misc]
                return node
            if isinstance(node, ast.IfExp) and not names(node.test) & self.varying:
                test = ast.unparse(node.test)
                chosen: ast.expr = self.visit(node.test)  # type: ignore[assignment] # of an expression it is one
                taken = self._within(f"({{}}) if {test} else 1.0", node.body)
                return ast.IfExp(chosen, taken, self._within(f"1.0 if {test} else ({{}})", node.orelse))
            return self.generic_visit(node)
        expression = ast.unparse(node)
        for way in reversed(self.inside):
            expression = way.format(expression)
        return ast.Name(self.found.setdefault(expression, f"number{len(self.found)}"), ast.Load())

    def _within(self, way: str, node: ast.expr) -> ast.expr:
        self.inside.append(way)
        found: ast.expr = self.visit(node)  # type: ignore[assignment]
        self.inside.pop()
        return found
