"""A hand-out: the part of the library that an assignment needs, with the functions to write left empty.

It is generated from the library's source each time, so the two can't diverge. The files needed follow from their
imports; it requires only NumPy. The functions of later assignments are left empty too, so no hand-out shows a solution
too early. Those of earlier assignments are filled in: hand out A2 after A1 has been collected.

    python -m tutorials.assignments.handout A2 FOLDER    only into a new or empty folder: no file is ever overwritten
    python -m tutorials.assignments.handout A2 FOLDER --solutions     the library's version of the files, for teachers
    python -m tutorials.assignments.handout --update     bring the copies in tutorials/assignments/*/handout up to date
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tutorials.assignments.assignment import HERE, NAMES, ROOT, Assignment, AssignmentError, later, load
from tutorials.assignments.cut import cut, tree_of

_EMPTY_INIT = (
    '"""The part of {package} that {name} needs. Import from its files, as in `from minidl.tensor import Tensor`."""\n'
)
_LINK_UP = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")  # to a lesson, which is not in the hand-out
_FIND_OPTIM = """
import os

__path__.append(os.path.dirname(__path__[0]))  # minidl.optim is the folder beside this one
"""


@cache
def _handout(name: str) -> dict[str, str]:
    assignment = load(name)
    texts = {path: (assignment.base / path).read_text("utf-8") for path in assignment.cuts}
    public = (assignment.folder / "test_public.py").read_text("utf-8")
    whole = {f"{package}/__init__.py": _source(f"{package}/__init__.py") for package in assignment.library}
    texts |= whole | {path: _source(path) for path in _needed([*texts.values(), *whole.values(), public])}
    for each in (assignment, *later(assignment)):
        for path, names in each.cuts.items():
            if path in texts:
                texts[path] = cut(texts[path], names, each.name, each.drop.get(path, ()))
    for package in {path.rpartition("/")[0] for path in texts if "/" in path} - set(assignment.library):
        texts[f"{package}/__init__.py"] = _EMPTY_INIT.format(package=package.replace("/", "."), name=name)
        if package == "minidl":
            texts[f"{package}/__init__.py"] += _FIND_OPTIM
    extras = {"README.md": assignment.folder / "README.md", "public.py": HERE / "public.py"}
    extra = {name: path.read_text("utf-8") for name, path in extras.items()}
    extra["README.md"] = _LINK_UP.sub(r"\1", extra["README.md"])
    return texts | {"test_public.py": public} | extra


def handout(assignment: Assignment) -> dict[str, str]:
    """The files of the hand-out: path -> text."""
    return dict(_handout(assignment.name))


def _needed(texts: Iterable[str]) -> set[str]:
    """The library's files that these sources import, directly or indirectly."""
    todo, found = list(texts), set[str]()
    while todo:
        for path in _imports(todo.pop()) - found:
            found.add(path)
            todo.append(_source(path))
    return found


def _source(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def _imports(source: str) -> set[str]:
    paths = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "minidl":
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                path = re.sub(r"^minidl/(optim|data)/", r"\1/", module.replace(".", "/")) + ".py"
                if (ROOT / path).is_file():
                    paths.add(path)
    return paths


def write(files: dict[str, str], folder: Path) -> None:
    """Write them into a new or empty folder. Raises AssignmentError, and writes nothing, if it is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AssignmentError(f"{folder} is not empty, and a hand-out never overwrites anything: name a new folder")
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)


def to_write(assignment: Assignment) -> dict[str, str]:
    """The files that the student completes, as handed out: the repository keeps copies of these for readers."""
    return {path: text for path, text in handout(assignment).items() if path in assignment.cuts}


def solutions(assignment: Assignment) -> dict[str, str]:
    """The library's versions of the files that the student completes. Only for the teacher."""
    return {path: (assignment.base / path).read_text("utf-8") for path in assignment.cuts}


def update() -> None:
    """Rewrite the copies kept in the repository."""
    for assignment in map(load, NAMES):
        for path, text in to_write(assignment).items():
            target = assignment.folder / "handout" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tutorials.assignments.handout", description=__doc__.split("\n")[0])
    parser.add_argument("assignment", nargs="?", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("folder", nargs="?", type=Path, help="a new or empty folder")
    parser.add_argument("--solutions", action="store_true", help="for the teacher: write the completed files")
    parser.add_argument("--update", action="store_true", help="bring the copies in the repository up to date")
    args = parser.parse_args(argv)
    try:
        if args.update:
            update()
        elif args.assignment is None or args.folder is None:
            parser.error("name an assignment and a folder")
        else:
            assignment = load(args.assignment)
            if args.solutions:
                write(solutions(assignment), args.folder)
                print(f"the solutions of {assignment.name} are in {args.folder}: release them when all work is in")
                return 0
            write(handout(assignment), args.folder)
            print(f"{assignment.name}, {assignment.title}, is in {args.folder}: start with README.md")
            print(f"to fill in: {', '.join(assignment.cuts)}")
    except (AssignmentError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
