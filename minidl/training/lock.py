"""One process at a time in a run's folder, whatever others do and wherever they were stopped.

Two marks say that a folder is taken. The system's lock (flock) goes with its process, by SIGKILL too; but some network
drives have none, or one that other machines don't see. The file `.minidl.lock`, which only one can make, holds there;
but it outlives a process that is killed. So a process that finds the file and gets the lock takes it over, unless
another machine made it. Where neither works the run says so, and no process is kept out.

Files are written by the folder's descriptor, not by its name: a folder that is renamed takes its run along, and one
that was removed, and made anew by another run, is left alone.
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
    """A folder that this process has for itself, as long as the ExitStack it was locked with is open.

    place  descriptor of the folder, for `atomic_file`; None where the system opens no folders (Windows)
    note   a warning about a drive without locks; None: there is none
    """

    folder: Path
    place: int | None = None
    note: str | None = None

    def path(self) -> Path | None:
        """Where the folder is now: it may have been renamed; None where it was removed."""
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
    """Keep other processes from writing to this folder until `stack` is closed. None: it is not locked.

    Raises ValueError where another process has it.
    """
    if stack is None:
        return Held(folder)
    place = _open(folder, stack)
    locked = _flock(folder, place)
    filed = _make_file(folder, place, locked, stack)
    if locked or filed:
        return Held(folder, place)
    return Held(folder, place, f"the drive of {folder} has no locks: see to it that no second process trains there")


def _name_of(place: int) -> Path:
    """What a folder is called now, by its descriptor. Raises OSError where the system does not say."""
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
    """Whether the system's lock is ours."""
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
    """Whether the file is ours. One that was left by a process which is gone is replaced."""
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
            _remove(folder, place)  # its maker had the lock, and is gone with it
        except OSError:
            return False
        else:
            stack.callback(*((os.close, kept) if kept is not None else (_release, folder, place, token)))
            return True
    raise _taken(folder)


def _machine() -> dict[str, str]:
    """What identifies this machine since it was last started; containers share it."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": platform.node(), "boot": boot or platform.node()}


def _taken(folder: Path, by: dict[str, object] | None = None) -> ValueError:
    if by is None:
        return ValueError(
            f"another process is training in {folder}: let it end, or stop it and go on with "
            f"--resume {typed(str(folder))}"
        )
    who = f"process {by.get('pid', '?')} of {by.get('host', 'another machine')}" if by else "another process"
    return ValueError(f"{who} is training in {folder}. If it is not, it was killed: then remove {folder / LOCK}")


# ---- the file ----


def _write(folder: Path, place: int | None, text: str) -> int | None:
    """Make the file. On Windows it lasts as long as its descriptor, which is returned, and no one else can read it."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_TEMPORARY", 0)  # so it goes with a killed maker, too
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
    """Who made the file; {} where that can't be read, None where there is none."""
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
    """Remove the file, if it is still the one that we made."""
    if (_read(folder, place) or {}).get("token") == token:
        _remove(folder, place)
