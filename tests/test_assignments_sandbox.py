"""The sandbox, call by call: what reaches other processes, memory or disk is tried; what is not listed is not there.

Each attack is code before a right answer: all marks are due, and ESCAPED is printed where something gets through. The
processes that are aimed at are children of this test.
"""

import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.commands import ROOT
from tests.submissions import submission, with_preface, write
from tests.test_assignments_attacks import ADAM, PATIENT, TRY
from tutorials.assignments import sandbox, seccomp
from tutorials.assignments.assignment import load
from tutorials.assignments.marking import Report, grade
from tutorials.assignments.sandbox import Limits, is_on

if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("system calls are tried by their numbers on x86-64", allow_module_level=True)

CALLS = (
    TRY
    + """
import ctypes, errno, fcntl, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def call(number, *arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(libc.syscall(ctypes.c_long(number), *wide))
"""
)


def attacks(victim: int, place: Path) -> dict[str, str]:
    """Name -> code. `victim` is a process of the same user, `place` a file of somebody else's."""
    return {
        "a signal sent by a pipe of its own": f"""
def on_pipe(reading, writing, ask):
    ask(reading)
    fcntl.fcntl(reading, 10, 9)  # F_SETSIG, SIGKILL
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    os.write(writing, b"x")
attempt(lambda: on_pipe(*os.pipe(), lambda fd: fcntl.fcntl(fd, fcntl.F_SETOWN, {victim})))
attempt(lambda: on_pipe(*os.pipe(), lambda fd: fcntl.fcntl(fd, 15, struct.pack("ii", 1, {victim}))))  # F_SETOWN_EX
""",
        "a signal sent by the grader's own pipes": f"""
for descriptor in range(64):
    attempt(lambda: fcntl.fcntl(descriptor, fcntl.F_SETOWN, {victim}))
    attempt(lambda: fcntl.fcntl(descriptor, 15, struct.pack("ii", 1, {victim})))
    attempt(lambda: fcntl.fcntl(descriptor, 10, 9))
    attempt(lambda: fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC))
    attempt(lambda: fcntl.ioctl(descriptor, 0x8901, struct.pack("i", {victim})))  # FIOSETOWN
    attempt(lambda: fcntl.ioctl(descriptor, 0x5452, struct.pack("i", 1)))  # FIOASYNC
""",
        "signals by every call that sends one": f"""
import signal
for target in ({victim}, -{victim}, 0, -1, 2**32 + {victim}):
    attempt(lambda: call(62, target, 0))  # kill
    attempt(lambda: call(200, target, 0))  # tkill
    attempt(lambda: call(234, target, target, 0))  # tgkill
    attempt(lambda: call(129, target, 10, bytes(128)))  # rt_sigqueueinfo
    attempt(lambda: call(297, target, target, 10, bytes(128)))  # rt_tgsigqueueinfo
attempt(lambda: call(434, {victim}, 0))  # pidfd_open
attempt(lambda: call(222, 1, struct.pack("QiiI44x", 0, 9, 4, {victim}), bytes(8)))  # timer_create, SIGEV_THREAD_ID
attempt(lambda: call(240, b"q", 0o102, 0o600, None))  # mq_open, for mq_notify
""",
        "disk beyond the file's end": """
for descriptor in range(64):
    for mode in (0, 1, 3, 16):  # plain, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
        attempt(lambda: call(285, descriptor, mode, 0, 64 << 20))  # fallocate
    attempt(lambda: os.posix_fallocate(descriptor, 0, 64 << 20))
    attempt(lambda: os.ftruncate(descriptor, 64 << 20))
    attempt(lambda: call(77, descriptor, 0))  # ftruncate
    attempt(lambda: os.pwrite(descriptor, b"x", 1 << 40))
""",
        "changes to files that are open to reading": f"""
for place in (__file__, os.__file__, {str(place)!r}):
    def opened(ask):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            return ask(descriptor)
        finally:
            os.close(descriptor)
    attempt(lambda: opened(lambda fd: fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x40))))  # FS_IOC_SETFLAGS
    attempt(lambda: opened(lambda fd: fcntl.ioctl(fd, 0x401C5820, bytes(28))))  # FS_IOC_FSSETXATTR
    attempt(lambda: opened(lambda fd: fcntl.fcntl(fd, 1024, 0)))  # F_SETLEASE, which holds up who writes
    attempt(lambda: opened(lambda fd: fcntl.fcntl(fd, 1026, 1)))  # F_NOTIFY
    attempt(lambda: opened(lambda fd: fcntl.fcntl(fd, 1036, struct.pack("Q", 2))))  # F_SET_RW_HINT
    attempt(lambda: opened(lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    attempt(lambda: opened(lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    attempt(lambda: opened(lambda fd: call(221, fd, 0, 0, 4)))  # fadvise64: out of everybody's cache
    attempt(lambda: call(254, 0, place.encode(), 0xFFF))  # inotify_add_watch
    attempt(lambda: os.open(place, os.O_RDWR))
    attempt(lambda: call(257, -100, place.encode(), 0x80000000 | os.O_RDONLY | os.O_CREAT, 0o600))
    attempt(lambda: call(437, -100, place.encode(), struct.pack("QQQ", 1, 0, 0), 24))  # openat2
    attempt(lambda: os.sendfile(1, os.open(os.__file__, 0), 0, 100))
attempt(lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR))
""",
        "memory that no limit counts": """
import mmap
attempt(lambda: os.pipe())
attempt(lambda: [fcntl.fcntl(fd, 1031, 1 << 20) for fd in range(3, 8)])  # F_SETPIPE_SZ
attempt(lambda: os.eventfd(0))
attempt(lambda: call(291, 0))  # epoll_create1
attempt(lambda: call(294, 0))  # inotify_init1
attempt(lambda: call(283, 1, 0))  # timerfd_create
attempt(lambda: call(319, b"x", 0))  # memfd_create
attempt(lambda: call(29, 4711, 1 << 20, 0o1666))  # shmget
attempt(lambda: mmap.mmap(-1, 2 << 20, flags=0x40000 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))  # MAP_HUGETLB
attempt(lambda: call(149, id(libc), 4096))  # mlock
attempt(lambda: call(151, 3))  # mlockall
anonymous = mmap.mmap(-1, 4096)
attempt(lambda: anonymous.madvise(12))  # MADV_MERGEABLE: pages shared with others, told apart by time
attempt(lambda: anonymous.madvise(100))  # MADV_HWPOISON
attempt(lambda: call(27, 0, 4096, bytes(8)))  # mincore: what others have read
""",
        "outlives the grader": """
attempt(lambda: check(libc.prctl(1, 0, 0, 0, 0)))  # PR_SET_PDEATHSIG
attempt(lambda: check(libc.prctl(4, 1, 0, 0, 0)))  # PR_SET_DUMPABLE
attempt(lambda: check(libc.prctl(36, 1, 0, 0, 0)))  # PR_SET_CHILD_SUBREAPER
attempt(lambda: check(libc.prctl(0x59616D61, -1, 0, 0, 0)))  # PR_SET_PTRACER
attempt(lambda: check(libc.prctl(35, 1, 0, 0, 0)))  # PR_SET_MM
attempt(lambda: check(libc.prctl(62, 1, 0, 0, 0)))  # PR_SCHED_CORE
attempt(lambda: os.setsid())
attempt(lambda: call(112))  # setsid
attempt(lambda: call(109, 0, 0))  # setpgid
""",
        "terminals": """
import termios, pty
for descriptor in range(3):
    attempt(lambda: fcntl.ioctl(descriptor, termios.TIOCSTI, b"x"))
    attempt(lambda: fcntl.ioctl(descriptor, termios.TIOCSCTTY, 1))
    attempt(lambda: fcntl.ioctl(descriptor, 0x541C, b"x"))  # TIOCLINUX
attempt(lambda: pty.openpty())
attempt(lambda: open("/dev/tty", "rb"))
attempt(lambda: open("/dev/ptmx", "rb"))
attempt(lambda: call(153))  # vhangup
""",
        "the whole machine": f"""
attempt(lambda: call(162))  # sync
attempt(lambda: call(306, 1))  # syncfs
attempt(lambda: os.nice(1))
attempt(lambda: os.sched_setscheduler(0, 3, os.sched_param(0)))
attempt(lambda: call(312, {victim}, os.getpid(), 0, 0, 0))  # kcmp
attempt(lambda: call(317, 1, 0, bytes(16)))  # seccomp
attempt(lambda: call(444, None, 0, 1))  # landlock_create_ruleset
attempt(lambda: call(272, 0x10000000))  # unshare, CLONE_NEWUSER
attempt(lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))  # clone, CLONE_NEWUSER
attempt(lambda: call(57))  # fork
attempt(lambda: call(302, {victim}, 7, None, bytes(16)))  # prlimit64
attempt(lambda: call(148, {victim}, bytes(16)))  # sched_rr_get_interval
attempt(lambda: call(41, 1, 1, 0))  # socket
attempt(lambda: call(425, 8, bytes(120)))  # io_uring_setup
attempt(lambda: call(165, b"none", b"/", b"tmpfs", 0, None))  # mount
attempt(lambda: call(103, 3, bytes(100), 100))  # syslog
""",
    }  # fmt: skip


@pytest.fixture(scope="module")
def victims():
    """A process for each attack: whom it hits, it kills."""
    processes = {
        name: subprocess.Popen(["sleep", "1000"], start_new_session=True) for name in attacks(os.getpid(), Path("x"))
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def reports(victims, tmp_path_factory) -> dict[str, Report]:
    place = tmp_path_factory.mktemp("teacher") / "marks.csv"
    place.write_text("somebody,1\n")

    def one(name: str) -> Report:
        code = CALLS + attacks(victims[name].pid, place)[name]
        return grade(load("A2"), submission(with_preface("A2", ADAM, code)), limits=PATIENT)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(victims, pool.map(one, victims), strict=True))


@pytest.mark.parametrize("name", attacks(1, Path("x")))
def test_nothing_gets_out(name, reports, victims):
    report = reports[name]
    assert "ESCAPED" not in report.printed
    assert "Error" in report.printed, "the attack was not even tried"
    assert victims[name].poll() is None, "the victim was hit"
    assert report.score == 100, [mark.feedback for mark in report.marks if mark.feedback]


def test_what_is_not_listed_is_not_there():
    """Every number that a call has or may get, on this processor and in its x32 numbering, is asked for."""
    listed = sorted(number for number, _ in seccomp.CALLS.values())
    listed += [335, 336]  # uretprobe and uprobe, which Linux keeps from filters: they end who calls them by hand
    code = (
        CALLS
        + f"""
for number in [*range(1024), *range(2**30, 2**30 + 600)]:
    if number not in {listed}:
        ctypes.set_errno(0)
        if libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.ENOSYS:
            print("THERE", number)
print("all asked")
"""
    )
    report = grade(load("A2"), submission(with_preface("A2", ADAM, code)), limits=PATIENT)
    assert report.printed == "all asked\n"
    assert report.score == 100


@pytest.mark.parametrize(("call", "argument", "listed"), [
    (72, 1, {0, 1, 2, 3, 1030}), (16, 1, {0x5401, 0x5450, 0x5451}), (157, 0, {15, 16, 0x53564D41}),
])  # fmt: skip
def test_commands_that_are_not_listed_are_not_there(call, argument, listed):
    """fcntl, ioctl and prctl with every command up to 4,096 and around those that are listed."""
    commands = sorted({*range(4096), *range(0x5400, 0x5500), *range(0x8900, 0x8960), 0x40086602} - listed)
    code = (
        CALLS
        + f"""
for command in {commands}:
    for high in (0, 1 << 32):
        ctypes.set_errno(0)
        arguments = [ctypes.c_long(command + high), ctypes.c_long(0)]
        result = libc.syscall(ctypes.c_long({call}), *[ctypes.c_long(1)] * {argument}, *arguments)
        if result != -1 or ctypes.get_errno() != errno.ENOSYS:
            print("THERE", command)
print("all asked")
"""
    )
    report = grade(load("A2"), submission(with_preface("A2", ADAM, code)), limits=PATIENT)
    assert report.printed == "all asked\n"


NEVER = """
    fork vfork clone3 execve execveat ptrace process_vm_readv process_vm_writev pidfd_open pidfd_send_signal
    pidfd_getfd tkill rt_sigqueueinfo rt_tgsigqueueinfo socket socketpair connect bind sendto sendmsg io_uring_setup
    io_uring_enter bpf perf_event_open userfaultfd memfd_create memfd_secret shmget shmat semget msgget mq_open
    add_key keyctl unshare setns mount umount2 chroot pivot_root creat mkdir mkdirat mknod mknodat link linkat
    symlink symlinkat rename renameat renameat2 rmdir unlink unlinkat truncate ftruncate fallocate chmod fchmod
    fchmodat chown fchown lchown utimensat setxattr fsetxattr removexattr openat2 open_by_handle_at pwrite64 pwritev
    sendfile splice tee vmsplice copy_file_range pipe pipe2 eventfd2 epoll_create1 inotify_init1 fanotify_init
    timer_create timerfd_create signalfd4 setpriority sched_setaffinity sched_setscheduler sched_setattr ioprio_set
    setuid setgid setresuid setresgid setsid setpgid seccomp personality modify_ldt iopl ioperm kexec_load reboot
    sync syncfs fsync flock mlock mlock2 mlockall mincore msync process_madvise kcmp membarrier syslog acct swapon
    sethostname settimeofday clock_settime clock_adjtime landlock_create_ruleset quotactl vhangup fadvise64
"""


def test_no_call_that_makes_reaches_or_changes_anything_is_listed():
    """The names, written down apart from the list."""
    assert set(NEVER.split()) & seccomp.CALLS.keys() == set()


@pytest.mark.parametrize(("header", "column"), [
    ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1),
])  # fmt: skip
def test_the_filters_numbers_are_linuxs(header, column):
    if not Path(header).exists():
        pytest.skip("Linux's header files are not installed")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    assert int(numbers["execve"]) in (59, 221)
    other = {"newfstatat": "fstatat"} if column else {}
    for name, ours in seccomp.CALLS.items():
        assert int(numbers.get(other.get(name, name), -1)) in (ours[column], -1), name
        assert ours[column] >= 0 or name not in numbers, name


def test_another_processor_is_told_as_untried(monkeypatch):
    assert is_on("on, but untested on aarch64")
    assert not is_on("off: only Linux has it")
    for machine, said in (("aarch64", None), ("riscv64", "not written for Linux on riscv64")):
        program = seccomp.program(machine, 4711) if machine in seccomp.MACHINES else b""
        assert len(program) % 8 == 0
        if said:
            monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
            with pytest.raises(sandbox.Unavailable, match=said):
                sandbox._seccomp()
    assert "aarch64" not in seccomp.TRIED


@pytest.mark.parametrize(("programs", "score"), [(0.0, 40), (8.0, 100)])
def test_a_busy_machine_fails_no_right_answer(programs, score, monkeypatch):
    """It takes two seconds to load: more than one for a call, less than one for each program on a core."""
    monkeypatch.setattr(os, "getloadavg", lambda: (programs * (os.cpu_count() or 1), 0.0, 0.0))
    slow = submission(with_preface("A2", ADAM, "import time; time.sleep(2)\n"))
    report = grade(load("A2"), slow, limits=Limits(call_seconds=1, total_seconds=30))
    assert report.score == score


USERS = [pytest.param(None, id="as I am"), pytest.param(65534, id="as an ordinary user")]


@pytest.mark.parametrize("user", USERS)
def test_the_command_holds_them_in_whoever_runs_it(user, tmp_path):
    """The whole grader as root, who becomes nobody where nobody can read Python, and as an ordinary user."""
    if user is not None:
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        if not all(sandbox.open_to_all(path) for path in (Path(sys.executable), Path(np.__file__), ROOT / "README.md")):
            pytest.skip("another user can't read this Python or this clone: put both where everybody can")
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055 if user else folder.stat().st_mode)
    place = tmp_path / "marks.csv"
    place.write_text("somebody,1\n")
    as_user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    hit = subprocess.Popen(["sleep", "1000"], start_new_session=True, **as_user)
    try:
        for number, code in enumerate(attacks(hit.pid, place).values()):
            write(with_preface("A2", ADAM, CALLS + code), tmp_path / "class" / f"s{number}")
        result = subprocess.run(
            [sys.executable, "-m", "tutorials.assignments.grade", "A2", tmp_path / "class", "--csv", tmp_path / "m.csv",
             "--out", tmp_path / "feedback", "--jobs", "2"],
            cwd=ROOT, capture_output=True, text=True, timeout=200, **as_user,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert hit.poll() is None, "the victim was hit"
    finally:
        hit.kill()
        hit.wait()
    written = [json.loads(p.read_text()) for p in (tmp_path / "feedback").glob("*.json")]
    assert len(written) == len(attacks(1, place))
    for each in written:
        assert each["score"] == 100
        assert "ESCAPED" not in each["extra_data"]["printed"]
        assert "Error" in each["extra_data"]["printed"]
    assert place.read_text() == "somebody,1\n"
