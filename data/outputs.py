"""Where a command may write its page or image: checked before its work begins.

A file that the same command wrote before is replaced; any other file is left alone. Each page says in its head which
command wrote it, each PNG in its metadata:

    check_output("report.html", "report")     raises OutputError unless a report can be written there
    page_mark("report"), picture_mark("predict")
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

PAGE, PICTURE = (".html", ".htm"), (".png",)
HEAD = 4096  # bytes within which the mark must be
LEFT_ALONE = "It is left alone: remove it, or give another name"


class OutputError(ValueError):
    """A path where a file can't be written, or must not be. The message names it."""


def page_mark(program: str) -> str:
    """The line in a page's head that says which command wrote it."""
    return f'<meta name="generator" content="minidl.{program}">'


def picture_mark(program: str) -> dict[str, str]:
    """The same, as PNG metadata."""
    return {"Software": f"minidl.{program}"}


def check_output(
    path: str | os.PathLike[str],
    program: str,
    endings: tuple[str, ...] = PAGE,
    option: str = "",
    read: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Raise OutputError unless this command can and may write such a file there.

    endings  the allowed file name extensions
    option   the option that names it, for the message
    read     files that the command reads: it must not be one of them
    """
    path, name = Path(path), f"{option} {path}".strip()
    check_place(path, endings, name)
    if not path.exists():
        return
    if any(os.path.exists(each) and path.samefile(each) for each in read):
        raise OutputError(f"{name} would overwrite an input file: give another name")
    if not _is_from(path, program, endings):
        raise OutputError(f"{name} is a file that minidl.{program} did not write. {LEFT_ALONE}")


def check_place(path: Path, endings: tuple[str, ...], name: str) -> None:
    """Raise OutputError unless a file could be written there, whatever is there now. name: the path in words."""
    try:
        there = path.stat().st_mode
    except FileNotFoundError:
        there = 0
    except NotADirectoryError:
        raise OutputError(f"{name} can't be written: {path.parent} is not a folder") from None
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte in it
        raise OutputError(f"{name} can't be written: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(there):
        raise OutputError(f"{name} is a folder: give a file, such as {path / ('new' + endings[0])}")
    if path.suffix.lower() not in endings:
        kind = "a page to open in a browser" if endings == PAGE else "written as an image"
        raise OutputError(f"{name} must end in {endings[0]}, because it is {kind}")
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent} to write {path.name} to: create it, or give another")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {path.parent} is not writable: give another for {path.name}")
    if there and not stat.S_ISREG(there):
        raise OutputError(f"{name} is not a regular file: give another name")


def _is_from(path: Path, program: str, endings: tuple[str, ...]) -> bool:
    """Whether the file begins like a page or an image of this command."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    if endings == PAGE:
        return head.startswith(b"<!doctype html>") and page_mark(program).encode() in head
    ((key, value),) = picture_mark(program).items()
    return head.startswith(b"\x89PNG\r\n\x1a\n") and f"{key}\0{value}".encode() in head
