"""A submission in its own process, seen from the grader: hand it a call, get back values or the reason why not.

Whatever the student's code does to its process, the worst that reaches this side is a message that can't be read or
none at all. The process is killed when the time is up and after the last call: it is never asked to end.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tutorials.assignments import wire
from tutorials.assignments.assignment import HERE, ROOT, Assignment
from tutorials.assignments.check import Wrong
from tutorials.assignments.handout import handout
from tutorials.assignments.sandbox import Limits, open_to_all

PRINTED = 10_000  # characters of what a submission prints that are kept
MOST_RESTARTS = 5
_START = "import sys; sys.path[:0] = {paths!r}; from tutorials.assignments.worker import main; main(sys.argv[1])"


class Unprotected(Exception):
    """This machine lacks a protection without which no unknown code should run."""


class Session:
    """The worker of one submission. Use it in a `with`: its process and its folder are gone afterwards.

    files   the student's files by their path in the hand-out; everything else there is the hand-out's own
    unsafe  go on where an essential protection is missing
    states  which protections are on, "on" or "off: why"
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
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._unusable = ""
        self._end = time.monotonic() + self.limits.total_seconds
        self._files = files

    def __enter__(self) -> Session:
        self._folder = Path(tempfile.mkdtemp(prefix="minidl-grade-"))
        self._stage, self._log = self._folder / "stage", self._folder / "printed"
        try:
            self._write_stage()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        shutil.rmtree(self._folder)

    @property
    def printed(self) -> str:
        """What the student's code has printed so far."""
        with self._log.open("rb") as file:
            return file.read(PRINTED).decode("utf-8", "replace")

    def call(self, function: str, /, **arguments: Any) -> Any:
        """The value of a function of calls.py. Raises Wrong, with the reason in words, if there is none."""
        if self._process is None:
            self._start()
        return _value(self._ask({"call": function, "arguments": arguments}))

    # ---- the process ----

    def _write_stage(self) -> None:
        calls = {"calls.py": (self.assignment.folder / "calls.py").read_bytes()}
        calls["graph_calls.py"] = (HERE / "graph_calls.py").read_bytes()
        own = {
            path: text.encode()
            for path, text in handout(self.assignment).items()
            if path.endswith(".py") and path not in ("test_public.py", "public.py")
        }
        for path, data in {**own, **self._files, **calls}.items():
            target = self._stage / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        self._log.touch()
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            for each in (self._folder, *self._folder.rglob("*")):
                each.chmod(0o755 if each.is_dir() else 0o644)  # the worker may run as nobody

    def _start(self) -> None:
        if os.name != "posix":
            raise Unprotected("grade on Linux (WSL will do): this system can't hold a program in")
        if self._unusable:
            raise Wrong(self._unusable)
        if self._starts > MOST_RESTARTS:
            raise Wrong("not run: the program had to be ended too often before")
        self._starts += 1
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._requests, False)
        options = {
            "stage": str(self._stage), "requests": requests, "answers": answers, "root": str(ROOT),
            "without": self.without, "limits": dataclasses.asdict(self.limits),
        }  # fmt: skip
        spec = importlib.util.find_spec("numpy")
        assert spec is not None
        assert spec.origin is not None
        paths = [str(ROOT), str(Path(spec.origin).parent.parent)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-u", "-c", _START.format(paths=paths), json.dumps(options)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(requests, answers),
                start_new_session=True, env=_ENVIRONMENT,
            )  # fmt: skip
        os.close(requests)
        os.close(answers)
        self.states = self._read(60)["states"]  # before any line of the student's has run
        missing = self._missing()
        if missing and not self.unsafe:
            self._kill()
            raise Unprotected(
                f"this machine can't hold a program in ({missing}): grade on Linux 5.13 or later, or in a container "
                "made for one submission and with --unsafe"
            )
        try:
            _value(self._ask("go"))
        except Wrong as wrong:
            self._unusable = f"the file can't be loaded: {wrong}"  # and won't be a second time
            self._kill()
            raise Wrong(self._unusable) from None

    def _missing(self) -> str:
        """The essential protections that are off; "" if there are none."""
        off = {name: state for name, state in self.states.items() if state != "on"}
        missing = [f"{name} {off[name]}" for name in ("limits", "seccomp") if name in off]
        if "landlock" in off and ("user" in off or open_to_all(self.assignment.folder / "hidden.py")):
            missing.append(f"hidden tests can be read: landlock {off['landlock']}; user {off.get('user', 'on')}")
        return "; ".join(missing)

    def _ask(self, request: Any) -> Any:
        seconds = min(self.limits.call_seconds, self._end - time.monotonic())
        if seconds <= 0:
            raise Wrong(f"not run: the submission's {self.limits.total_seconds:g} s were used up before")
        deadline = time.monotonic() + seconds
        message = memoryview(wire.pack(request))
        try:
            while message:
                _wait(self._requests, deadline, write=True)
                message = message[os.write(self._requests, message) :]
        except TimeoutError:
            raise Wrong(self._ended(f"no end after {seconds:.2g} s: is there a loop that never ends?")) from None
        except BrokenPipeError:
            raise Wrong(self._ended()) from None
        return self._read(seconds)

    def _read(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds

        def read(n: int) -> bytes:
            data = bytearray()
            while len(data) < n:
                _wait(self._answers, deadline)
                chunk = os.read(self._answers, min(n - len(data), 1 << 16))
                if not chunk:
                    raise EOFError
                data += chunk
            return bytes(data)

        try:
            return wire.unpack(read)
        except TimeoutError:
            raise Wrong(self._ended(f"no answer after {seconds:.2g} s: is there a loop that never ends?")) from None
        except EOFError:
            raise Wrong(self._ended()) from None
        except wire.WireError as error:
            raise Wrong(self._ended(str(error))) from None

    def _ended(self, reason: str = "") -> str:
        """End the process and say why it gave no answer."""
        status = self._kill()
        if reason:
            return reason
        if status == -signal.SIGXCPU:
            return f"ended after {self.limits.cpu_seconds} s of computing: is there a loop that never ends?"
        if status < 0:
            return f"the program crashed ({signal.Signals(-status).name}): endless recursion, or far too much memory?"
        return f"the program ended itself (exit status {status}) before it gave an answer: is there an exit in it?"

    def _kill(self) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        try:
            status = process.wait(0.2) if _hung_up(self._answers) else None
        except subprocess.TimeoutExpired:
            status = None
        if status is None:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        os.close(self._requests)
        os.close(self._answers)
        return status


_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin",
}  # fmt: skip


def _value(reply: Any) -> Any:
    """What a reply holds. It comes from the student's process: it may be anything."""
    if not isinstance(reply, dict) or not ({"value", "error"} & reply.keys()):
        raise Wrong("the program sent something that is no answer")
    if "value" in reply:
        return reply["value"]
    error, message, where = (str(reply.get(key, "")) for key in ("error", "message", "where"))
    if error == "NotImplementedError" and "is yours to write" in message:
        raise Wrong(f"not written yet: {message}")
    said = f"{error}: {message}" if message else error
    raise Wrong(said + (f" ({where})" if where else "") + _HINTS.get(error, ""))


_HINTS = {
    "SystemExit": '\nYour file ends the program: remove the exit, or move it below `if __name__ == "__main__":`.',
    "PermissionError": "\nWhile it is graded your code can't start programs, use the network, or touch other files.",
    "MemoryError": "\nMore memory than a right answer could need: look at the shapes.",
    "RecursionError": "\nA function calls itself without end, or a graph is walked by recursion.",
    "ModuleNotFoundError": "\nYour code may import the standard library, NumPy and the hand-out.",
}


def _wait(descriptor: int, deadline: float, write: bool = False) -> None:
    left = deadline - time.monotonic()
    watch = select.poll()
    watch.register(descriptor, select.POLLOUT if write else select.POLLIN)
    if left <= 0 or not watch.poll(left * 1000):
        raise TimeoutError


def _hung_up(descriptor: int) -> bool:
    """Whether the other side has closed the pipe, as a process does that has ended."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in watch.poll(0))
