"""A running submission: give it a call, and get back values or, in words for the student, the reason why not.

A file that can't be loaded affects only its own items: the hand-out's version replaces it, and the rest is graded.
"""

from __future__ import annotations

import marshal
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import Any

from tutorials.assignments.assignment import HERE, Assignment
from tutorials.assignments.check import Raised, Wrong
from tutorials.assignments.handout import handout
from tutorials.assignments.output import Output
from tutorials.assignments.process import Gone, Parts, Process
from tutorials.assignments.said import explained, tame
from tutorials.assignments.sandbox import Limits, is_on, open_to_all
from tutorials.assignments.text import as_utf8

HURRIED = 0.2  # of the time limit for a call, once one call has not ended
MOST_PATIENT = 8.0  # times as long as on an idle machine


class Unprotected(Exception):
    """This machine lacks a protection that is needed to run unknown code."""


class Session:
    """The worker of one submission. Use it in a `with`: its process and its folder are removed afterwards.

    files   the student's files by their path in the hand-out; all other files are the hand-out's
    unsafe  continue even if an essential protection is missing
    states  which protections are on: "on", "on, but ..." or "off: why"
    broken  files that could not be loaded -> why. The hand-out's versions replace them
    """

    def __init__(
        self,
        assignment: Assignment,
        files: Mapping[str, bytes],
        limits: Limits | None = None,
        unsafe: bool = False,
        without: Iterable[str] = (),
    ) -> None:
        self.assignment, self.limits, self.unsafe = assignment, limits or Limits(), unsafe
        self.without = list(without)
        self.states: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.output = Output(self.limits.printed)
        self._files = dict(files)
        self._process: Process | None = None
        self._begun = time.monotonic()
        self._hurried = False
        self._given: Parts = {}
        self._told: set[str] = set()

    def __enter__(self) -> Session:
        self._folder = Path(tempfile.mkdtemp(prefix="minidl-grade-"))
        self._stage = self._folder / "stage"
        try:
            self._write_stage()
        except BaseException as error:
            shutil.rmtree(self._folder)
            if isinstance(error, OSError):  # if the disk is full, it names no file
                raise OSError(error.errno, error.strerror, str(self._folder)) from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        shutil.rmtree(self._folder)

    @property
    def printed(self) -> str:
        """The beginning of what the student's code has printed so far."""
        return self.output.text

    def call(self, function: str, /, **arguments: Any) -> Any:
        """The value of a function of calls.py. Raises Wrong, with the reason, if there is none."""
        process = self._running()
        try:
            reply = process.ask({"call": function, "arguments": arguments}, self._seconds(), self._given)
        except Gone as gone:
            self._hurried |= gone.slow
            raise Wrong(str(gone)) from None
        return self._value(reply)

    def give(self, parts: Parts) -> None:
        """Compute these parts here from now on; all others are the student's own."""
        if parts or self._given:
            self._given = dict(parts)
            self.call("give_parts", names=list(parts))

    # ---- the stage ----

    def _write_stage(self) -> None:
        self._handout = {
            path: text.encode()
            for path, text in handout(self.assignment).items()
            if path.endswith(".py") and path not in ("test_public.py", "public.py")
        }
        calls = {"calls.py": (self.assignment.folder / "calls.py").read_bytes()}
        calls |= {name: (HERE / name).read_bytes() for name in ("graph_calls.py", "part_calls.py")}
        own = {path: as_utf8(data) for path, data in self._files.items()}
        for path, data in {**self._handout, **own, **calls}.items():
            self._write(path, data)
            if path not in own:
                self._write(*_bytecode(path, data))
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            for each in (self._folder, *self._folder.rglob("*")):
                each.chmod(0o755 if each.is_dir() else 0o644)  # the worker may run as nobody

    def _write(self, path: str, data: bytes) -> None:
        target = self._stage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    # ---- the process ----

    def _running(self) -> Process:
        """A process that has loaded every file that can be loaded."""
        if self._process is not None and self._process.alive:
            return self._process
        if os.name != "posix":
            raise Unprotected("grade on Linux (WSL is fine): this system can't sandbox a program")
        while True:
            process, seconds = self._started(), self._seconds()
            try:
                self._value(process.load(seconds))
                return process
            except Gone as gone:
                reason, culprit = str(gone), ""
            except Wrong as wrong:
                reason, culprit = str(wrong), wrong.file if isinstance(wrong, _NotLoaded) else ""
            self._kill()
            if not self._files:
                raise Wrong(f"the hand-out itself can't be loaded: {reason}")
            self._replace(self._culprit(culprit, process.loading), reason)

    def _started(self) -> Process:
        """A new process, with its protections checked."""
        self._seconds()
        try:
            process = Process(self._stage, list(self._files), self.limits, self.without, self.output)
        except Gone as gone:
            raise Unprotected(f"the sandbox can't be started: {gone}") from None
        self._process, self.states = process, process.states
        missing = self.missing()
        if missing and not self.unsafe:
            self._kill()
            raise Unprotected(
                f"this machine can't sandbox a program ({missing}): grade on Linux 5.13 or later, or use --unsafe in "
                "a container made for one submission"
            )
        return process

    def _culprit(self, told: str, loading: list[str]) -> list[str]:
        """The file that can't be loaded; all files if that is not known."""
        for path in (told, *reversed(loading)):
            if path in self._files:
                return [path]
        return list(self._files)

    def _replace(self, paths: list[str], reason: str) -> None:
        for path in paths:
            self.broken[path] = reason
            del self._files[path]
            self._write(path, self._handout[path])

    def missing(self) -> str:
        """The essential protections that are off; "" if none are."""
        off = {name: state for name, state in self.states.items() if not is_on(state)}
        missing = [f"{name} {off[name]}" for name in ("limits", "seccomp") if name in off]
        if "landlock" in off and ("user" in off or open_to_all(self.assignment.folder / "hidden.py")):
            missing.append(f"hidden tests can be read: landlock {off['landlock']}; user {off.get('user', 'on')}")
        return "; ".join(missing)

    def _seconds(self) -> float:
        """The time limit for the next call. Raises Wrong if the submission's time is up."""
        patience, limits = _programs_per_core(), self.limits
        left = self._begun + patience * limits.total_seconds - time.monotonic()
        if left <= 0:
            raise Wrong(f"not run: the submission had already used up its {patience * limits.total_seconds:.2g} s")
        return min(patience * limits.call_seconds * (HURRIED if self._hurried else 1), left)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    # ---- what it says ----

    def _value(self, reply: Any) -> Any:
        """The value in a reply. It comes from the student's process and may be anything."""
        if not isinstance(reply, dict) or not ({"value", "error"} & reply.keys()):
            raise Wrong("the program sent something that is not an answer")
        if "value" in reply:
            try:
                return tame(reply["value"])
            except RecursionError:
                raise Wrong("the program sent something that is not an answer") from None
        error = {key: str(reply.get(key, "")) for key in ("error", "message", "where", "line", "file")}
        if error["error"] == "NotImplementedError" and "is yours to write" in error["message"]:
            raise Wrong(self._unwritten(error["message"]))
        if reply.get("unloaded"):
            raise _NotLoaded(explained(error), error["file"])
        raise Raised(explained(error))

    def _unwritten(self, message: str) -> str:
        """Why a function is empty: its file is missing or can't be loaded, or the function was not written."""
        for path, functions in self.assignment.cuts.items():
            if any(f": {name} is yours" in message for name in functions):
                if path in self.broken:
                    first = path not in self._told
                    self._told.add(path)
                    return f"the file can't be loaded: {self.broken[path] if first else f'{path}, see above'}"
                if path not in self._files:
                    return f"not handed in: {path}, which must contain {message.partition(': ')[2].partition(' is')[0]}"
        return f"not written yet: {tame(message)}"


class _NotLoaded(Wrong):
    """The student's files can't be imported because of `file` ("" if it is not known)."""

    def __init__(self, reason: str, file: str) -> None:
        super().__init__(reason)
        self.file = file


@cache
def _bytecode(path: str, source: bytes) -> tuple[str, bytes]:
    """The path and the contents of a .pyc that Python uses unchecked (PEP 552): shared files are compiled only once."""
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    place = Path(path).parent / "__pycache__" / f"{Path(path).stem}.{sys.implementation.cache_tag}.pyc"
    return str(place), MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + marshal.dumps(code)


def _programs_per_core() -> float:
    """A factor from 1 to 8: on a busy machine a right answer takes that much longer, and must not fail for it."""
    return min(max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0), MOST_PATIENT)
