"""Classes and functions from a user's own file: `path/to/file.py:Name`.

The file is imported as a submodule of this module, named by its full path. So its file name need not be an identifier,
and may be the name of another module or file. A worker process that unpickles an object from the file finds the file by
that module name.

    code = load("nets.py:Wide")     runs the file, once
    code(784, 10)                   calls Wide; an error in the file names its line
    code.sha256                     of the file that was run; a worker that finds another file raises
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from minidl.module import Module
from minidl.optim.optimizer import Optimizer

__path__: list[str] = []  # makes this module a package, which can have submodules
PREFIX = f"{__name__}."
LARGEST = 1 << 24  # bytes of a file


class UserError(ValueError):
    """An error in a user's file, or in finding it: the message says what and where."""


@dataclass(frozen=True)
class UserCode:
    """A class or function in a user's file. Pickled by path and name, and loaded again when it is used.

    path    of the file, absolute;   name  in it;   sha256  of the file, see `source_sha256`
    """

    path: str
    name: str
    sha256: str

    @property
    def thing(self) -> Any:
        """The class or function itself. Raises UserError if the file is gone or has changed."""
        found = load(str(self))
        if found.sha256 != self.sha256:
            raise UserError(
                f"{self.path} has changed since it was first loaded (sha256 {found.sha256[:12]}..., it was "
                f"{self.sha256[:12]}...): restore the old file, or start again"
            )
        return getattr(_module(Path(self.path)), self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it. Raises UserError for an error inside the file."""
        thing = self.thing
        with told(self):
            return thing(*args, **kwargs)

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


def load(text: str) -> UserCode:
    """The class or function named by "path/to/file.py:Name". Runs the file, unless it ran before and has not changed.

    Raises UserError, with what to do, if there is no such file or name, or the file fails.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        if text.endswith(".py"):
            raise UserError(f"{text} is a file: name something in it, as in {text}:{_some_name(text)}")
        if called := re.fullmatch(r"(.+\.py):(\w+)\((.*)\)", text):
            file, name, given = called.groups()
            raise UserError(
                f"{Path(file).name}:{name}({given}): arguments are not allowed here. Add a function to {file} that "
                f"gives them, def my_{name.lower()}(): return {name}({given}), and name that: {file}:my_{name.lower()}"
            )
        raise UserError(f"give a file and a name in it, as in nets.py:Wide, not {text!r}")
    path = Path(file).expanduser().absolute()
    _check_file(path, file)
    module = _module(path)
    _check_name(module, name, file)
    return UserCode(str(path), name, module.__sha256__)


# ---- running a file ----


def source_sha256(source: bytes) -> str:
    """The SHA-256 of a file's code. Git and editors on Windows change the ends of its lines, which Python ignores."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()


def _module(path: Path) -> Any:
    """The file as a module; runs it again if it has changed."""
    name = PREFIX + quote(os.fsencode(path), safe="/:\\ ").replace(".", "%2E")
    known = sys.modules.get(name)
    if known is not None:
        if known.__sha256__ == source_sha256(path.read_bytes()):
            return known
        del sys.modules[name]
    with told(path):
        return importlib.import_module(name)


class _UserFiles(MetaPathFinder, Loader):
    """Finds the modules whose name is a path, and runs them. Writes no files (no __pycache__) next to the user's."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX):
            return None
        file = os.fsdecode(unquote_to_bytes(name.removeprefix(PREFIX)))
        if not os.path.isabs(file):
            raise ImportError(f"this file is not in a package: write `import {file}` or `from {file} import ...`")
        spec = ModuleSpec(name, self, origin=file)
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        source = Path(module.__file__ or "").read_bytes()
        module.__dict__["__sha256__"] = source_sha256(source)
        with _found_beside(Path(module.__file__ or "").parent):
            exec(compile(source, module.__file__ or "", "exec", dont_inherit=True), module.__dict__)


@contextmanager
def _found_beside(folder: Path) -> Iterator[None]:
    """While a file runs, `import helper` finds helper.py next to it, as when Python runs the file; but last in
    sys.path, and only for this file: another one may have a different helper.py."""
    if str(folder) in map(os.path.abspath, sys.path):
        yield
        return
    known = set(sys.modules)
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and not name.startswith(PREFIX) and folder in Path(file).parents:
                del sys.modules[name]


sys.meta_path.append(_UserFiles())


# ---- errors ----


@contextmanager
def told(code: UserCode | Path) -> Iterator[None]:
    """`with told(code):` an exception raised inside the user's file becomes a UserError that names the line."""
    path = code.path if isinstance(code, UserCode) else str(code)
    try:
        yield
    except (UserError, MemoryError):
        raise
    except SyntaxError as error:
        if error.filename != path:
            raise
        raise UserError(f"{path}, line {error.lineno}: {error.msg}{_quoted(error.text)}") from None
    except (Exception, SystemExit) as error:
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        if not inside and isinstance(code, UserCode) and isinstance(error, (TypeError, NotImplementedError)):
            raise UserError(f"{code}: {error}") from None
        if not inside:
            raise
        what = "it ends the program" if isinstance(error, SystemExit) else type(error).__name__
        words = " ".join(str(error).split())
        where = f"{path}, line {inside[-1].lineno}"
        raise UserError(f"{where}: {what}{': ' * bool(words)}{words}{_quoted(inside[-1].line)}") from error


def _quoted(line: str | None) -> str:
    return f"\n  {line.strip()}" if line and line.strip() else ""


def _check_file(path: Path, file: str) -> None:
    if path.is_dir():
        raise UserError(f"{file} is a folder: give a Python file in it")
    if not path.is_file():
        beside = sorted(p.stem for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.stem, beside, n=1)
        where = f" in {path.parent}" if file == path.name else ""
        raise UserError(f"there is no file {file}" + (f": did you mean {path.parent / near[0]}.py?" if near else where))
    if (size := path.stat().st_size) > LARGEST:
        raise UserError(f"{file} is too large for a Python source file: it has {size:,} bytes")
    try:
        path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a Python file: it is not in UTF-8") from None


def _check_name(module: ModuleType, name: str, file: str) -> None:
    if not hasattr(module, name):
        own = _own(module)
        near = difflib.get_close_matches(name, own, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it defines {', '.join(own) or 'no class or function'}"
        raise UserError(f"{file} has no {name!r}: {hint}")
    thing = getattr(module, name)
    if not callable(thing) or isinstance(thing, Module):  # a network made already is callable, too
        kind = type(thing).__name__
        made = ": write a function that returns it" if isinstance(thing, (Module, Optimizer)) else ""
        raise UserError(f"{name!r} in {file} is neither a class nor a function, but of type {kind}{made}")


def _own(module: ModuleType) -> list[str]:
    """The classes and functions that the file itself defines."""
    things = vars(module).items()
    return [name for name, x in things if callable(x) and getattr(x, "__module__", "") == module.__name__]


def own_things(file: str | Path) -> dict[str, Any]:
    """{name: object} of the classes, functions and values that a file defines itself, without what it imports.

    Raises UserError if there is no such file, or it fails.
    """
    path = Path(file).expanduser().absolute()
    _check_file(path, str(file))
    module = _module(path)
    values = {name: x for name, x in vars(module).items() if not callable(x) and not isinstance(x, ModuleType)}
    own = {name: getattr(module, name) for name in _own(module)}
    return {name: x for name, x in {**own, **values}.items() if not name.startswith("_")}


def _some_name(file: str) -> str:
    """A name for an example: one from the file if it exists and runs."""
    path = Path(file).expanduser().absolute()
    own = _own(_module(path)) if path.is_file() else []
    return own[0] if own else "Name"
