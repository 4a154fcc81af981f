"""The members of archives: zip, tar with any compression, single compressed files. Nothing is written to disk.

An archive is recognized by its contents, not by its name. It may be a bomb, so every read has a limit.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

LARGEST_ARCHIVE = 64 << 20  # bytes of an archive inside another, and of all files in a tar
LARGEST_CONTENTS = 16 << 20  # bytes of a zip's central directory
MOST_FILES = 100_000

_OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_NAMES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")


class Problem(Exception):
    """Why a file or an archive can't be read."""


Member = tuple[str, Callable[[int], bytes]]  # path, and how to read at most n bytes of it


def members_of(place: Path) -> list[Member] | None:
    """The members of an archive, with nested archives unopened; None if it is not an archive. Raises Problem."""
    with place.open("rb") as file:
        members = _members(file, place.name)
    return None if members is None else list(_reopened(place, members))


def members_in(member: Member) -> list[Member] | None:
    """The members of an archive inside another; None if it is not an archive. Raises Problem."""
    path, read = member
    data = read(LARGEST_ARCHIVE + 1)
    if len(data) > LARGEST_ARCHIVE:
        raise Problem(f"an archive of more than {LARGEST_ARCHIVE >> 20} MB")
    return _members(io.BytesIO(data), PurePosixPath(path).name)


def is_archive(name: str) -> bool:
    """Whether a file has the name of an archive."""
    return name.lower().endswith(_NAMES)


def _members(file: IO[bytes], name: str) -> list[Member] | None:
    """The members of an archive, recognized by its contents; None if it is not an archive. Raises Problem."""
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


def empty_folders(place: Path) -> list[str]:
    """The empty folders in a zip, each with its slash; [] if the file is not a zip."""
    try:
        with place.open("rb") as file, zipfile.ZipFile(_Careful(file)) as archive:
            paths = [_name(entry) for entry in archive.infolist()[:MOST_FILES]]
    except (zipfile.BadZipFile, OSError, ValueError):
        return []
    ways = [path.rstrip("/").split("/")[:9] for path in paths]
    full = {"/".join(parts[:i]) + "/" for parts in ways for i in range(1, len(parts))}
    return [path for path in paths if path.endswith("/") and path not in full]


class _Careful:
    """A zip file that limits its central directory, which is read at once and takes ten times its size in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, n: int = -1) -> bytes:
        """At most as much as a central directory may have."""
        if n > LARGEST_CONTENTS:
            raise Problem(f"a zip with a central directory of more than {LARGEST_CONTENTS >> 20} MB")
        return self._file.read(n)


def _zip(file: IO[bytes]) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(_Careful(file))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Problem(f"it can't be read as a zip archive: {error}") from error
    for entry in archive.infolist()[: MOST_FILES + 1]:
        if not entry.is_dir() and not entry.filename.endswith("\\"):
            yield _name(entry), partial(_read_zipped, archive, entry)


def _name(entry: zipfile.ZipInfo) -> str:
    """The name of a zip's member. macOS writes UTF-8 without marking it so: it was read as code page 437."""
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return entry.filename.encode("cp437").decode("utf-8")
    return entry.filename


def _read_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """Decompress at most `most` bytes, whatever size the archive declares."""
    name = entry.filename
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise Problem(f"{name} is a link, not a file: hand in the file itself")
    try:
        with archive.open(entry) as file:
            return file.read(most)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError, lzma.LZMAError) as e:
        raise Problem(f"{name} can't be read from the archive: {e}") from e
    except Exception as error:
        raise Problem(f"{name} can't be decompressed ({type(error).__name__})") from error


def _tar(file: IO[bytes]) -> Iterator[Member]:
    """All files are read at once: a compressed tar has no random access."""
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (there is no file of its own to close)
        size = 0  # of all files, including holes in sparse files, which take no bytes in the archive
        for number, entry in enumerate(archive):
            size += max(entry.size, 0)
            if max(size, entry.offset_data + entry.size) > LARGEST_ARCHIVE or number > MOST_FILES:
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
        raise Problem(f"it can't be decompressed: {error}") from error
    if len(data) > LARGEST_ARCHIVE:
        raise Problem(f"it decompresses to more than {LARGEST_ARCHIVE >> 20} MB")
    if data[257:262] == b"ustar":
        return _tar(io.BytesIO(data))
    return iter([(name.rpartition(".")[0] or name, partial(_first, data))])


def _first(data: bytes, most: int) -> bytes:
    return data[:most]


def _no_file(name: str, most: int) -> bytes:
    raise Problem(f"{name} is a link, not a file: hand in the file itself")


def _reopened(place: Path, members: list[Member]) -> Iterator[Member]:
    """The same members; those of a zip are read from the file, reopened each time."""
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
