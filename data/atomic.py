"""Writing a file so that no reader ever sees half of it.

The bytes go to a second file in the same folder, whose name starts with a dot and ends in `.part`. Only when
all of them are on the disk does it take the final name, in one step that the operating system does not
interrupt. A reader who opens the final name finds the old file, the new file or no file: never a piece of one.
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

UNDECODED = re.compile("[\udc80-\udcff]+")  # how Python keeps bytes of names that its locale has no letter for


@contextmanager
def atomic_file(path: str | os.PathLike[str], place: int | None = None) -> Iterator[BinaryIO]:
    """Open a binary file for writing that appears under `path` when, and only when, the block ends well.

    path   where the finished file goes; its folder must exist. A file that stands there is replaced.
    place  a descriptor of that folder, where it may be renamed or made anew meanwhile; only path's name counts then.

    Yields the open file; its `.name` is the path of the `.part` file.
    Raises OSError where the folder cannot be written or is full. Any exception removes the `.part` file.
    """
    path = Path(path)
    # The random part keeps two processes that write the same file out of each other's way. Plain open(), not
    # tempfile, so that the finished file has the permissions that the user's umask gives to any new file.
    path = path if place is None else Path(path.name)
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")  # 255 bytes at most
    try:
        with open(part, "xb", opener=partial(os.open, mode=0o666, dir_fd=place)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _give_name(part, path, place)
    finally:
        with suppress(FileNotFoundError):  # after os.replace there is none
            os.unlink(part, dir_fd=place)


def _give_name(part: Path, path: Path, place: int | None) -> None:
    """os.replace. On Windows it fails while a virus scanner or a viewer has one of the two open: so it waits, 1.5 s."""
    for wait in (0.1, 0.2, 0.4, 0.8, 0.0):
        try:
            return os.replace(part, path, src_dir_fd=place, dst_dir_fd=place)
        except PermissionError as error:
            if not wait or getattr(error, "winerror", None) is None:
                raise
        time.sleep(wait)


def write_text(path: str | os.PathLike[str], text: str, place: int | None = None) -> None:
    """Write a text file, in UTF-8, so that it appears whole or not at all; see `atomic_file`, also for the errors.
    Bytes of a file's name that Python could not decode are written as they were if they are UTF-8, else as \\udcff."""
    with atomic_file(path, place) as file:
        file.write(UNDECODED.sub(_decoded, text).encode(errors="backslashreplace"))


def _decoded(name: re.Match[str]) -> str:
    return name[0].encode(errors="surrogateescape").decode(errors="surrogateescape")


def sweep_parts(folder: Path) -> None:
    """Remove the `.part` files that a killed process left in `folder` more than an hour ago."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # another process finished with it or swept it first, or it is another user's
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()
