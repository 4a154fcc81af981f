"""Locks a run's folder for one process at a time, also if processes were killed before.

There are two locks. The system's lock (flock) ends with its process, even by SIGKILL; but some network drives have
none, or one that other machines don't see. The file `.minidl.lock`, created exclusively, works there; but it
outlives a process that is killed. So a process that finds the file but gets the flock takes the file over, unless it
was made on another machine. If neither works, the run prints a note, and other processes are not kept out.

Files are written by the folder's file descriptor, not by its name: if the folder is renamed, the run continues in it;
if it was removed and another run has made one of the same name, that one is left alone.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from minidl.telling import typed

LOCK = ".minidl.lock"


@dataclass(frozen=True)
class Held:
    """A folder locked by this process, as long as the ExitStack it was locked with is open.

    place  file descriptor of the folder, for `atomic_file`; None if the system can't open folders (Windows)
    note   a warning about a drive without locks, or None
    """

    folder: Path
    place: int | None = None
    note: str | None = None

    def path(self) -> Path | None:
        """Where the folder is now, as it may have been renamed; None if it was removed."""
        if self.place is None:
            return self.folder if self.folder.is_dir() else None
        with suppress(OSError):
            if os.path.samestat(os.stat(self.folder), os.fstat(self.place)):
                return self.folder
        with suppress(OSError, ValueError):
            now = _name_of(self.place)
            if os.path.samestat(os.stat(now), os.fstat(self.place)):
                return now
        return None


def lock(folder: Path, stack: ExitStack | None) -> Held:
    """Keep other processes from writing to this folder until `stack` is closed; with None, don't lock it.

    Raises ValueError if another process holds the lock.
    """
    if stack is None:
        return Held(folder)
    place = _open(folder, stack)
    locked = _flock(folder, place)
    filed = _make_file(folder, place, locked, stack)
    if locked or filed:
        return Held(folder, place)
    return Held(folder, place, f"the drive of {folder} has no locks: make sure that no second process trains there")


def _name_of(place: int) -> Path:
    """The current path of a folder, from its descriptor. Raises OSError if the system can't tell."""
    if sys.platform == "darwin":
        import fcntl  # Windows has none

        return Path(os.fsdecode(fcntl.fcntl(place, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(os.readlink(f"/proc/self/fd/{place}"))


def _open(folder: Path, stack: ExitStack) -> int | None:
    if os.open not in os.supports_dir_fd:
        return None
    with suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, place)
        return place
    return None


def _flock(folder: Path, place: int | None) -> bool:
    """Whether we got the system's lock."""
    if place is None:
        return False
    with suppress(ImportError, OSError):
        import fcntl  # here: Windows has none

        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder) from None
        return True
    return False


def _make_file(folder: Path, place: int | None, locked: bool, stack: ExitStack) -> bool:
    """Whether we created the lock file. One left by a process that is gone is replaced."""
    token = secrets.token_hex(8)
    mine = {**_machine(), "pid": os.getpid(), "token": token}
    for _ in range(2):
        try:
            kept = _write(folder, place, json.dumps(mine))
        except FileExistsError:
            theirs = _read(folder, place)
            if theirs is None:
                continue  # it has just been removed
            same = theirs.get("boot") == mine["boot"] or theirs.get("host") == mine["host"]
            if not locked or not same:
                raise _taken(folder, theirs) from None
            _remove(folder, place)  # we hold the flock, so the process that made the file is gone
        except OSError:
            return False
        else:
            stack.callback(*((os.close, kept) if kept is not None else (_release, folder, place, token)))
            return True
    raise _taken(folder)


def _machine() -> dict[str, str]:
    """Identifies this machine since its last boot; shared by containers on it."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": platform.node(), "boot": boot or platform.node()}


def _taken(folder: Path, by: dict[str, object] | None = None) -> ValueError:
    if by is None:
        return ValueError(
            f"another process is training in {folder}: let it finish, or stop it and resume with "
            f"--resume {typed(str(folder))}"
        )
    who = f"process {by.get('pid', '?')} of {by.get('host', 'another machine')}" if by else "another process"
    return ValueError(f"{who} is training in {folder}. If it is not, it was killed: then remove {folder / LOCK}")


# ---- the file ----


def _write(folder: Path, place: int | None, text: str) -> int | None:
    """Create the file. On Windows it exists as long as its descriptor, which is returned; others can't read it."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_TEMPORARY", 0)  # removed if the process is killed
    descriptor = os.open(LOCK if place is not None else folder / LOCK, flags, 0o666, dir_fd=place)
    try:
        os.write(descriptor, text.encode())
    except OSError:  # a full disk
        os.close(descriptor)
        _remove(folder, place)
        raise
    if hasattr(os, "O_TEMPORARY"):
        return descriptor
    os.close(descriptor)
    return None


def _read(folder: Path, place: int | None) -> dict[str, object] | None:
    """The content of the file: who made it; {} if it can't be read, None if there is no file."""
    try:
        descriptor = os.open(LOCK if place is not None else folder / LOCK, os.O_RDONLY, dir_fd=place)
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    with open(descriptor, "rb") as file:
        try:
            content = json.loads(file.read(1000))
        except ValueError:
            return {}
    return content if isinstance(content, dict) else {}


def _remove(folder: Path, place: int | None) -> None:
    with suppress(OSError):
        os.unlink(LOCK if place is not None else folder / LOCK, dir_fd=place)


def _release(folder: Path, place: int | None, token: str) -> None:
    """Remove the file if it is still ours."""
    if (_read(folder, place) or {}).get("token") == token:
        _remove(folder, place)
