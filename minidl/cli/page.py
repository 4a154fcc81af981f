"""The last step of a command that writes a page."""

from __future__ import annotations

from pathlib import Path

from minidl.cli.parser import DONE, FAILED, complain
from minidl.data.atomic import write_text


def put(path: Path, html: str, prog: str, about: str = "open it in a browser") -> int:
    """Write the page atomically, and print its path, size and `about`; returns the exit status."""
    try:
        write_text(path, html)
    except OSError as error:
        return complain(f"{path} can't be written: {error}", FAILED, prog)
    print(f"{path} ({len(html) / 1e6:.2f} MB): {about}")
    return DONE
