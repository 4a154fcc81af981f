"""A process gives up, for good, what a student's code does not need. The worker calls this before it loads that code.

    limits    memory, CPU time, file size, open files (setrlimit): a runaway process is stopped
    landlock  Linux 5.13: only Python's own files and the submission's folder can be read, nothing can be written;
              Linux 6.12: no signal reaches another process
    user      if root grades, the worker becomes `nobody`, provided `nobody` can read Python's files; capabilities are
              dropped in any case
    seccomp   Linux: only the system calls on a list (seccomp.py): no new processes or programs, no network, no signals
              to other processes, and files can be opened only for reading. It can't be undone, not even by root

`enter` returns which of them are on. Unless run with --unsafe, the grader requires limits and seccomp, and that the
hidden tests can't be read: by landlock, or by user if their file permissions keep others out.
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
    """The resources that a student's code may use."""

    call_seconds: float = 10.0  # wall-clock time of one call; longer if programs share the cores (session.py)
    total_seconds: float = 60.0  # the same, for the whole submission
    cpu_seconds: int = 30  # of one worker
    memory: int = 2 << 30  # bytes of address space, Python and NumPy included
    printed: int = 64 << 20  # bytes; only the beginning is kept
    file_size: int = 0  # bytes: it may not write or extend any file
    files: int = 64
    threads: int = 64  # no system limit counts the threads of one process, so the grader checks (process.py)


class Unavailable(Exception):
    """This system does not support the protection; the message says why."""


def enter(
    limits: Limits, readable: Sequence[Path], listable: Sequence[Path], without: Iterable[str] = ()
) -> dict[str, str]:
    """Turn on every protection that this system supports; returns for each "on", "on, but ..." or "off: why".

    readable  what landlock allows to be read
    listable  folders that may be listed, but whose files may not be read
    without   protections to leave out, to test the grader without them
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
            # PR_SET_PDEATHSIG, SIGKILL: if the grader dies, so do we. Changing user resets it, the filter refuses it
            _libc().prctl(1, 9)
        try:
            states[name] = "off: left out on request" if name in without else measure()
        except (Unavailable, OSError, ImportError) as error:
            states[name] = f"off: {error}"
    return states


def is_on(state: str) -> bool:
    """Whether a state says that the protection is on."""
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
        wanted[r.RLIMIT_AS] = limits.memory  # macOS has the name but not the limit
        wanted[r.RLIMIT_SIGPENDING] = limits.files  # pending signals: all of a user's processes share one pool
    if may_fork or sys.platform != "linux":
        wanted[r.RLIMIT_NPROC] = 0  # counts all of the user's processes, so it can only be all or nothing
    for what, most in wanted.items():
        # Beyond the soft CPU limit comes SIGXCPU, which names the cause; beyond the hard limit SIGKILL, which does not.
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
    handled = (1 << _RIGHTS.get(version, 16)) - 1  # every right it knows is denied unless a rule grants it
    attributes = struct.pack("Q", handled)
    if version >= 4:
        attributes += struct.pack("Q", 3)  # no TCP, neither bind nor connect
    if version >= 6:
        attributes += struct.pack("Q", 3)  # no abstract sockets and no signals to the outside, by any call
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
    """Whether any user can reach and read this file or folder."""
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
