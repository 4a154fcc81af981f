"""The student's process: it calls the student's functions and sends back what they return. It has no answers.

It first gives up everything that the code does not need (sandbox.py), then loads calls.py, which imports the student's
files, then serves one call after another: the name of a function in calls.py and its arguments come in, a value or an
error goes out. The right answers, the marks and the next requests stay with the parent (session.py).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tutorials.assignments import sandbox, wire


def main(argument: str) -> None:
    """Serve calls until the parent closes the pipe. `argument` is JSON, from process.py."""
    options = json.loads(argument)
    stage = Path(options["stage"])
    requests, answers = os.fdopen(options["requests"], "rb"), os.fdopen(options["answers"], "wb")
    readable = [stage, *python_files(), *numpy_files()]
    states = sandbox.enter(sandbox.Limits(**options["limits"]), readable, python_folders(), options["without"])
    _send(answers, {"states": states})
    if _receive(requests) != "go":
        return
    gone = options["root"], str(Path(np.__file__).parent.parent)  # NumPy, imported, finds its parts; no other library
    sys.path[:] = [str(stage), *(p for p in sys.path if p not in gone)]
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "minidl"]:
        del sys.modules[name]
    os.chdir(stage)
    watch = _Watch(stage, options["files"], lambda what: _send(answers, what))
    sys.meta_path.insert(0, watch)
    try:
        calls = importlib.import_module("calls")
        _send(answers, {"value": None})
    except BaseException as error:
        _send(answers, _report(error, stage, watch.files) | {"unloaded": True, "file": watch.of(error)})
        return
    sys.meta_path.remove(watch)

    def ask(part: str, *arguments: Any) -> Any:
        _send(answers, {"ask": part, "arguments": list(arguments)})
        return _receive(requests)["value"]

    importlib.import_module("part_calls").__dict__["ask"] = ask
    while True:
        request = _receive(requests)
        try:
            reply = {"value": getattr(calls, request["call"])(**request["arguments"])}
            message = wire.pack(reply)
        except BaseException as error:  # sys.exit() and the like are reported, too
            message = wire.pack(_report(error, stage, watch.files))
        answers.write(message)
        answers.flush()


def python_folders() -> list[Path]:
    """Where the standard library is."""
    return sorted({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})


def python_files() -> list[Path]:
    """The standard library and the system's libraries, without installed packages."""
    inside = [p for folder in python_folders() for p in folder.iterdir()]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom"]
    return [*(p for p in inside if p.name not in ("site-packages", "dist-packages")), *map(Path, system)]


def numpy_files() -> list[Path]:
    """The folders of NumPy and of the libraries bundled with it."""
    folder = Path(np.__file__).parent
    return [folder, folder.with_name("numpy.libs")]


class _Watch(MetaPathFinder):
    """Reports which of the student's files is being imported, so that a loop or an exit is attributed to it."""

    def __init__(self, stage: Path, files: list[str], tell: Callable[[Any], None]) -> None:
        self.files = {str(stage / path): path for path in files}
        self.tell = tell

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin not in self.files:
            return None
        spec.loader = _Telling(fullname, spec.origin, self.files[spec.origin], self.tell)
        return spec

    def of(self, error: BaseException) -> str:
        """The file that an ImportError is about, which lacks a name that another file imports; "" if there is none."""
        return self.files.get(getattr(error, "path", None) or "", "")


class _Telling(SourceFileLoader):
    def __init__(self, fullname: str, path: str, name: str, tell: Callable[[Any], None]) -> None:
        super().__init__(fullname, path)
        self._name, self._tell = name, tell

    def exec_module(self, module: ModuleType) -> None:
        self._tell({"loading": self._name})
        super().exec_module(module)
        self._tell({"loaded": self._name})


_CALLS = ("calls.py", "graph_calls.py", "part_calls.py")


def _report(error: BaseException, stage: Path, own: Collection[str]) -> dict[str, str]:
    """The error, for the student: its type, its message, and the line that raised it.

    own  the student's files. The line is in one of them if the error passed through any, otherwise in the hand-out's
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(f"{stage}{os.sep}") and Path(f.filename).name not in _CALLS]
    where, line = "", ""
    for frame in [f for f in ours if f.filename in own][-1:] or ours[-1:]:
        where, line = f"{frame.filename[len(str(stage)) + 1 :]}, line {frame.lineno}", frame.line or ""
    message = str(error).replace(f"{stage}{os.sep}", "")
    if isinstance(error, SyntaxError) and error.filename:
        where, line = f"{Path(error.filename).name}, line {error.lineno}", error.text or ""
    elif isinstance(error, ImportError):
        message = message.partition(f" ({stage}")[0]  # the grader's path means nothing to the student
    return {"error": type(error).__name__, "message": message[:500], "where": where, "line": line[:300]}


def _send(file: Any, value: Any) -> None:
    file.write(wire.pack(value))
    file.flush()


def _receive(file: Any) -> Any:
    def read(n: int) -> bytes:
        data: bytes = file.read(n)
        if len(data) < n:
            os._exit(0)  # the parent has closed the pipe
        return data

    return wire.unpack(read)
