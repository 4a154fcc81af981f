"""A process gives up, for good, what a student's code has no need of. Called in the worker before that code is loaded.

    limits    memory, CPU time, size of a file, open files (setrlimit): a runaway ends itself
    landlock  Linux 5.13: only Python's own files and the submission's folder can be read, nothing can be written;
              Linux 6.12: no signal reaches another process
    user      where root grades, the worker becomes `nobody` if nobody can read Python's files; capabilities go anyway
    seccomp   Linux: a list of the system calls that are left (seccomp.py): no new processes or programs, no network, no
              signals to others, and no file can be opened but to read it. Nobody can take it off again, root included

`enter` says which of them are on. seccomp must be, and one of landlock and user, which keep the hidden tests unread; a
grader refuses to go on otherwise, unless it is told --unsafe.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutorials.assignments import seccomp

NOBODY = 65534


@dataclass(frozen=True)
class Limits:
    """What a student's code may use up."""

    call_seconds: float = 10.0  # by the clock, for one call; longer where programs share the cores (session.py)
    total_seconds: float = 60.0  # the same for the whole submission
    cpu_seconds: int = 30  # of one worker
    memory: int = 2 << 30  # bytes of address space, Python and NumPy included
    printed: int = 64 << 20  # bytes; only the beginning is kept
    file_size: int = 0  # bytes: there is no file that it may write, and none that may grow
    files: int = 64
    threads: int = 64  # no limit of the system's counts those of one process: the grader looks (process.py)


class Unavailable(Exception):
    """This system does not offer the measure; the message says why."""


def enter(
    limits: Limits, readable: Sequence[Path], listable: Sequence[Path], without: Iterable[str] = ()
) -> dict[str, str]:
    """Take all measures that this system offers; returns for each "on", "on, but ..." or "off: why".

    readable  what landlock leaves open to reading
    listable  folders whose names it leaves open, but not their files
    without   measures to leave out, to see how the grader does without them
    """
    measures: dict[str, Callable[[], str]] = {
        "limits": lambda: _set_limits(limits, "seccomp" in without),
        "landlock": lambda: _landlock(readable, listable),
        "user": lambda: _drop_root(readable),
        "seccomp": _seccomp,
    }
    states = {}
    for name, measure in measures.items():
        if name == "seccomp" and sys.platform == "linux":
            # PR_SET_PDEATHSIG, SIGKILL: where the grader dies, so do we. A new user undoes it, the filter refuses it
            _libc().prctl(1, 9)
        try:
            states[name] = "off: left out on request" if name in without else measure()
        except (Unavailable, OSError, ImportError) as error:
            states[name] = f"off: {error}"
    return states


def is_on(state: str) -> bool:
    """Whether a state says that the measure is taken."""
    return state.partition(",")[0] == "on"


# ---- limits ----


def _set_limits(limits: Limits, may_fork: bool) -> str:
    import resource as r

    wanted = {
        r.RLIMIT_CPU: limits.cpu_seconds,
        r.RLIMIT_FSIZE: limits.file_size,
        r.RLIMIT_NOFILE: limits.files,
        r.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        wanted[r.RLIMIT_AS] = limits.memory  # macOS knows the name but not the limit
        wanted[r.RLIMIT_SIGPENDING] = limits.files  # signals that wait: all of a user's share one pool
    if may_fork or sys.platform != "linux":
        wanted[r.RLIMIT_NPROC] = 0  # counts the user's processes everywhere, so it can only be all or nothing
    for what, most in wanted.items():
        # Past the soft limit of time comes SIGXCPU, which says what it is; past the hard one SIGKILL, which does not.
        hard, allowed = most + (what == r.RLIMIT_CPU), r.getrlimit(what)[1]
        hard = hard if allowed == r.RLIM_INFINITY else min(hard, allowed)
        r.setrlimit(what, (min(most, hard), hard))
    return "on"


# ---- landlock: https://docs.kernel.org/userspace-api/landlock.html ----

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many rights it knows, as the lowest bits; 16 from version 5


def _landlock(readable: Iterable[Path], listable: Iterable[Path]) -> str:
    if sys.platform != "linux":
        raise Unavailable(f"only Linux has it, this is {platform.system()}")
    version = _syscall(_CREATE_RULESET, None, 0, 1)
    handled = (1 << _RIGHTS.get(version, 16)) - 1  # every right it knows is refused where no rule grants it
    attributes = struct.pack("Q", handled)
    if version >= 4:
        attributes += struct.pack("Q", 3)  # no TCP, to or from
    if version >= 6:
        attributes += struct.pack("Q", 3)  # no abstract socket and no signal out of here, by whatever call
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        if path.exists():
            _grant(ruleset, path, _READ_FILE | (_READ_DIR if path.is_dir() else 0))
    for path in listable:
        _grant(ruleset, path, _READ_DIR)
    _no_new_privileges()
    _syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return "on"


def _grant(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
    os.close(descriptor)


# ---- user ----


def _drop_root(readable: Iterable[Path]) -> str:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise Unavailable("only root can change the user")
    hidden = [path for path in readable if path.exists() and not open_to_all(path)]
    if not hidden:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        _check(_libc().capset(header, nothing), "capset")
    if hidden:
        raise Unavailable(f"user nobody can't read {hidden[0]}; root without its capabilities")
    return "on"


def open_to_all(path: Path) -> bool:
    """Whether any user can read this file or folder and come to it."""
    path = path.resolve()
    return bool(path.stat().st_mode & 0o004) and all(parent.stat().st_mode & 0o001 for parent in path.parents)


# ---- seccomp: the list is in seccomp.py ----


def _seccomp() -> str:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in seccomp.MACHINES or struct.calcsize("P") != 8:
        raise Unavailable(f"not written for {platform.system()} on {machine}, {8 * struct.calcsize('P')} bits")
    _no_new_privileges()
    program = seccomp.program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc().prctl(22, 2, fprog, 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return "on" if machine in seccomp.TRIED else f"on, but untested on {machine}"


# ---- the C library ----


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc().syscall(ctypes.c_long(number), *wide)
    return _check(result, f"system call {number}")


def _check(result: int, what: str) -> int:
    if result < 0:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _no_new_privileges() -> None:
    _check(_libc().prctl(38, 1, 0, 0, 0), "no_new_privs")
