"""The process that a submission runs in, as seen from the grader: it gets a message and sends an answer, or none.

Whatever the student's code does to its process, the worst that reaches the grader is an unreadable message or none at
all. The process is killed when its time is up and after the last call; it is never asked to exit.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tutorials.assignments import wire
from tutorials.assignments.assignment import ROOT
from tutorials.assignments.output import Output, TooMuch
from tutorials.assignments.sandbox import Limits

_START = "import sys; sys.path[:0] = {paths!r}; from tutorials.assignments.worker import main; main(sys.argv[1])"
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin",
}  # fmt: skip
Parts = Mapping[str, Callable[..., Any]]
_MOST_TOLD = 1000  # messages about files being loaded: more is a forgery
_LOOK_SECONDS = 0.05  # between two checks of a process: meanwhile a bomb starts a thousand threads at most


_CRASHES = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGKILL"}  # by name: Windows lacks some


class Gone(Exception):
    """The process ended without an answer; the message says why.

    slow  it was killed for exceeding a limit of time, output or threads
    """

    def __init__(self, reason: str, slow: bool = False) -> None:
        super().__init__(reason)
        self.slow = slow


stopping = threading.Event()  # set when a signal or an error ends the grading: every process ends, without an answer


class Interrupted(BaseException):
    """The grader stops; not an Exception, so no item takes it for the student's mistake."""


class _TooMany(Exception):
    """The process has more threads than a right answer could need."""


class Process:
    """One worker.

    stage    the folder with the student's files and the hand-out's
    files    the student's files in it
    states   which protections are on, known before any of the student's code has run
    loading  files whose import has started but not finished, the innermost last
    """

    def __init__(
        self, stage: Path, files: Sequence[str], limits: Limits, without: Iterable[str], output: Output
    ) -> None:
        self.limits, self.output, self._files, self._next_look = limits, output, list(files), 0.0
        self.loading: list[str] = []
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._requests, False)
        options = {
            "stage": str(stage), "files": list(files), "requests": requests, "answers": answers, "root": str(ROOT),
            "without": list(without), "limits": dataclasses.asdict(limits),
        }  # fmt: skip
        spec = importlib.util.find_spec("numpy")
        assert spec is not None
        assert spec.origin is not None
        paths = [str(ROOT), str(Path(spec.origin).parent.parent)]
        printing = output.open()
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-u", "-c", _START.format(paths=paths), json.dumps(options)],
            stdin=subprocess.DEVNULL, stdout=printing, stderr=printing, pass_fds=(requests, answers),
            start_new_session=True, env=_ENVIRONMENT,
        )  # fmt: skip
        for descriptor in (requests, answers, printing):
            os.close(descriptor)
        self.states: dict[str, str] = self._receive(60)["states"]

    @property
    def alive(self) -> bool:
        """Whether it can be sent requests."""
        return self._process is not None

    def load(self, seconds: float) -> Any:
        """Import the student's files; returns the worker's reply. Raises Gone."""
        self._send("go", seconds)
        end = time.monotonic() + seconds
        for _ in range(_MOST_TOLD):
            reply = self._receive(end - time.monotonic())
            if isinstance(reply, dict) and reply.get("loading") in self._files:
                self.loading.append(reply["loading"])
            elif isinstance(reply, dict) and "loaded" in reply:
                if reply["loaded"] in self.loading:
                    del self.loading[self.loading.index(reply["loaded"]) :]
            else:
                return reply
        raise Gone(self._end("the program sent something that is not an answer"))

    def ask(self, request: Any, seconds: float, parts: Parts | None = None) -> Any:
        """The answer to a request; before that, the worker may ask for the given parts. Raises Gone."""
        self._send(request, seconds)
        end = time.monotonic() + seconds
        while True:
            reply = self._receive(end - time.monotonic())
            if not (parts and isinstance(reply, dict) and "ask" in reply):
                return reply
            self._send(_computed(reply, parts), end - time.monotonic())

    def kill(self) -> int:
        """Kill the process with its threads; returns its exit status."""
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
        self.output.close()
        return status

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        """Like Output.wait, but checks the number of threads now and then. Raises _TooMany if there are too many,
        and Interrupted."""
        while True:
            if stopping.is_set():
                self.kill()
                raise Interrupted
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + _LOOK_SECONDS
                if self._process is not None and _threads(self._process.pid) > self.limits.threads:
                    raise _TooMany
            try:
                return self.output.wait(descriptor, event, min(deadline, self._next_look))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise

    def _send(self, request: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        message = memoryview(wire.pack(request))
        try:
            while message:
                self._wait(self._requests, select.POLLOUT, deadline)
                message = message[os.write(self._requests, message) :]
        except TimeoutError:
            raise Gone(self._end(_endless(seconds)), slow=True) from None
        except TooMuch:
            raise Gone(self._end(self._printed_too_much()), slow=True) from None
        except _TooMany:
            raise Gone(self._end(f"it started more than {self.limits.threads} threads"), slow=True) from None
        except BrokenPipeError:
            raise Gone(self._end()) from None

    def _receive(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds

        def read(n: int) -> bytes:
            data = bytearray()
            while len(data) < n:
                self._wait(self._answers, select.POLLIN, deadline)
                chunk = os.read(self._answers, min(n - len(data), 1 << 16))
                if not chunk:
                    raise EOFError
                data += chunk
            return bytes(data)

        try:
            return wire.unpack(read)
        except TimeoutError:
            raise Gone(self._end(_endless(seconds)), slow=True) from None
        except TooMuch:
            raise Gone(self._end(self._printed_too_much()), slow=True) from None
        except _TooMany:
            raise Gone(self._end(f"it started more than {self.limits.threads} threads"), slow=True) from None
        except EOFError:
            raise Gone(self._end()) from None
        except wire.WireError as error:
            raise Gone(self._end(str(error))) from None

    def _end(self, reason: str = "") -> str:
        """Kill the process and return the reason why there is no answer."""
        status = self.kill()
        if reason:
            return reason
        if status == -signal.SIGXCPU:
            return f"stopped after {self.limits.cpu_seconds} s of CPU time: is there an infinite loop?"
        if status < 0:
            name = _name(-status)
            likely = "infinite recursion, or far too much memory" if name in _CRASHES else "does it set a timer"
            return f"the program crashed ({name}): {likely}?"
        return f"the program exited (status {status}) before it gave an answer: does it call exit?"

    def _printed_too_much(self) -> str:
        return f"it printed more than {self.output.most >> 20} MB: is there a print in an infinite loop?"


def _computed(question: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """What the grader computes for a part. The arguments come from the student's process and may be anything."""
    try:
        arguments = question["arguments"]
        if not all(_is_small(each) for each in arguments):
            return {"value": None}
        reply = {"value": parts[question["ask"]](*arguments)}
        wire.pack(reply)
    except Exception:
        return {"value": None}
    return reply


def _is_small(value: Any) -> bool:
    """Whether an argument has a size that the items use: a large shape or border would exhaust our memory."""
    if isinstance(value, np.ndarray):
        return value.size <= 10_000
    if isinstance(value, list):
        whole = [abs(each) for each in value if isinstance(each, int)]
        return len(value) <= 16 and all(map(_is_small, value)) and math.prod(n for n in whole if n) <= 10_000
    return not isinstance(value, int) or abs(value) <= 20


def _endless(seconds: float) -> str:
    return f"no answer after {max(seconds, 0):.2g} s: is there an infinite loop?"


def _name(number: int) -> str:
    """A signal's name, or its number if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _threads(pid: int) -> int:
    """The number of threads of a process, from the folders in /proc; 0 if that can't be read."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def _hung_up(descriptor: int) -> bool:
    """Whether the other side has closed the pipe, as when its process has ended."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in watch.poll(0))
