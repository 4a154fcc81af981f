"""A process gives up, for good, what a student's code has no need of. Called in the worker before that code is loaded.

    limits    memory, CPU time, size of a file, open files (setrlimit): a runaway ends itself
    landlock  Linux 5.13: only Python's own files and the submission's folder can be read, nothing can be written
    user      where root grades, the worker becomes `nobody` if nobody can read Python's files; capabilities go anyway
    seccomp   Linux: no new processes or programs, no network, no signals to others, no tracing, and no file can be
              opened but to read it, made, removed or changed. Nobody can take such a filter off again, root included

`enter` says which of them are on. seccomp must be, and one of landlock and user, which keep the hidden tests unread; a
grader refuses to go on otherwise, unless it is told --unsafe.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534


@dataclass(frozen=True)
class Limits:
    """What a student's code may use up."""

    call_seconds: float = 10.0  # by the clock, for one call
    total_seconds: float = 60.0  # by the clock, for the whole submission
    cpu_seconds: int = 30  # of one worker
    memory: int = 2 << 30  # bytes of address space, Python and NumPy included
    file_size: int = 1 << 20  # bytes; what is printed goes to a file, so this ends an endless print as well
    files: int = 64


class Unavailable(Exception):
    """This system does not offer the measure; the message says why."""


def enter(
    limits: Limits, readable: Sequence[Path], listable: Sequence[Path], without: Iterable[str] = ()
) -> dict[str, str]:
    """Take all measures that this system offers; returns for each "on", or "off: why".

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
        try:
            states[name] = "off: left out on request" if name in without else measure()
        except (Unavailable, OSError, ImportError) as error:
            states[name] = f"off: {error}"
    if sys.platform == "linux":
        _libc().prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: where the grader dies, so do we. A new user would undo it
    return states


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
    ruleset = _syscall(_CREATE_RULESET, struct.pack("Q", handled), 8, 0)
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


# ---- seccomp: https://docs.kernel.org/userspace-api/seccomp_filter.html ----

# System calls by number on x86-64 and on arm64, from Linux's tables; 0: not there. From 424 on both have one numbering.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_REFUSED = {
    "fork": (57, 0), "vfork": (58, 0), "execve": (59, 221), "execveat": (322, 281),  # processes and programs
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203),  # network
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),  # signals ...
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),  # others' memory
    "process_madvise": (440, 440), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "setpriority": (141, 140), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),  # others' speed
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),  # memory that outlives us ...
    "memfd_create": (319, 279), "memfd_secret": (447, 447),  # ... or that no limit counts
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),  # past this filter
    "unshare": (272, 97), "setns": (308, 268),  # a user namespace gives capabilities
    "creat": (85, 0), "mkdir": (83, 0), "mkdirat": (258, 34), "mknod": (133, 0), "mknodat": (259, 33),  # files
    "link": (86, 0), "linkat": (265, 37), "symlink": (88, 0), "symlinkat": (266, 36), "rename": (82, 0),
    "renameat": (264, 38), "renameat2": (316, 276), "rmdir": (84, 0), "unlink": (87, 0), "unlinkat": (263, 35),
    "truncate": (76, 45), "chmod": (90, 0), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, 0), "fchown": (93, 55), "lchown": (94, 0), "fchownat": (260, 54),
    "utime": (132, 0), "utimes": (235, 0), "futimesat": (261, 0), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
}  # fmt: skip
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437)}  # arguments out of a filter's sight: callers fall back
_CLONE_THREAD, _NOT_JUST_READING = 0x10000, 0o3 | 0o100 | 0o1000  # O_WRONLY and O_RDWR, O_CREAT, O_TRUNC
_X32 = 0x40000000  # another numbering of the calls on x86-64
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000


def _seccomp() -> str:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        raise Unavailable(f"not written for {platform.system()} on {machine}")
    _no_new_privileges()
    program = _filter(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc().prctl(22, 2, fprog, 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return "on"


def _filter(machine: str, own: int) -> bytes:
    """The filter, in the kernel's small machine language: for each call a test, and what to answer."""
    column, audit = _MACHINES[machine]
    refuse, unknown = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    code = [_load(4), _skip_unless(audit, equal=1, other=0), _answer(_KILL), _load(0)]
    code += [_op(0x35, _X32, 0, 1), _answer(refuse)]  # numbers from _X32 on
    for table, answer in ((_REFUSED, refuse), (_UNKNOWN, unknown)):
        for numbers in table.values():
            if numbers[column]:
                code += [_skip_unless(numbers[column], equal=0, other=1), _answer(answer)]
    # (call, argument, mask, value, answer if argument & mask == value, answer otherwise)
    for number, argument, mask, value, same, other in (
        ((56, 220)[column], 0, _CLONE_THREAD, _CLONE_THREAD, _ALLOW, refuse),  # threads, no processes
        ((62, 129)[column], 0, 0xFFFFFFFF, own, _ALLOW, refuse),  # kill: only itself
        ((234, 131)[column], 0, 0xFFFFFFFF, own, _ALLOW, refuse),  # tgkill
        ((302, 261)[column], 0, 0xFFFFFFFF, 0, _ALLOW, refuse),  # prlimit: only its own
        ((257, 56)[column], 2, _NOT_JUST_READING, 0, _ALLOW, refuse),  # openat
        ((2, 0)[column], 1, _NOT_JUST_READING, 0, _ALLOW, refuse),  # open
    ):
        if number:
            code += [_skip_unless(number, equal=0, other=5), _load(16 + 8 * argument), _op(0x54, mask)]
            code += [_skip_unless(value, equal=0, other=1), _answer(same), _answer(other)]
    return b"".join([*code, _answer(_ALLOW)])


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, k)


def _load(offset: int) -> bytes:
    return _op(0x20, offset)


def _skip_unless(value: int, equal: int, other: int) -> bytes:
    return _op(0x15, value, equal, other)


def _answer(value: int) -> bytes:
    return _op(0x06, value)


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
