"""Hostile submissions and plain accidents: each gets the marks that it deserves, and leaves the machine as it was.

A right answer that also does harm is graded as right, with the harm kept in: it prints ESCAPED where it gets through.
One that answers nothing gets nothing, however it ends.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.commands import ROOT
from tests.submissions import submission, with_bodies, with_preface, write
from tutorials.assignments.assignment import HERE, load, load_hidden
from tutorials.assignments.check import Wrong
from tutorials.assignments.marking import Report, grade
from tutorials.assignments.process import _computed
from tutorials.assignments.sandbox import Limits
from tutorials.assignments.session import Session

if sys.platform != "linux":
    pytest.skip("seccomp and Landlock are Linux's", allow_module_level=True)

A2, ADAM = load("A2"), "optim/adam.py"
ADAM_MARKS = 10 + 10 + 15 + 10 + 10 + 5  # of the items that need optim/adam.py
NO_RULE = 60  # what is left where Adam.rule gives nothing: SGD, moments and AdamW.decayed
PATIENT, SHORT = Limits(call_seconds=60, total_seconds=120), Limits(call_seconds=1, total_seconds=6, cpu_seconds=8)


@dataclass
class Attack:
    """Code before a submission's own: before the right answer (then all marks are due) or before the bare hand-out."""

    code: str = ""
    score: int = 100
    said: str = ""  # in the feedback
    bare: bool = False
    body: str = ""  # instead of code: the body of a function
    function: str = "A2 Adam.rule"
    limits: Limits = field(default_factory=lambda: PATIENT)


TRY = """
def attempt(what):
    try:
        result = what()
    except BaseException as error:
        print(type(error).__name__, error)
    else:
        print("ESCAPED", result)
"""
PERFECT = '{"score": 100, "tests": [{"score": 100, "max_score": 100, "status": "passed"}]}'


def harmless(code: str) -> Attack:
    """A right answer that tries something first; it must not get through."""
    return Attack(TRY + code)


def ended(code: str, score: int = 100 - ADAM_MARKS, said: str = "", **more: object) -> Attack:
    """A right answer whose optim/adam.py can't be loaded: the other file is graded all the same."""
    return Attack(code, score, said, **more)  # type: ignore[arg-type]


def attacks(victim: Path) -> dict[str, Attack]:
    """`victim` is a folder of somebody else's, with a file `marks.csv` in it."""
    marks, pid = f"{str(victim / 'marks.csv')!r}", os.getpid()
    return {
        # ---- getting marks for nothing ----
        "exit at import": ended("import sys; sys.exit(0)", said="SystemExit"),
        "hard exit at import": ended("import os; os._exit(0)", said="exited (status 0)"),
        "exit inside a function": Attack(body="import sys; sys.exit(0)", score=NO_RULE, said="remove the exit"),
        "hard exit inside a function": Attack(body="import os; os._exit(0)", score=NO_RULE, said="exited (status 0)"),
        "exit at the end": ended("import atexit, os; atexit.register(os._exit, 0)", 100),
        "perfect results on the screen": Attack(f"print('''{PERFECT}''')", 0, "is yours to write", bare=True),
        "perfect results in a file": Attack(TRY + f"""
import os
for place in ("results.json", "../results.json", "/autograder/results/results.json", {str(victim / "results.json")!r}):
    attempt(lambda: open(place, "w").write('''{PERFECT}'''))
""", 0, "is yours to write", bare=True),
        "numpy.testing patched": Attack("""
import numpy, numpy.testing
numpy.testing.assert_allclose = numpy.testing.assert_array_equal = lambda *a, **k: None
numpy.allclose = numpy.array_equal = lambda *a, **k: True
numpy.abs = lambda x, **k: x * 0
""", 0, "is yours to write", bare=True),
        "an array that equals everything": Attack(body="""
            class Equal(np.ndarray):
                __array_priority__ = 1e9
                __eq__ = __le__ = __lt__ = lambda self, other: np.True_
                __sub__ = __rsub__ = lambda self, other: np.zeros(self.shape)
                def all(self, *args, **more):
                    return True
            return record("mul", np.zeros((3, 4)).view(Equal), (a, lambda g: g), (b, lambda g: g))
        """, function="A1 mul", score=96, said="expected dtype float32"),
        "forged answers": ended("""
import os
from tutorials.assignments import wire
for descriptor in range(3, 64):
    try:
        os.write(descriptor, wire.pack({"value": True}) * 100)
    except OSError:
        pass
""", 0),
        "garbage on the wire": ended("""
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, b"\\xff" * 64)
    except OSError:
        pass
""", said="too large"),
        "modules replaced": Attack("""
import sys, types
for name in ("numpy.testing", "tutorials.assignments.wire", "tutorials.assignments.check", "json", "pytest"):
    sys.modules[name] = types.ModuleType(name)
""", 0, "is yours to write", bare=True),
        "the worker's own functions replaced": Attack("""
import sys
wire = sys.modules["tutorials.assignments.wire"]
pack = wire.pack
wire.pack = lambda value: pack({"value": None})
""", 0, "", bare=True),
        # ---- reading ----
        "reads the hidden tests": harmless(f"""
import glob, os
attempt(lambda: open({str(HERE / "A2" / "hidden.py")!r}).read())
attempt(lambda: os.listdir({str(HERE)!r}))
attempt(lambda: glob.glob({str(HERE / "*")!r})[0])
attempt(lambda: open("../hidden.py").read())
attempt(lambda: __import__("tutorials.assignments.A2.hidden"))
attempt(lambda: __import__("tutorials.assignments.marking"))
"""),
        "reads the installed library": harmless("""
import os, sys, sysconfig
site = sysconfig.get_path("purelib")
attempt(lambda: open(os.path.join(site, "pip", "__init__.py")).read())
attempt(lambda: open(os.path.join(site, "minidl", "tensor.py")).read())
attempt(lambda: __import__("pip"))
attempt(lambda: __import__("matplotlib"))
"""),
        "reads what is not its own": harmless(f"""
import os
attempt(lambda: open("/etc/passwd").read())
attempt(lambda: os.listdir("/tmp"))
attempt(lambda: open("/proc/{pid}/environ", "rb").read())
attempt(lambda: open("/proc/self/status").read())
attempt(lambda: open({marks}).read())
attempt(lambda: os.environ["SECRET_OF_THE_TEACHER"])
"""),
        # ---- writing ----
        "writes files": harmless(f"""
import os, tempfile
for place in ("/tmp/minidl-was-here", "/dev/shm/minidl-was-here", "minidl-was-here", {marks}, __file__, os.__file__):
    attempt(lambda: open(place, "r+").write("x"))
    attempt(lambda: open(place, "a").write("x"))
    attempt(lambda: os.truncate(place, 0))
    attempt(lambda: os.open(place, os.O_RDONLY | os.O_TRUNC))
    attempt(lambda: os.chmod(place, 0o777))
    attempt(lambda: os.utime(place, (0, 0)))
    attempt(lambda: os.rename(place, place + "2"))
    attempt(lambda: os.link(place, place + "2"))
    attempt(lambda: os.unlink(place))
attempt(lambda: os.mkdir("/tmp/minidl-was-here"))
attempt(lambda: os.symlink("/etc", "here"))
attempt(lambda: os.mkfifo("here"))
attempt(lambda: os.setxattr({marks}, "user.x", b"x"))
attempt(lambda: tempfile.TemporaryFile())
"""),
        "memory that outlives it": harmless("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
attempt(lambda: check(libc.shmget(4711, 1 << 20, 0o1666)))
attempt(lambda: check(libc.semget(4711, 1, 0o1666)))
attempt(lambda: check(libc.msgget(4711, 0o1666)))
attempt(lambda: os.memfd_create("x"))
attempt(lambda: __import__("multiprocessing.shared_memory").shared_memory.SharedMemory(create=True, size=100))
"""),
        # ---- processes ----
        "a fork bomb": ended("""
import os
while True:
    os.fork()
""", said="can't start programs"),
        "a fork bomb that goes on": ended("""
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""", said="an infinite loop", limits=SHORT),
        "a daemon": harmless("""
import os, subprocess, multiprocessing, ctypes
attempt(lambda: os.fork())
attempt(lambda: os.forkpty())
attempt(lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt(lambda: os.execv("/bin/true", ["true"]))
attempt(lambda: 1 / (os.system("true") == 0))
attempt(lambda: subprocess.run(["sleep", "1000"], start_new_session=True))
attempt(lambda: multiprocessing.Process(target=print).start())
libc = ctypes.CDLL(None, use_errno=True)
attempt(lambda: 1 / (libc.vfork() + 1))
attempt(lambda: 1 / (libc.syscall(435, bytes(88), 88) + 1))  # clone3
attempt(lambda: 1 / (libc.unshare(0x10000000) + 1))
"""),
        "kills and traces the grader": harmless(f"""
import ctypes, os, signal, resource
libc = ctypes.CDLL(None, use_errno=True)
for target in ({pid}, os.getppid(), -1, 0, -os.getpgid(os.getppid())):
    attempt(lambda: os.kill(target, signal.SIGKILL))
    attempt(lambda: os.kill(target, 0))
attempt(lambda: os.pidfd_open({pid}))
attempt(lambda: signal.pidfd_send_signal(0, 9))
attempt(lambda: resource.prlimit({pid}, resource.RLIMIT_CPU, (1, 1)))
attempt(lambda: os.setpriority(os.PRIO_PROCESS, {pid}, 19))
attempt(lambda: os.sched_setaffinity({pid}, {{0}}))
attempt(lambda: 1 / (libc.ptrace(16, {pid}, 0, 0) + 1))
attempt(lambda: 1 / (libc.syscall(310, {pid}, 0, 0, 0, 0, 0) + 1))
"""),
        "raises its own limits": harmless("""
import resource, os
assert resource.getrlimit(resource.RLIMIT_SIGPENDING)[1] <= 64, "waiting signals share one pool of all of a user's"
for name in ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_SIGPENDING"):
    limit = getattr(resource, name)
    attempt(lambda: resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
attempt(lambda: os.setuid(0) if os.getuid() else 1 / 0)
"""),
        "the network": harmless("""
import socket, urllib.request
attempt(lambda: socket.socket())
attempt(lambda: socket.socket(socket.AF_UNIX))
attempt(lambda: socket.create_connection(("127.0.0.1", 22), 1))
attempt(lambda: urllib.request.urlopen("http://127.0.0.1:1", timeout=1))
"""),
        "deaf to signals": ended("""
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)
""", said="an infinite loop", limits=SHORT),
        "a thread that never ends": ended("""
import threading, time
threading.Thread(target=time.sleep, args=(10**6,)).start()
""", 100),
        "threads without end": ended("""
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(10**6,)).start()
""", said="thread"),
        "threads without end, each small": ended("""
import threading, time
threading.stack_size(1 << 16)
while True:
    threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
""", said="it started more than 64 threads"),
        "threads without end, while it answers": ended("""
import os, struct, sys, threading, time
threading.stack_size(1 << 16)
frames = sys._getframe()
while "answers" not in frames.f_locals:
    frames = frames.f_back
def bomb():
    while True:
        threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
threading.Thread(target=bomb, daemon=True).start()
wire = sys.modules["tutorials.assignments.wire"]
while True:
    frames.f_locals["answers"].write(wire.pack({"loading": ADAM}))
    frames.f_locals["answers"].flush()
    time.sleep(0.01)
""".replace("ADAM", repr(ADAM)), said="more than 64 threads"),
        "a pool of threads is none": ended("""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(32) as pool:
    assert sum(pool.map(abs, range(-99, 1))) == 4950
""", 100),
        "ended by a signal without a name": ended("import os; os.kill(os.getpid(), 40)", said="crashed (signal 40)"),
        "timers that end it": ended("""
import signal, time
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while True:
    time.sleep(1)
""", said="SIGALRM"),
        # ---- too much ----
        "the grader's memory, by files told": Attack("""
import os, sys
frames = sys._getframe()
while "answers" not in frames.f_locals:
    frames = frames.f_back
wire = sys.modules["tutorials.assignments.wire"]
message = wire.pack({"loading": "x" * (15 << 20)})
while True:
    frames.f_locals["answers"].write(message)
""", 100 - ADAM_MARKS, "not an answer"),
        "a loop that never ends, at import": ended("while True: pass", said="an infinite loop", limits=SHORT),
        "a loop that never ends, in a function": Attack(body="while True: pass", score=90, said="stopped after 1 s",
                                                     function="A2 AdamW.decayed",
                                                     limits=Limits(call_seconds=60, total_seconds=120, cpu_seconds=1)),
        "memory without end": ended("x = []\nwhile True: x.append(bytearray(1 << 24))", said="more memory than",
                                    limits=replace(PATIENT, memory=768 << 20)),
        "one huge array": Attack(body="import numpy as np; np.ones((1 << 40,))", score=NO_RULE, said="more memory"),
        "a huge answer": Attack(body="import numpy as np; m.resize(1 << 25, refcheck=False)", score=NO_RULE, said=""),
        "output without end": ended("while True: print('perfect ' * 100)", said="it printed more than 64 MB"),
        "recursion without end": Attack(body="self.rule(g, p, lr, m, v)", score=NO_RULE, said="RecursionError"),
        "the stack overflows": Attack(body="""
            import sys
            sys.setrecursionlimit(10**9)
            class Endless:
                __repr__ = lambda self: repr(self)
            repr(Endless())
        """, score=NO_RULE),
        "a crash": Attack(body="import ctypes; ctypes.string_at(0)", score=NO_RULE, said="crashed (SIGSEGV)"),
        "an abort": Attack(body="import os; os.abort()", score=NO_RULE, said="crashed (SIGABRT)"),
        # ---- answers that are none ----
        "NaN": Attack(body="p[...] = float('nan')", score=NO_RULE + 5, said="There is a NaN or an infinity"),
        "a lambda": Attack("import numpy; copy = numpy.array\nnumpy.array = lambda *a, **k: (lambda: 0)", 0, bare=True),
        "objects": Attack("import numpy; numpy.array = lambda *a, **k: numpy.ndarray((1,), object)", 0, bare=True),
    }  # fmt: skip


@pytest.fixture(scope="module")
def victim(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "marks.csv").write_text("somebody,1\n")
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def reports(victim, scratch) -> dict[str, Report]:
    """All attacks graded, four at a time: most of their time is waiting."""
    before = tempfile.tempdir
    tempfile.tempdir = str(scratch)
    os.environ["SECRET_OF_THE_TEACHER"] = "42"

    def one(attack: Attack) -> Report:
        assignment, function = attack.function.split()
        if attack.body:
            files = with_bodies(assignment, {function: attack.body})
        else:
            files = with_preface("A2", ADAM, attack.code, attack.bare)
        return grade(load(assignment), submission(files), limits=attack.limits)

    try:
        table = attacks(victim)
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(table, pool.map(one, table.values()), strict=True))
    finally:
        tempfile.tempdir = before
        del os.environ["SECRET_OF_THE_TEACHER"]


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_the_mark_is_the_one_deserved(reports, victim, name):
    attack, report = attacks(victim)[name], reports[name]
    feedback = "\n".join(mark.feedback for mark in report.marks)
    assert report.score == attack.score, feedback + report.printed
    assert attack.said in feedback
    assert "ESCAPED" not in report.printed
    if "attempt(" in attack.code:
        assert report.printed, "the attack was not even tried"
    assert {report.protections[k] for k in ("limits", "landlock", "seccomp")} == {"on"}
    assert len(report.printed) <= 10_000


def test_the_machine_is_left_well(reports, victim, scratch):
    assert (victim / "marks.csv").read_text() == "somebody,1\n"
    assert [p.name for p in victim.iterdir()] == ["marks.csv"]
    assert list(scratch.iterdir()) == []
    assert not any(Path(place, "minidl-was-here").exists() for place in ("/tmp", "/dev/shm"))
    assert "4711" not in Path("/proc/sysvipc/shm").read_text() + Path("/proc/sysvipc/sem").read_text()
    assert running(scratch) == []


def test_a_part_is_computed_for_small_arguments_only():
    """The grader computes in its own process what a submission asks for: nothing that takes its memory or its time."""
    begin = time.monotonic()
    x, nan = np.ones((1, 1, 4, 4)), float("nan")
    for name, arguments in (
        ("_pad", [x, [10**6, 10**6]]), ("_pad", [x, [21, 0]]), ("_pad", [np.ones((100, 101, 1, 1)), [9, 9]]),
        ("_windows", [x, [1, 1], [0, 0]]), ("_windows", [x, [9, 9], [1, 1]]), ("_windows", ["x", {"a": 1}, None]),
        ("_scatter", [x, [10**9, 10**9], [1, 1], [0, 0]]), ("_scatter", [np.ones((1,) * 6), [20] * 16, [1, 1], [0, 0]]),
        ("_unpad", []), ("no such part", [x]), (["_pad"], [x]), (None, None),
    ):  # fmt: skip
        assert _computed({"ask": name, "arguments": arguments}, load_hidden(load("A4")).parts)["value"] is None, (
            name,
            arguments,
        )
    for name, arguments in (
        ("_spread", [np.ones(1), [20] * 8, [0]]), ("_spread", [np.ones(1), [10**12], [0]]),
        ("_log_softmax", [x, [7]]), ("_log_softmax", [nan, [0]]),
    ):  # fmt: skip
        assert _computed({"ask": name, "arguments": arguments}, load_hidden(load("A1")).parts)["value"] is None, (
            name,
            arguments,
        )
    assert time.monotonic() - begin < 5
    padded = _computed({"ask": "_pad", "arguments": [x, [1, 0]]}, load_hidden(load("A4")).parts)
    assert padded["value"].shape == (1, 1, 6, 4)


def test_an_answer_of_many_boxes_is_no_crash():
    value: object = 1
    for _ in range(5000):
        value = [value]
    with Session(A2, {}) as session, pytest.raises(Wrong, match="not an answer"):
        session._value({"value": value})


def running(scratch: Path) -> list[str]:
    """The processes whose command line names this place, as a worker's does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if str(scratch).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def test_a_grader_that_is_killed_takes_the_submission_along(tmp_path):
    code = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    student = write(with_preface("A2", ADAM, code), tmp_path / "student")
    command = [sys.executable, "-m", "tutorials.assignments.grade", "A2", str(student)]
    grader = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    begin = time.monotonic()
    while not running(tmp_path / "minidl-grade-") and time.monotonic() < begin + 60:
        time.sleep(0.05)
    time.sleep(1)  # until it is in the loop, or nearly so
    grader.kill()
    grader.wait()
    while running(tmp_path / "minidl-grade-") and time.monotonic() < begin + 120:
        time.sleep(0.05)
    assert running(tmp_path / "minidl-grade-") == []


def test_nothing_is_written_where_landlock_is_missing(victim):
    """As on Linux before 5.13: seccomp alone keeps every file as it is."""
    attack = attacks(victim)["writes files"]
    student = submission(with_preface("A2", ADAM, attack.code))
    report = grade(A2, student, limits=PATIENT, unsafe=True, without=["landlock"])
    assert report.score == 100
    assert report.protections["landlock"].startswith("off")
    assert "PermissionError" in report.printed
    assert "ESCAPED" not in report.printed
    assert (victim / "marks.csv").read_text() == "somebody,1\n"
