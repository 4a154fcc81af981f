"""Cuts solutions out of a source file: the signature and docstring stay, the body becomes an error to replace.

Functions are given by qualified name ("SGD.rule"), so the library's own files need no markers.
What is removed altogether may also be an assignment statement ("Adam.formula").
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterable

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.Assign
_parsing = threading.Lock()


def tree_of(source: str) -> ast.Module:
    """The source as a tree. One thread at a time: two at once may cause a SystemError in Python 3.11's parser."""
    with _parsing:
        return ast.parse(source)


def cut(source: str, names: Iterable[str], assignment: str, drop: Iterable[str] = ()) -> str:
    """The source with the bodies of these functions replaced, and those in `drop` removed altogether.

    Raises KeyError for a name that is not there.
    """
    lines = source.splitlines(keepends=True)
    functions, drop = _definitions(tree_of(source)), set(drop)
    for name in sorted({*names, *drop}, key=lambda name: -functions[name].lineno):  # from the end: line numbers hold
        function = functions[name]
        if name in drop:
            start = min([function.lineno, *(d.lineno for d in getattr(function, "decorator_list", []))]) - 1
            while start and not lines[start - 1].strip():
                start -= 1
            del lines[start : function.end_lineno]
        elif isinstance(function, Function):
            indent = " " * (function.col_offset + 4)
            todo = f'{indent}raise NotImplementedError("{assignment}: {name} is yours to write")\n'
            lines[_head(function) : function.end_lineno] = [todo]
    return "".join(lines)


def bodies(source: str, names: Iterable[str]) -> dict[str, list[str]]:
    """What `cut` removes: for each name, the lines of its body, stripped."""
    lines, functions = source.splitlines(), _definitions(tree_of(source))
    return {name: [s.strip() for s in lines[_head(functions[name]) : functions[name].end_lineno]] for name in names}


def _head(function: Definition) -> int:
    """The line, counted from 1, on which the function's signature and docstring end."""
    if isinstance(function, ast.Assign):
        return function.lineno
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        return first.end_lineno or first.lineno
    head = [node for node in ast.walk(function.args) if isinstance(node, ast.expr)]
    if function.returns is not None:
        head.append(function.returns)
    # Not up to the first statement: a comment above it is part of the solution.
    return max([function.lineno, *(node.end_lineno or 0 for node in head)])


def _definitions(tree: ast.Module) -> dict[str, Definition]:
    """All functions and assignments by qualified name, except those inside functions."""
    found: dict[str, Definition] = {}

    def look(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, Function):
                found[prefix + node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[prefix + node.targets[0].id] = node
            elif isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")

    look(tree.body, "")
    return found
