"""The system calls that a student's code may make: those on this list, with these arguments, and no others.

A deny-list is never complete: fcntl alone has a command that lets a pipe send SIGKILL to any process of the same user
(F_SETOWN, F_SETSIG, O_ASYNC), and fallocate one that takes disk space beyond a file's end. So this is an allow-list of
what Python and NumPy need to compute; any other call returns ENOSYS, as on a kernel that does not have it. Linux's
filter sees numbers but not memory behind pointers, so calls that take their arguments in memory (clone3, openat2) are
left out: the C library falls back to the older call. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from typing import NamedTuple

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, the kernel's audit number
TRIED = ("x86_64",)
_ = -1  # this architecture has no such call

# The numbers on x86-64 and on arm64, from Linux's tables.
CALLS: Mapping[str, tuple[int, int]] = {
    # open files: read and write them, but not with pwrite or fallocate
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "preadv": (295, 69), "write": (1, 64), "writev": (20, 66),
    "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "dup": (32, 23), "dup2": (33, _), "dup3": (292, 24),
    # metadata of files, and the names in folders; Landlock says which folders
    "stat": (4, _), "lstat": (6, _), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, _),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, _), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    # its own memory, every page of which counts towards the limits
    "brk": (12, 214), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    # its own threads, and time
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "sched_yield": (24, 124),
    "getcpu": (309, 168), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, _), "times": (100, 153),
    "restart_syscall": (219, 128),
    # signals to itself
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132), "pause": (34, _), "alarm": (37, _),
    "setitimer": (38, 103), "getitimer": (36, 102),
    # information about itself
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150),
    "getgroups": (115, 158), "getpgrp": (111, _), "getpgid": (121, 155), "getsid": (124, 156),
    "getrlimit": (97, 163), "getrusage": (98, 165), "uname": (63, 160),
    "sysinfo": (99, 179), "getrandom": (318, 278),
    # waiting and exiting
    "poll": (7, _), "ppoll": (271, 73), "select": (23, _), "pselect6": (270, 72), "exit": (60, 93),
    "exit_group": (231, 94),
    # restricted by their arguments, below
    "open": (2, _), "openat": (257, 56), "mmap": (9, 222), "madvise": (28, 233), "fcntl": (72, 25), "ioctl": (16, 29),
    "prctl": (157, 167), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
    "setrlimit": (160, 164), "sched_getaffinity": (204, 123),
}  # fmt: skip
OWN = -1  # stands for the process's own id


class Only(NamedTuple):
    """A call that is allowed if `argument & mask` is one of `values`, and otherwise returns `error`."""

    argument: int
    values: tuple[int, ...]
    error: int = errno.EPERM
    mask: int = 0xFFFFFFFF


_TO_CHANGE = 0o3 | 0o100 | 0o1000 | 0o20000 | 0o20000000  # O_WRONLY and O_RDWR, O_CREAT, O_TRUNC, O_ASYNC, O_TMPFILE
ONLY: Mapping[str, Only] = {
    "open": Only(1, (0,), mask=_TO_CHANGE),
    "openat": Only(2, (0,), mask=_TO_CHANGE),
    "mmap": Only(3, (0,), mask=0x40000 | 0x2000),  # not MAP_HUGETLB or MAP_LOCKED, which take from a shared pool
    # NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE, HUGEPAGE and its opposite, DONTDUMP and its opposite
    "madvise": Only(2, (0, 1, 2, 3, 4, 8, 14, 15, 16, 17), errno.EINVAL),
    "fcntl": Only(1, (0, 1, 2, 3, 1030), errno.ENOSYS),  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
    "ioctl": Only(1, (0x5401, 0x5450, 0x5451), errno.ENOSYS),  # TCGETS ("a terminal?"), FIONCLEX, FIOCLEX
    "prctl": Only(0, (15, 16, 0x53564D41), errno.ENOSYS),  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (names of memory)
    "clone": Only(0, (0x3D0F00, 0x7D0F00)),  # a thread, with the flags of glibc and of musl
    "kill": Only(0, (OWN,)),
    "tgkill": Only(0, (OWN,)),
    "prlimit64": Only(0, (0, OWN)),
    "sched_getaffinity": Only(0, (0, OWN)),
}
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000


def program(machine: str, own: int) -> bytes:
    """The filter, as BPF code for the kernel: for each call a test, and the answer.

    machine  a key of MACHINES
    own      the id of the process that it is for
    """
    column, audit = MACHINES[machine]
    code = [_load(4), _skip_unless(audit, 1, 0), _answer(_KILL), _load(0)]
    for name, numbers in CALLS.items():
        if numbers[column] >= 0:
            block = _checked(ONLY[name], own) if name in ONLY else [_answer(_ALLOW)]
            code += [_skip_unless(numbers[column], 0, len(block)), *block]
    return b"".join([*code, _answer(_ERROR | errno.ENOSYS)])


def _checked(only: Only, own: int) -> list[bytes]:
    """The answer for a call, from the low 32 bits of an argument: the kernel reads no more of these arguments."""
    values = [own if value == OWN else value for value in only.values]
    tests = [_skip_unless(value, len(values) - i, 0) for i, value in enumerate(values)]
    return [
        _load(16 + 8 * only.argument),
        _op(0x54, only.mask),
        *tests,
        _answer(_ERROR | only.error),
        _answer(_ALLOW),
    ]


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, k)


def _load(offset: int) -> bytes:
    return _op(0x20, offset)


def _skip_unless(value: int, equal: int, other: int) -> bytes:
    """Skip `equal` instructions if the loaded value equals `value`, otherwise `other`."""
    return _op(0x15, value, equal, other)


def _answer(value: int) -> bytes:
    return _op(0x06, value)
