"""IDX: the file format in which MNIST is published. One file holds one array.

    bytes 0-1   00 00
    byte  2     element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte  3     rank: the number of dimensions (0: the array is one number)
    then        the size of each dimension, 4 bytes each
    then        the elements, the last dimension running fastest

All numbers are big-endian: the most significant byte comes first. The file may be compressed with gzip.

A header is only a claim. No file, damaged or hostile, yields an array that is short, shifted or made up: the bytes
that are really there are counted. Where a header claims more than 48 MiB, they are counted before memory is allocated;
a gzip file is then decompressed twice, once to count and once to keep.
Format: http://yann.lecun.com/exdb/mnist/ (bottom of the page).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidl.data.atomic import atomic_file

ELEMENT_TYPES = {
    code: np.dtype(name)
    for code, name in {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}.items()
}
MAX_RANK = 64  # the most dimensions that a NumPy array can have
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 16  # bytes that are read (and decompressed) at a time
AFFORDABLE = 48 << 20  # bytes that a header may claim without the file being counted first: enough for MNIST


class DataError(ValueError):
    """Something is wrong with the requested data. Programs print it and exit with status 2."""


class IdxError(DataError):
    """A file that is not a complete, valid IDX file.

    path     the file.
    offset   the byte (of the uncompressed file) at which the error is.
    problem  what was expected there, what was found, and what to do.
    """

    def __init__(self, path: Path, offset: int, problem: str) -> None:
        super().__init__(path, offset, problem)
        self.path, self.offset, self.problem = path, offset, problem

    def __str__(self) -> str:
        return f"{self.path}: at byte {self.offset}: {self.problem}"


def read_idx(path: str | os.PathLike[str], max_bytes: int | None = None) -> NDArray[Any]:
    """Read the array that an IDX file holds.

    path       a plain or gzipped IDX file. Its first bytes decide which, not its name.
    max_bytes  refuse a file that claims more bytes of elements than this (default: no limit).

    Returns a writable array with the file's shape (zero-size dimensions and rank 0 included) and its element
    type in the machine's own byte order.
    Raises IdxError, and nothing else, for a file that is missing, unreadable, damaged, too long or too short.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # checked before open(), which would block on a pipe
            kind = "folder" if path.is_dir() else "device or pipe"
            raise IdxError(path, 0, f"expected a file, found a {kind}")
        with open(path, "rb") as file:
            source = _Source(path, file)
            try:
                return _parse(source, max_bytes)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # cut short, wrong CRC, garbage
                problem = f"the gzip data is damaged ({error}); get the file again"
                raise source.error(problem) from error
    except OSError as error:
        raise IdxError(path, 0, f"the file cannot be read: {error.strerror}") from error


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file.

    path   of the file, which is gzipped if, and only if, the name ends in `.gz`
    array  uint8, int8, int16, int32, float32 or float64, of any shape and byte order

    The same array always gives the same bytes (with the same zlib). The file appears under its name only when
    it is complete. Raises IdxError for another dtype or a dimension over 2**32 - 1, OSError where the file can't be
    written.
    """
    path, array = Path(path), np.asarray(array)
    header, body = _header_of(path, array), _body_of(path, array)
    with atomic_file(path) as file:
        if path.name.endswith(".gz"):
            # No file name and no time in the gzip header: they would make each copy differ.
            # Level 6, not 9: for MNIST it takes a fifteenth of the time and 2 % more space.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                packed.write(header)
                packed.write(body)
        else:
            file.write(header)
            file.write(body)


def idx_sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256, in hex, of the uncompressed IDX file that holds `array`.

    The header is determined by dtype and shape, so a file that was read can be hashed without decompressing it again.
    Raises IdxError for a dtype that IDX does not have.
    """
    nameless = Path("array")
    digest = hashlib.sha256(_header_of(nameless, array))
    digest.update(_body_of(nameless, array))
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------- reading


class _Source:
    """The uncompressed bytes of a file, in order, and a count of those read, so that every error says where."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self.path, self.position = path, 0
        self.size = os.fstat(file.fileno()).st_size
        self.gzipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        self.stream: io.BufferedReader | gzip.GzipFile = gzip.GzipFile(fileobj=file) if self.gzipped else file

    def read(self, count: int) -> bytes:
        """Return the next bytes: at most `count`, at most CHUNK, none only at the end of the file."""
        data = self.stream.read1(min(count, CHUNK))
        self.position += len(data)
        return data

    def fill(self, memory: memoryview) -> int:
        """Read into `memory` until it is full or the file ends; return how many bytes were read."""
        filled = 0
        while filled < len(memory) and (data := self.read(len(memory) - filled)):
            memory[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def remaining(self, most: int) -> int:
        """Return how many bytes remain, counting up to `most`; the read position does not change."""
        if not self.gzipped:
            return self.size - self.position
        start = self.position
        while self.position - start < most and self.read(most):  # decompresses, and keeps nothing
            continue
        found, self.position = self.position - start, start
        self.stream.seek(start)
        return found

    def error(self, problem: str, offset: int | None = None) -> IdxError:
        """Return an IdxError at `offset` (default: the read position); it says so if the file is gzipped."""
        where = " (offset in the uncompressed data)" if self.gzipped else ""
        return IdxError(self.path, self.position if offset is None else offset, problem + where)


def _parse(source: _Source, max_bytes: int | None) -> NDArray[Any]:
    dtype, shape = _read_header(source)
    claimed, start = math.prod(shape) * dtype.itemsize, source.position
    says = f"{claimed} bytes of {dtype.newbyteorder('=').name} (shape {'x'.join(map(str, shape)) or 'none'})"
    _check_claim(source, claimed, says, max_bytes)
    if claimed > AFFORDABLE:  # below, decompressing twice would cost more than allocating for a lie
        _check_found(source, source.remaining(claimed + 1), claimed, says, start)
    try:
        array = np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:  # ValueError: 0 x 2**31 x 2**31 x 2**31
        problem = f"the header claims {says}, which does not fit into memory ({error})"
        raise source.error(problem, 4) from error
    got = source.fill(array.reshape(-1).view(np.uint8).data)
    _check_found(source, got + len(source.read(1)), claimed, says, start)
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _read_header(source: _Source) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = bytearray(4)
    got = source.fill(memoryview(start))
    if got < 4 or start[:2] != b"\0\0":
        found = _describe(bytes(start[:got]))
        raise source.error(f"expected an IDX header (00 00, element type, rank), found {found}", 0)
    code, rank = start[2], start[3]
    if code not in ELEMENT_TYPES:
        known = ", ".join(f"{c:02X} {t.newbyteorder('=').name}" for c, t in ELEMENT_TYPES.items())
        raise source.error(f"expected an element type ({known}), found {code:02X}", 2)
    if rank > MAX_RANK:
        raise source.error(f"expected at most {MAX_RANK} dimensions, found {rank}", 3)
    sizes = bytearray(4 * rank)
    got = source.fill(memoryview(sizes))
    if got < len(sizes):
        raise source.error(
            f"expected the sizes of {rank} dimensions ({len(sizes)} bytes), found the end of the file after {got}"
        )
    return ELEMENT_TYPES[code], struct.unpack(f">{rank}I", sizes)


def _check_claim(source: _Source, claimed: int, says: str, max_bytes: int | None) -> None:
    """Compare what the header claims with what a file of this size can hold, before memory is allocated for it."""
    if max_bytes is not None and claimed > max_bytes:
        raise source.error(f"expected at most {max_bytes} bytes of elements, the header claims {says}", 4)
    # DEFLATE codes at most 258 bytes in 2 bits, so it never compresses more than 1032 bytes into one ...
    if source.gzipped and claimed + source.position > 1032 * source.size:
        raise source.error(f"the header claims {says}, more than {source.size} bytes of gzip can hold", 4)
    # ... and no compressor makes data an eighth longer. (128 KiB: room for a file name, a comment, padding.)
    if source.gzipped and source.size > claimed + claimed // 8 + (1 << 17):
        raise source.error(f"the header claims {says}, but the gzip file has {source.size}: trailing data", 4)


def _check_found(source: _Source, found: int, claimed: int, says: str, start: int) -> None:
    """Compare the bytes found from `start` on, counted up to one too many, with what the header claims."""
    if found < claimed:
        raise source.error(
            f"the header claims {says}, found {found} bytes: it is truncated; get it again", start + found
        )
    if found > claimed:
        raise source.error(f"expected the end of the file after {says}, found more bytes", start + claimed)


def _describe(start: bytes) -> str:
    """Describe the first bytes of a file that is not IDX."""
    if not start:
        return "an empty file"
    shown = start.hex(" ")
    if start.startswith(GZIP_MAGIC):
        return f"{shown}: gzip inside gzip; decompress it once (gzip -d)"
    if start.lstrip().startswith(b"<"):
        return f"{shown}: a web page (HTML) saved under this name; get the file again"
    if start == b"vers":
        return f"{shown}: perhaps a Git LFS pointer; get the file itself with git lfs pull"
    if len(start) < 4:
        return f"only {len(start)} bytes: {shown}"
    return f"{shown}: not an IDX file"


# ---------------------------------------------------------------------------------------------- writing


def _code_of(path: Path, array: NDArray[Any]) -> int:
    for code, dtype in ELEMENT_TYPES.items():
        if dtype == array.dtype.newbyteorder(">"):
            return code
    names = ", ".join(dtype.newbyteorder("=").name for dtype in ELEMENT_TYPES.values())
    raise IdxError(
        path,
        2,
        f"IDX has no element type for {array.dtype}; convert the array with .astype "
        f"to one of {names} that holds its values",
    )


def _header_of(path: Path, array: NDArray[Any]) -> bytes:
    code = _code_of(path, array)
    if any(size >= 1 << 32 for size in array.shape):
        raise IdxError(path, 4, f"expected sizes up to {(1 << 32) - 1} (4 bytes), the shape is {array.shape}")
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)


def _body_of(path: Path, array: NDArray[Any]) -> memoryview:
    """Return the bytes of the elements, big-endian and in order; no copy where they already are."""
    big_endian = np.ascontiguousarray(array, ELEMENT_TYPES[_code_of(path, array)])
    return big_endian.reshape(-1).view(np.uint8).data
