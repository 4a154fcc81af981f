"""Atomic file writes: no reader ever sees half of a file.

The bytes go to a second file in the same folder, whose name starts with a dot and ends in `.part`. Only when all of
them are on disk is it renamed to the final name, in one atomic step. A reader who opens the final name finds the old
file, the new file or no file: never a part of one.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

UNDECODED = re.compile("[\udc80-\udcff]+")  # bytes of file names that Python could not decode


@contextmanager
def atomic_file(path: str | os.PathLike[str], place: int | None = None) -> Iterator[BinaryIO]:
    """Open a binary file for writing that appears under `path` if, and only if, the block ends without an exception.

    path   where the finished file goes; its folder must exist. An existing file is replaced.
    place  a descriptor of that folder, in case it is renamed or created again meanwhile; of path only the name is used.

    Yields the open file; its `.name` is the path of the `.part` file.
    Raises OSError where the folder is not writable or the disk is full. Any exception removes the `.part` file.
    """
    path = Path(path)
    # The random part keeps two processes that write the same file apart. Plain open(), not tempfile, so that the
    # finished file has the permissions that the user's umask gives to any new file.
    path = path if place is None else Path(path.name)
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")  # 255 bytes at most
    try:
        with open(part, "xb", opener=partial(os.open, mode=0o666, dir_fd=place)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _give_name(part, path, place)
    finally:
        with suppress(OSError):  # after os.replace there is none; on Windows another program may have it open
            os.unlink(part, dir_fd=place)


def _give_name(part: Path, path: Path, place: int | None) -> None:
    """os.replace, with retries for 1.5 s: on Windows it fails while a virus scanner or a viewer has a file open."""
    for wait in (0.1, 0.2, 0.4, 0.8, 0.0):
        try:
            return os.replace(part, path, src_dir_fd=place, dst_dir_fd=place)
        except PermissionError as error:
            if not wait or getattr(error, "winerror", None) is None:
                raise
        time.sleep(wait)


def write_text(path: str | os.PathLike[str], text: str, place: int | None = None) -> None:
    """Write a UTF-8 text file atomically; see `atomic_file`, also for the errors. Bytes of a file's name that Python
    could not decode are written as they were if they are UTF-8, else as \\udcff."""
    with atomic_file(path, place) as file:
        file.write(UNDECODED.sub(_decoded, text).encode(errors="backslashreplace"))


def _decoded(name: re.Match[str]) -> str:
    return name[0].encode(errors="surrogateescape").decode(errors="surrogateescape")


def sweep_parts(folder: Path) -> None:
    """Remove the `.part` files that a killed process left in `folder` more than an hour ago."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # another process finished or removed it first, or it is another user's
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()
