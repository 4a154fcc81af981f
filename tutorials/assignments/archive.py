"""What lies in a hand-in: a folder, or an archive of any usual kind, and the archives in these. Nothing is unpacked.

Each file is listed with its path, and read only when it is asked for, up to a limit: an archive may be a bomb. Links
are not followed. What is not looked at (a virtual environment, an editor's folders) is listed too, with the reason.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

LARGEST = 1 << 20  # bytes of one file
LARGEST_ARCHIVE = 64 << 20  # bytes of an archive inside another, and of all that a tar holds
MOST_ARCHIVES = 256 << 20  # bytes of all archives inside another
MOST_FILES = 100_000
DEEPEST = 3  # archives in archives

_JUNK = {".ds_store", "thumbs.db", "desktop.ini"}  # what Macs and Windows leave in a folder
_NOT_LOOKED_AT = {
    "__macosx": "a Mac's own notes", "__pycache__": "compiled files", "node_modules": "installed packages",
    "site-packages": "installed packages", "dist-packages": "installed packages",
}  # fmt: skip
_OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_NAMES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")


class Problem(Exception):
    """Why a file or an archive can't be read."""


@dataclass
class Found:
    """files: path -> how to read it, which may raise Problem;  skipped: file or folder -> why it is not looked at."""

    files: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    archives: int = 0  # bytes of archives inside, so far


def look(place: Path) -> Found:
    """What a folder, an archive or a single file holds. Raises Problem where it is an archive that can't be read."""
    found = Found()
    if place.is_dir():
        _collect(found, _folder(place), "", 0)
        return found
    with place.open("rb") as file:
        members = _members(file, place.name)
    if members is None:
        found.files[place.name] = partial(_read_file, place)
    else:
        _collect(found, _reopened(place, members), "", 0)
    return found


Member = tuple[str, Callable[[int], bytes]]  # path, and how to read at most so many bytes of it


def _collect(found: Found, members: Iterable[Member], prefix: str, depth: int) -> None:
    """Add the members to what was found; those that are archives are looked into."""
    listed = [(path.replace("\\", "/").strip("/"), read) for path, read in members]
    environments = {str(PurePosixPath(path).parent) for path, _ in listed if path.endswith("pyvenv.cfg")} - {"."}
    for path, read in listed:
        if len(found.files) >= MOST_FILES:
            found.skipped["more"] = f"there are more than {MOST_FILES:,} files"
            return
        name, left_out = PurePosixPath(path).name, _left_out(path, environments)
        if left_out:
            found.skipped[prefix + left_out[0]] = left_out[1]
        elif name.lower() in _JUNK or name.startswith("._"):
            continue
        elif name.lower().endswith(_NAMES):
            try:
                _look_into(found, prefix + path, read, depth + 1)
            except Problem as problem:
                found.skipped[prefix + path] = str(problem)
        else:
            found.files[prefix + path] = partial(_limited, name, read)


def _look_into(found: Found, path: str, read: Callable[[int], bytes], depth: int) -> None:
    if depth > DEEPEST:
        raise Problem("an archive in an archive in an archive: hand in the files themselves")
    data = read(LARGEST_ARCHIVE + 1)
    if len(data) > LARGEST_ARCHIVE:
        raise Problem(f"an archive of more than {LARGEST_ARCHIVE >> 20} MB")
    found.archives += len(data)
    if found.archives > MOST_ARCHIVES:
        raise Problem(f"archives of more than {MOST_ARCHIVES >> 20} MB in all")
    members = _members(io.BytesIO(data), PurePosixPath(path).name)
    if members is None:
        raise Problem("no archive, in spite of its name")
    _collect(found, members, f"{path}/", depth)


def _left_out(path: str, environments: set[str]) -> tuple[str, str] | None:
    """The folder on the way to a file that is not looked into, and why."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        folder = "/".join(parts[: i + 1])
        if folder in environments:
            return f"{folder}/", "a virtual environment"
        if part.lower() in _NOT_LOOKED_AT:
            return f"{folder}/", _NOT_LOOKED_AT[part.lower()]
        if part.startswith(".") and part not in (".", ".."):
            return f"{folder}/", "a hidden folder"
    return None


def _limited(name: str, read: Callable[[int], bytes]) -> bytes:
    data = read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Problem(f"{name} has more than {LARGEST:,} bytes")
    return data


# ---- a folder ----


def _folder(folder: Path) -> Iterator[Member]:
    for root, folders, names in os.walk(folder):  # follows no links
        inside = Path(root).relative_to(folder)
        if "pyvenv.cfg" in names and root != str(folder):
            folders[:], names = [], ["pyvenv.cfg"]
        for name in [f for f in folders if f.startswith(".") or f.lower() in _NOT_LOOKED_AT]:
            folders.remove(name)
            yield (inside / name / "...").as_posix(), lambda most: b""
        folders.sort()
        for name in sorted(names):
            yield (inside / name).as_posix(), partial(_read_at_most, Path(root, name))


def _read_file(path: Path) -> bytes:
    return _limited(path.name, partial(_read_at_most, path))


def _read_at_most(path: Path, most: int) -> bytes:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        raise Problem(f"{path.name} is a link, not a file: hand in the file itself")
    if not stat.S_ISREG(state.st_mode):
        raise Problem(f"{path.name} is not a file")
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read(most)
    except OSError as error:
        raise Problem(f"{path.name} can't be read: {error.strerror}") from error


# ---- archives ----


def _members(file: IO[bytes], name: str) -> list[Member] | None:
    """The members of an archive by what it is, not by what it is called; None if it is none. Raises Problem."""
    head = file.read(512)
    file.seek(0)
    for magic, kind in _OTHER_ARCHIVES.items():
        if head.startswith(magic):
            raise Problem(f"a {kind} archive, which can't be opened here: hand in a .zip")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) or name.lower().endswith(".zip"):
        return list(_zip(file))
    if head[257:262] == b"ustar":
        return list(_tar(file))
    for magic, opened in _COMPRESSED.items():
        if head.startswith(magic):
            return list(_compressed(file, opened, name))
    return None


def _zip(file: IO[bytes]) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Problem(f"it can't be read as a zip archive: {error}") from error
    for entry in archive.infolist()[:MOST_FILES]:
        if not entry.is_dir() and not entry.filename.endswith("\\"):
            yield entry.filename, partial(_read_zipped, archive, entry)


def _read_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """At most `most` bytes are unpacked, whatever the archive says of its size."""
    name = entry.filename
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise Problem(f"{name} is a link, not a file: hand in the file itself")
    try:
        with archive.open(entry) as file:
            return file.read(most)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, lzma.LZMAError) as e:
        raise Problem(f"{name} can't be read from the archive: {e}") from e
    except Exception as error:
        raise Problem(f"{name} can't be unpacked ({type(error).__name__})") from error


def _tar(file: IO[bytes]) -> Iterator[Member]:
    """The files are read at once: a compressed tar can't be entered in the middle."""
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (there is no file of its own to close)
        for entry in archive:
            if entry.offset_data + entry.size > LARGEST_ARCHIVE:
                raise Problem(f"a tar archive of more than {LARGEST_ARCHIVE >> 20} MB")
            if entry.isfile():
                data = archive.extractfile(entry)
                assert data is not None
                yield entry.name, partial(_first, data.read(LARGEST_ARCHIVE))
            elif not entry.isdir():
                yield entry.name, partial(_no_file, entry.name)
    except (tarfile.TarError, OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise Problem(f"it can't be read as a tar archive: {error}") from error


def _compressed(file: IO[bytes], opened: Callable[..., Any], name: str) -> Iterator[Member]:
    """A compressed tar, or a single compressed file."""
    try:
        with opened(file) as unpacked:
            data = unpacked.read(LARGEST_ARCHIVE + 1)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise Problem(f"it can't be unpacked: {error}") from error
    if len(data) > LARGEST_ARCHIVE:
        raise Problem(f"it unpacks to more than {LARGEST_ARCHIVE >> 20} MB")
    if data[257:262] == b"ustar":
        return _tar(io.BytesIO(data))
    return iter([(name.rpartition(".")[0] or name, partial(_first, data))])


def _first(data: bytes, most: int) -> bytes:
    return data[:most]


def _no_file(name: str, most: int) -> bytes:
    raise Problem(f"{name} is a link, not a file: hand in the file itself")


def _reopened(place: Path, members: list[Member]) -> Iterator[Member]:
    """The same members, those of a zip read from the file opened anew each time."""
    for path, read in members:
        if isinstance(read, partial) and read.func is _read_zipped:
            yield path, partial(_read_zipped_from, place, read.args[1])
        else:
            yield path, read


def _read_zipped_from(place: Path, entry: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with zipfile.ZipFile(place) as archive:
            return _read_zipped(archive, entry, most)
    except (zipfile.BadZipFile, OSError) as error:
        raise Problem(f"{entry.filename} can't be read from the archive: {error}") from error
