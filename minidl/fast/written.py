"""Source code generated from a formula: a function in Python, an expression in C. See formula.py."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from minidl.fast.formula import OPERATORS, Parts, parse, tree_of

IN_C = {"sqrt": "sqrt", "exp": "exp", "log": "log", "abs": "fabs", "min": "fmin", "max": "fmax"}


def python_source(
    parts: Parts, results: Sequence[str], name: str = "element", number: Callable[[float], str] = repr
) -> str:
    """A Python function of one element, for a compiler such as numba; it needs `from math import sqrt, exp, log`.

    Its arguments are the elements of the vectors, then the numbers (see `Parts.work_out`); it returns the `results`.

    number  formats a constant of the formula, with its precision
    """
    arguments = ", ".join([*parts.vectors, *(symbol for symbol, _ in parts.numbers)])
    comments = [f"    # {symbol} = {expression}" for symbol, expression in parts.numbers]
    compiled = _ForCompilers({symbol for symbol, _ in parts.numbers}, number)
    body = [f"    {symbol} = {compiled.text(expression)}" for symbol, expression in parts.each]
    return "\n".join([f"def {name}({arguments}):", *comments, *body, f"    return {', '.join(results)}", ""])


class _ForCompilers(ast.NodeTransformer):
    """Writes x**2 as x * x, division by a number as multiplication by its reciprocal (which the compiler hoists out of
    the loop), and sign, min and max as comparisons. So none of these calls pow or a library, and NaN propagates."""

    def __init__(self, numbers: set[str], number: Callable[[float], str]) -> None:
        self.numbers, self.number = numbers, number

    def text(self, expression: str) -> str:
        return ast.unparse(self.visit(parse(expression)))

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return tree_of(self.number(float(node.value)))  # type: ignore[arg-type] # parse allows only numbers

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        match node:
            case ast.BinOp(left=ast.Name(), op=ast.Pow()) if _is_two(node.right):
                return ast.BinOp(node.left, ast.Mult(), node.left)
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=int())):
                return ast.BinOp(self.visit(node.left), node.op, node.right)
            case ast.BinOp(op=ast.Div(), right=ast.Name(id=name)) if name in self.numbers:
                return ast.BinOp(self.visit(node.left), ast.Mult(), tree_of(f"({self.number(1.0)} / {name})"))
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        a, *more = (f"({ast.unparse(self.visit(argument))})" for argument in node.args)
        match node.func.id, more:  # type: ignore[attr-defined] # parse allows only names
            case "sign", []:
                one, zero = self.number(1.0), self.number(0.0)
                return tree_of(f"({one} if {a} > {zero} else -{one} if {a} < {zero} else {a})")
            case "min", [b]:
                return tree_of(f"({a} if {a} < {b} or {a} != {a} else {b})")
            case "max", [b]:
                return tree_of(f"({a} if {a} > {b} or {a} != {a} else {b})")
            case name, _:
                return tree_of(f"{name}({', '.join([a, *more])})")


def _is_two(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 2


def c_expression(expression: str, name: Callable[[str], str] = str) -> str:
    """The expression in C, for the type T, fully parenthesized; `name` gives the C name of a symbol."""

    def text(node: ast.expr) -> str:
        match node:
            case ast.Name(id=symbol):
                return name(symbol)
            case ast.Constant(value=int() | float() as value):
                return f"(T){float(value)!r}"
            case ast.UnaryOp(operand=x):
                return f"(-{text(x)})"
            case ast.IfExp(test=test, body=a, orelse=b):
                return f"({text(test)} ? {text(a)} : {text(b)})"
            case ast.Compare(left=a, ops=[op], comparators=[b]):
                return f"({text(a)} {OPERATORS[type(op)]} {text(b)})"
            case ast.BinOp(left=a, op=op, right=b) if type(op) in OPERATORS:
                return f"({text(a)} {OPERATORS[type(op)]} {text(b)})"
            case ast.BinOp(left=a, right=b):
                return f"({text(a)} * {text(a)})" if _is_two(b) else f"pow({text(a)}, {text(b)})"
            case ast.Call(func=ast.Name(id="sign"), args=[x]):
                return f"(T)(({text(x)} > 0) - ({text(x)} < 0))"
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return f"{IN_C[function]}({', '.join(map(text, arguments))})"
        raise AssertionError(ast.dump(node))  # parse allows nothing else

    return text(parse(expression))
