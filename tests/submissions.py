"""Submissions for the tests of the grader: right, wrong and hostile ones, made from the library's own source."""

import textwrap
from pathlib import Path

from tutorials.assignments.assignment import load
from tutorials.assignments.cut import cut
from tutorials.assignments.handout import to_write
from tutorials.assignments.submission import Submission


def reference(name: str) -> dict[str, str]:
    """The files to hand in, as the library has them."""
    assignment = load(name)
    return {path: (assignment.base / path).read_text("utf-8") for path in assignment.cuts}


def with_bodies(name: str, bodies: dict[str, str]) -> dict[str, str]:
    """The reference with other bodies for some functions: {"SGD.rule": code}."""
    assignment, files, left = load(name), reference(name), dict(bodies)
    for path, functions in assignment.cuts.items():
        for function in [f for f in functions if f in left]:
            files[path] = cut(files[path], [function], "X")
            todo = next(line for line in files[path].splitlines() if f"X: {function} is yours" in line)
            indent = todo[: len(todo) - len(todo.lstrip())]
            body = textwrap.indent(textwrap.dedent(left.pop(function)).strip(), indent)
            files[path] = files[path].replace(todo, body)
    assert not left, f"{name} has no {sorted(left)}"
    return files


def with_preface(name: str, path: str, code: str, bare: bool = False) -> dict[str, str]:
    """The reference, or the bare hand-out, with some code before the rest of a file."""
    files = to_write(load(name)) if bare else reference(name)
    future = "from __future__ import annotations\n"
    assert future in files[path]
    files[path] = files[path].replace(future, future + textwrap.dedent(code), 1)
    return files


def write(files: dict[str, str | bytes], folder: Path) -> Path:
    """A student's folder."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def submission(files: dict[str, str], name: str = "student") -> Submission:
    """What read_submission makes of such a folder."""
    return Submission(name, {path: text.encode() for path, text in files.items()})
