"""Downloading a file without ever keeping a bad one.

A download can fail in many ways: no network, a web page in place of the file, a connection lost halfway, a full disk.
One rule covers them all: the bytes go to a `.part` file, which gets its final name only if its hash matches. If a
mirror fails, the next is tried; if all fail, the error lists what each one answered.

MNIST's hashes are SHA-256 of the uncompressed bytes, because mirrors recompress the file and its .gz then differs. For
the other data sets only the MD5 of the .gz has been published (known.py), so that is used.
pooch does the HTTP, in its own thread, since no socket timeout covers a name server that never answers.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from minidl.data.atomic import atomic_file, sweep_parts
from minidl.data.idx import GZIP_MAGIC, DataError, IdxError, idx_sha256, read_idx
from minidl.telling import is_terminal


@dataclass(frozen=True)
class RemoteFile:
    """An IDX file that mirrors offer.

    name                    its name on the mirrors and here.
    packed_bytes            its usual size as `.gz`, for the progress bar only.
    unpacked_bytes, sha256  size and SHA-256 (64 hex digits) of the uncompressed file.
    md5                     of the `.gz`, 32 hex digits, where sha256 is "" because none has been published.
    """

    name: str
    packed_bytes: int
    unpacked_bytes: int
    sha256: str
    md5: str = ""


@dataclass(frozen=True)
class Patience:
    """How long to wait for mirrors, in seconds, before trying the next.

    connect  for a connection to each address of the host.
    silence  without receiving a byte.
    total    for one attempt at one file.
    passes   how often to go through the list of mirrors.
    pause    before each pass except the first.
    """

    connect: float
    silence: float
    total: float
    passes: int
    pause: float = 1.0


PATIENT = Patience(connect=10, silence=20, total=600, passes=2)
QUICK = Patience(connect=3, silence=5, total=60, passes=1)


class DownloadError(DataError):
    """A file that could not be fetched.

    message  the whole text, including what to do
    reason   what each mirror answered, or what is wrong with the folder
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.message, self.reason = message, reason

    def __str__(self) -> str:
        return self.message


class _MirrorError(Exception):
    """One mirror failed; the message says how."""


class _FolderError(OSError):
    """The bytes arrived, but could not be written; another mirror would not help.

    A separate class, because network errors are OSErrors too.
    """


def fetch(
    file: RemoteFile, folder: Path, mirrors: Sequence[str], patience: Patience, what: str = "MNIST"
) -> tuple[NDArray[Any], str]:
    """Download one file into `folder`, from the first mirror that sends the right bytes.

    mirrors  URLs to which the file's name is appended.
    folder   created if needed.
    what     the data set, for the message.

    Returns the array in the file, and the mirror that sent it.
    Raises DownloadError with what each mirror answered, or why the folder cannot be written.
    """
    answers: dict[str, list[str]] = {mirror: [] for mirror in mirrors}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder)
        for n in range(patience.passes):
            time.sleep(patience.pause if n else 0)
            for mirror in mirrors:
                try:
                    return _fetch_from(mirror, file, folder, patience), mirror
                except _MirrorError as error:
                    if str(error) not in answers[mirror]:
                        answers[mirror].append(str(error))
    except OSError as error:
        reason = f"the folder {folder} cannot be written: {error.strerror or error}"
        advice = "Make room there, or set MINIDL_CACHE to another folder."
        raise DownloadError(f"{reason}\n{advice}", reason) from error
    answered = [f"{mirror}: {', then '.join(said)}" for mirror, said in answers.items()]
    reason = "; ".join(answered) or "there is no mirror to ask"
    raise DownloadError(
        f"{file.name} could not be fetched: {reason}\n"
        f"Instead, get the four {what} files elsewhere and put them into {folder}, "
        "or set MINIDL_DATA to their folder. mnist5k needs no download.",
        reason,
    )


def read_verified(path: Path, file: RemoteFile) -> NDArray[Any]:
    """Read the IDX file at `path`, which must have the content of `file` (plain or gzipped, under any name).

    Raises IdxError where it is not a valid IDX file, or is a different one.
    """
    if not file.sha256:
        return _read_by_md5(path, file)
    array = read_idx(path, max_bytes=file.unpacked_bytes)
    found = idx_sha256(array)
    if found != file.sha256:
        raise IdxError(
            path,
            0,
            f"this is not the published {file.name}: the SHA-256 of its uncompressed bytes "
            f"starts {found[:12]}, expected {file.sha256[:12]}",
        )
    return array


def is_packed(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name."""
    with open(path, "rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _read_by_md5(path: Path, file: RemoteFile) -> NDArray[Any]:
    """The same by the MD5 of the `.gz`. An uncompressed file can't be verified by it, and is accepted as it is."""
    array = read_idx(path, max_bytes=file.unpacked_bytes)
    if is_packed(path) and (found := md5_of(path)) != file.md5:
        raise IdxError(
            path,
            0,
            f"this is not the published {file.name}: the MD5 of its bytes starts {found[:12]}, expected "
            f"{file.md5[:12]}; decompressed, it would be accepted without verification",
        )
    return array


def md5_of(path: Path) -> str:
    """The MD5 of a file's bytes, not decompressed, 32 hex digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as packed:
        while chunk := packed.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_from(mirror: str, file: RemoteFile, folder: Path, patience: Patience) -> NDArray[Any]:
    with atomic_file(folder / file.name) as part:
        _stream(mirror + file.name, part, file, patience)
        part.flush()
        try:
            return read_verified(Path(part.name), file)
        except IdxError as error:
            raise _MirrorError(error.problem) from error


def _stream(url: str, part: BinaryIO, file: RemoteFile, patience: Patience) -> None:
    """Copy what `url` sends into `part`. Raises _MirrorError or _FolderError."""
    from tqdm import tqdm  # here, as pooch below: together they take longer to import than NumPy

    hidden = not is_terminal(sys.stderr)
    with tqdm(total=file.packed_bytes, desc=file.name, unit="B", unit_scale=True, disable=hidden) as bar:
        sink = _Sink(part, bar, most=2 * file.unpacked_bytes + (1 << 16))
        worker = _Worker(url, sink, patience)
        worker.start()
        started = time.monotonic()
        while worker.is_alive():
            worker.join(0.1)
            now = time.monotonic()
            # An abandoned worker stops by itself: our caller closes `part`, and its next write fails.
            if now - sink.heard > patience.silence:
                raise _MirrorError(f"silent for {patience.silence:g} s, after {sink.received} bytes")
            if now - started > patience.total:
                raise _MirrorError(f"too slow: {sink.received} bytes in {patience.total:g} s")
    if worker.error is not None:
        raise _in_words(worker.error, sink) from worker.error


class _Sink:
    """The file that pooch writes to; it records when bytes last arrived, and rejects more than there can be."""

    def __init__(self, part: BinaryIO, bar: Any, most: int) -> None:
        self.part, self.bar, self.most = part, bar, most
        self.received, self.heard = 0, time.monotonic()

    def write(self, chunk: bytes) -> None:
        self.received, self.heard = self.received + len(chunk), time.monotonic()
        if self.received > self.most:
            raise _MirrorError(f"it sent more than {self.most} bytes")
        try:
            self.part.write(chunk)
        except OSError as error:
            raise _FolderError(*error.args) from error
        self.bar.update(len(chunk))

    def flush(self) -> None:
        """pooch calls this after every chunk; atomic_file flushes once, at the end."""


class _Worker(threading.Thread):
    """Runs pooch's HTTP downloader. A daemon, so that a hanging one does not keep the program from exiting."""

    def __init__(self, url: str, sink: _Sink, patience: Patience) -> None:
        super().__init__(daemon=True)
        self.url, self.sink, self.patience = url, sink, patience
        self.error: Exception | None = None

    def run(self) -> None:
        import pooch

        responses: list[Any] = []  # redirects included; pooch leaves them open where a download fails
        # identity: the server must not compress or decompress the file on the way
        get = pooch.HTTPDownloader(
            chunk_size=1 << 12,
            headers={"Accept-Encoding": "identity"},
            timeout=(self.patience.connect, 2 * self.patience.silence),
            hooks={"response": lambda response, **_: responses.append(response)},
        )
        try:
            get(self.url, self.sink, None)
        except Exception as error:  # whatever it is, the waiting thread interprets it
            self.error = error
        finally:
            for response in responses:
                response.close()


def _in_words(error: Exception, sink: _Sink) -> Exception:
    """Return the _MirrorError or _FolderError that says in a few words what pooch's exception means."""
    import requests

    if isinstance(error, (_MirrorError, _FolderError)):
        return error
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _MirrorError(f"HTTP status {error.response.status_code} {error.response.reason}")
    if isinstance(error, requests.exceptions.SSLError):
        return _MirrorError("its certificate is not valid (a network with a login page causes this)")
    if isinstance(error, requests.ConnectTimeout):
        return _MirrorError("no connection in time")
    if isinstance(error, requests.TooManyRedirects):
        return _MirrorError("it redirects in a circle")
    if isinstance(error, requests.RequestException) and (
        sink.received or isinstance(error, requests.exceptions.ChunkedEncodingError)
    ):
        return _MirrorError(f"the connection was lost (after at least {sink.received} bytes)")
    if isinstance(error, requests.ConnectionError):
        return _MirrorError(f"no connection ({_root_cause(error)})")
    return _MirrorError(f"{type(error).__name__}: {error}")


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason in a chain of exceptions: 'Connection refused', not a page about pools."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
