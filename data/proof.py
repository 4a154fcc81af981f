"""Files that verify themselves: what is read must be what was written, by this run, for this purpose.

A JSON file holds the SHA-256 of its own content under the key "sha256". So a flipped bit, a truncation or an edited
number is found when the file is read, by every reader in the same way:

    write_signed(path, {"run": key, "accuracy": 0.9})
    content = read_signed(path, {"run": text(), "accuracy": real(0, 1)}, run=key)

The second line raises Damaged, with one line that says what is wrong, unless the checksum matches, `run` is that very
key (so a swapped file is detected), and every value is of the right kind and size (see schema.py). The checksum is over
the values, not the layout: a file that was only reindented is still valid. It protects against damage, not forgery: a
file that was edited and signed again is accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidl.data.atomic import write_text
from minidl.data.schema import Kind, WrongKind, table

SEAL = "sha256"  # the key of the checksum in a signed file
LARGEST = 1 << 28  # bytes of a file that is read whole: ours are far smaller


class Damaged(ValueError):
    """A file that is missing, changed, or not what it should be. The message names it."""


def checksum(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON values, as 64 hexadecimal digits; it does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum as the last entry; an existing checksum is replaced."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    return {**bare, SEAL: checksum(bare)}


def write_signed(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write JSON with its checksum, atomically. Raises OSError as `atomic_file` does."""
    write_text(path, json.dumps(signed(content), indent=2) + "\n")


def proven(content: Any, where: str, kinds: Mapping[str, Kind] | None = None, **expected: Any) -> dict[str, Any]:
    """Content that was read from `where`, without its checksum. Raises Damaged unless all of it is as it should be.

    kinds     the kind of every value, see schema.py; None: any
    expected  required values, such as run=KEY
    """
    if not isinstance(content, dict):
        raise Damaged(f"{where} is damaged: it is not a JSON object")
    bare = {key: value for key, value in content.items() if key != SEAL}
    if SEAL not in content:
        raise Damaged(f"{where} has no checksum: an earlier version wrote it, or it is damaged")
    if content[SEAL] != (found := checksum(bare)):
        raise Damaged(f"{where} is damaged: the checksum of its content is {found[:12]}..., not what it says")
    for key, value in expected.items():
        if bare.get(key) != value:
            raise Damaged(f"{where} belongs elsewhere: its {key} is {_short(bare.get(key))}, not {_short(value)}")
    if kinds is not None:
        try:
            table(kinds)(bare, "")
        except WrongKind as error:
            raise Damaged(f"{where} does not fit this version of minidl: {error}") from None
    return bare


def read_signed(
    path: str | os.PathLike[str], kinds: Mapping[str, Kind] | None = None, **expected: Any
) -> dict[str, Any]:
    """The content of a file that `write_signed` wrote. Raises Damaged as `proven` does, and where there is no file."""
    return proven(read_json(path), os.fspath(path), kinds, **expected)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file. Raises Damaged where it is missing or not JSON."""
    where = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise Damaged(f"{where} is not a regular file")  # a device may have no end
        if os.path.getsize(path) > LARGEST:
            raise Damaged(f"{where} is damaged: it is larger than {LARGEST >> 20} MiB")
        return json.loads(Path(path).read_bytes())
    except Damaged:
        raise
    except FileNotFoundError:
        raise Damaged(f"{where} is missing") from None
    except OSError as error:
        raise Damaged(f"{where} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of 5,000 digits, 10,000 brackets
        raise Damaged(f"{where} is damaged: {_short(str(error))}") from None


def _short(value: Any) -> str:
    words = " ".join(str(value).split())
    return words if len(words) <= 80 else words[:77] + "..."


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
