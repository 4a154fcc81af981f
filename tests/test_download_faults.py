"""The downloader with several processes at once, killed, on full and read-only disks, and with the real files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidl import data
from minidl.data import DownloadError, load_mnist, write_idx
from minidl.data.atomic import sweep_parts
from minidl.data.download import fetch, read_verified
from minidl.data.known import MNIST
from tests.test_download_server import ARRAY, CALM, FILE, Handler, mirror, names_in

pytest_plugins = ["tests.test_download_server"]

# ------------------------------------------------------------------------------- several at once

FETCH = """
import sys, time
from pathlib import Path
from minidl.data.download import RemoteFile, Patience, fetch
name, packed, unpacked, sha256, folder, until, *mirrors = sys.argv[1:]
import pooch, requests, tqdm
while time.time() < float(until): pass
file = RemoteFile(name, int(packed), int(unpacked), sha256)
print(fetch(file, Path(folder), mirrors, Patience(5, 10, 30, 1))[0].sum())
"""


def start_fetch(folder, mirrors, until=0.0, **options):
    arguments = [FILE.name, FILE.packed_bytes, FILE.unpacked_bytes, FILE.sha256, folder, until, *mirrors]
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_fetch_at_once(server, tmp_path, count):
    until = time.time() + 0.5 + 0.3 * count
    mirrors = [mirror(server, name) for name in ("cut", "wrong", "good")]
    running = [start_fetch(tmp_path, mirrors, until) for _ in range(count)]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert out == f"{ARRAY.sum()}\n", err
    assert names_in(tmp_path) == [FILE.name]
    read_verified(tmp_path / FILE.name, FILE)
    assert len(server.requests) == 3 * count


def test_a_killed_download_leaves_nothing_under_the_name_and_is_swept_later(server, tmp_path):
    process = start_fetch(tmp_path, [mirror(server, "stall")])
    deadline = time.monotonic() + 20
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=20)
    (part,) = names_in(tmp_path)
    assert part.startswith(f".{FILE.name}.")
    assert part.endswith(".part")
    fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert names_in(tmp_path) == [part, FILE.name], "a young .part file may be another process's"
    os.utime(tmp_path / part, (1, 1))
    fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert names_in(tmp_path) == [FILE.name]


def test_a_part_file_that_another_process_sweeps_first(tmp_path, monkeypatch):
    for name in (".a.part", ".b.part"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1, 1))
    unlink = Path.unlink

    def twice(path, missing_ok=False):
        unlink(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", twice)
    sweep_parts(tmp_path)
    assert names_in(tmp_path) == []


def test_a_part_file_of_another_user_does_not_stop_a_download(server, tmp_path, monkeypatch):
    """As in a cache that a class shares, in a folder where each may remove only their own files."""
    part = tmp_path / ".a.part"
    part.touch()
    os.utime(part, (1, 1))
    unlink = Path.unlink

    def only_mine(path, missing_ok=False):
        if path == part:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", only_mine)
    fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert names_in(tmp_path) == [part.name, FILE.name]


# ------------------------------------------------------------------------------- the folder


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written") as caught:
        fetch(FILE, tmp_path / "file" / "cache", [mirror(server, "good")], CALM)
    assert "MINIDL_CACHE" in str(caught.value)
    assert server.requests == [], "no mirror is asked for what cannot be kept"


def test_a_folder_without_write_permission(server, tmp_path):
    from tests.test_idx import as_nobody

    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    (tmp_path / "cache").mkdir(mode=0o555)
    code = (
        "os.environ.update(MINIDL_CACHE=sys.argv[1], MINIDL_DATA='')\n"
        "data.mnist.EMBEDDED = data.mnist.Path(sys.argv[3])\n"
        "note = data.load_mnist(mirrors=[sys.argv[2]]).note\nprint(note)"
    )
    # The checkout itself may lie where nobody else may look, in a home folder say.
    embedded = shutil.copytree(data.mnist.EMBEDDED, tmp_path / "embedded")
    done = as_nobody(code, tmp_path / "cache", mirror(server, "good"), embedded)
    assert f"the folder {tmp_path / 'cache'} cannot be written: Permission denied" in done.stdout, done.stderr
    assert server.requests == []


def test_a_full_disk_by_a_limit_on_file_size(server, tmp_path):
    import resource

    limit = (10_000, 10_000)
    process = start_fetch(
        tmp_path,
        [mirror(server, "good"), mirror(server, "missing")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "DownloadError" in err
    assert f"the folder {tmp_path} cannot be written: File too large" in err
    assert names_in(tmp_path) == []
    assert len(server.requests) == 1, "another mirror cannot mend a full disk"


def test_a_full_disk(server, tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        with pytest.raises(DownloadError, match="cannot be written: No space left on device"):
            fetch(FILE, tmp_path, [mirror(server, "good"), mirror(server, "missing")], CALM)
        assert names_in(tmp_path) == []
        with pytest.raises(OSError, match="No space left"):
            write_idx(tmp_path / "file", ARRAY)
        assert names_in(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_final_name_is_taken_by_a_folder(server, tmp_path):
    (tmp_path / FILE.name).mkdir()
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert names_in(tmp_path) == [FILE.name]


# ------------------------------------------------------------------------------- the four real files


def test_real_mnist_through_the_downloader(server, tmp_path, monkeypatch, mnist_root):
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    root = os.environ["MINIDL_DATA"]
    mirrors = [mirror(server, "missing"), mirror(server, "mnist")]

    def load(**options):
        # the server reads MINIDL_DATA, the loader must not: so it is given as unset by an empty value
        monkeypatch.setattr(data.mnist.os, "environ", {**os.environ, "MINIDL_DATA": ""})
        monkeypatch.setattr(
            Handler, "do_mnist", lambda self: self.send((Path(root) / self.path.rsplit("/", 1)[1]).read_bytes())
        )
        return load_mnist(mirrors=mirrors, **options)

    dataset = load(name="mnist")
    assert dataset.source == f"downloaded from {mirrors[1]}"
    assert names_in(tmp_path) == sorted(file.name for file in MNIST.values())
    assert len(server.requests) == 5, "a mirror that failed once is asked last from then on"

    server.requests.clear()
    again = load(name="auto")
    assert again.source == f"cache {tmp_path}"
    assert again.sha256 == dataset.sha256
    assert server.requests == []

    damaged = tmp_path / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    offline = load(name="auto", download=False)
    assert offline.name == "mnist5k"
    assert "t10k-labels is not in the cache folder" in offline.note
    repaired = load(name="auto")
    assert repaired.sha256 == dataset.sha256
    assert len(server.requests) == 2, "only what is damaged is fetched again"
