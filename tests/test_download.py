"""The real downloader against a real HTTP server on loopback that does everything a bad server can do."""

import gzip
import hashlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import data.download
from data import DownloadError, load_mnist, read_idx, write_idx
from data.download import Patience, RemoteFile, fetch, read_verified
from data.mnist import MNIST

ARRAY = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
RAW = b"\0\0\x08\x03" + np.array(ARRAY.shape, ">u4").tobytes() + ARRAY.tobytes()
PACKED = gzip.compress(RAW)
FILE = RemoteFile("images.gz", len(PACKED), len(RAW), hashlib.sha256(RAW).hexdigest())
FAST = Patience(connect=0.5, silence=0.6, total=1.5, passes=1)


class Handler(http.server.BaseHTTPRequestHandler):
    """Each path begins with the name of a behaviour: /cut/images.gz."""

    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self):
        self.server.requests.append(self.path)
        if len(self.server.requests) > 500:
            return self.close_connection_now()
        return getattr(self, "do_" + self.path.split("/")[1])()

    def log_message(self, *arguments):
        pass

    def close_connection_now(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, body, status=200, claimed=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_good(self):
        self.send(PACKED)

    def do_repacked(self):
        self.send(gzip.compress(RAW, 1, mtime=99))

    def do_unpacked(self):
        self.send(RAW)

    def do_encoded(self):  # a server that declares its .gz file as an encoding, so that the client unpacks it
        self.send(PACKED, Content_Encoding="gzip")

    def do_once(self):  # fails at first, then works
        self.send(PACKED) if self.server.requests.count(self.path) > 1 else self.send(b"", 503)

    def do_html(self):
        self.send(b"<!DOCTYPE html><title>Log in to the Wi-Fi</title>" * 50, Content_Type="text/html")

    def do_wrong(self):
        self.send(gzip.compress(RAW[:-1] + bytes([RAW[-1] ^ 1])))

    def do_other(self):
        self.send(gzip.compress(b"\0\0\x08\x01\0\0\0\x01a"))

    def do_empty(self):
        self.send(b"")

    def do_cut(self):
        self.send(PACKED[:5000], claimed=len(PACKED))

    def do_short(self):  # cut, and the length says that it is all
        self.send(PACKED[:5000])

    def do_reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.send(PACKED[:5000], claimed=len(PACKED))
        self.wfile.flush()
        time.sleep(0.1)
        self.connection.close()
        self.close_connection = True

    def do_hangup(self):
        self.close_connection_now()

    def do_garbage(self):
        self.wfile.write(b"220 mail server ready\r\n")
        self.close_connection = True

    def do_length(self):
        self.send(PACKED, claimed="many")

    def do_badencoding(self):
        self.send(b"this is no gzip", Content_Encoding="gzip")

    def do_missing(self):
        self.send(b"<html>no such file</html>", 404)

    def do_forbidden(self):
        self.send(b"", 403)

    def do_broken(self):
        self.send(b"", 500)

    def do_silent(self):
        time.sleep(3)
        self.close_connection = True

    def do_stall(self):
        self.send(PACKED[:5000], claimed=len(PACKED))
        self.wfile.flush()
        time.sleep(3)

    def do_trickle(self):
        self.send(b"", claimed=len(PACKED))
        for i in range(0, len(PACKED), 1024):  # about two seconds in all
            self.wfile.write(PACKED[i:i + 1024])
            self.wfile.flush()
            time.sleep(0.05)

    def do_endless(self):
        self.send(b"", claimed=1 << 40)
        for _ in range(2000):  # 32 MB, many times what may come
            self.wfile.write(bytes(16384))

    def do_bomb(self):  # a header that claims a gigabyte, which the file really holds
        self.send(gzip.compress(b"\0\0\x08\x01" + (1 << 26).to_bytes(4, "big") + bytes(1 << 26)))

    def do_circle(self):
        self.send(b"", 302, Location=self.path)

    def do_nowhere(self):
        self.send(b"", 302, Location=f"http://127.0.0.1:{self.server.closed_port}/images.gz")

    def do_nohost(self):
        self.send(b"", 302, Location="http://no-such-host.invalid/images.gz")

    def do_badurl(self):
        self.send(b"", 302, Location="http://[not-an-address/images.gz")

    def do_ftp(self):
        self.send(b"", 302, Location="ftp://127.0.0.1/images.gz")

    def do_redirect(self):
        self.send(b"", 302, Location="/good/images.gz")

    def do_mnist(self):
        self.send((Path(os.environ["MINIDL_DATA"]) / self.path.rsplit("/", 1)[1]).read_bytes())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is what some of these tests are about."""


@pytest.fixture(scope="module")
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            server.closed_port = unused.getsockname()[1]
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def clean(monkeypatch, server):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server.requests = []


def mirror(server, behaviour):
    return f"{server.url}/{behaviour}/"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize("behaviour", ["good", "repacked", "unpacked", "encoded", "redirect"])
def test_the_right_bytes_in_any_wrapping_are_kept(server, tmp_path, behaviour):
    folder = tmp_path / "new" / "cache"
    array, sender = fetch(FILE, folder, [mirror(server, behaviour)], FAST)
    assert sender == mirror(server, behaviour)
    np.testing.assert_array_equal(array, ARRAY)
    assert names_in(folder) == [FILE.name]
    np.testing.assert_array_equal(read_idx(folder / FILE.name), ARRAY)


BAD = {
    "html": r"web page \(HTML\)",
    "wrong": r"not the published images.gz: the SHA-256 of its unpacked bytes starts \w{12}, expected \w{12}\n",
    "other": "not the published images.gz",
    "empty": "found an empty file",
    "cut": r"the connection was cut \(at least \d+ bytes came\)|found damage",
    "short": "found damage",
    "reset": "the connection was cut|found damage",
    "hangup": "no connection",
    "garbage": "no connection",
    "length": "Error|found damage",
    "badencoding": "Error",
    "missing": "HTTP status 404 Not Found",
    "forbidden": "HTTP status 403 Forbidden",
    "broken": "HTTP status 500 Internal Server Error",
    "silent": "silent for 0.6 s, after 0 bytes",
    "stall": r"silent for 0.6 s, after \d+ bytes",
    "trickle": r"too slow: \d+ bytes in 1.5 s",
    "endless": r"more than \d+ bytes came",
    "bomb": "at most 39216 bytes of elements, the header claims 67108864",
    "circle": "redirects in a circle",
    "nowhere": "no connection .*refused",
    "nohost": "no connection",
    "badurl": "Invalid",
    "ftp": "InvalidSchema",
}


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_answer_is_named_and_the_next_mirror_tried(server, tmp_path, behaviour):
    mirrors = [mirror(server, behaviour), mirror(server, "good")]
    before = threading.active_count()
    array, sender = fetch(FILE, tmp_path, mirrors, FAST)
    np.testing.assert_array_equal(array, ARRAY)
    assert names_in(tmp_path) == [FILE.name]
    assert sender == mirrors[1]
    assert threading.active_count() <= before + 4

    with pytest.raises(DownloadError, match=BAD[behaviour]) as caught:
        fetch(FILE, tmp_path / "alone", mirrors[:1], FAST)
    assert mirrors[0] in str(caught.value)
    assert str(tmp_path / "alone") in str(caught.value)
    assert names_in(tmp_path / "alone") == []


def test_the_message_lists_every_mirror_and_how_to_do_it_by_hand(server, tmp_path):
    mirrors = [mirror(server, name) for name in ("missing", "html", "nowhere")]
    with pytest.raises(DownloadError) as caught:
        fetch(FILE, tmp_path, mirrors, Patience(1, 1, 2, passes=2, pause=0))
    text = str(caught.value)
    assert all(f"{url}: " in text for url in mirrors)
    assert text.count("404") == 1, "what a mirror answers twice is told once"
    assert "HTTP status 404" in caught.value.reason
    assert "By hand" in text
    assert str(tmp_path) in text
    assert "MINIDL_DATA" in text
    assert len(server.requests) == 6, "each mirror is tried a second time"
    import pickle
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_a_second_pass_helps_where_a_mirror_recovers(server, tmp_path):
    array, _ = fetch(FILE, tmp_path, [mirror(server, "once")], Patience(1, 1, 2, passes=2, pause=0.01))
    np.testing.assert_array_equal(array, ARRAY)


def test_no_mirror_at_all(tmp_path):
    with pytest.raises(DownloadError, match="there is no mirror to ask"):
        fetch(FILE, tmp_path, [], FAST)


def test_a_certificate_that_is_not_valid(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate for this test")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert",
                    "-days", "2", "-subj", "/CN=127.0.0.1"], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with pytest.raises(DownloadError, match="certificate is not valid"):
            fetch(FILE, tmp_path / "cache", [f"https://127.0.0.1:{server.server_port}/good/"], FAST)
        server.shutdown()
        thread.join()


def test_a_port_that_accepts_no_more_connections(tmp_path):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        started = time.monotonic()
        patience = Patience(connect=0.3, silence=1, total=2, passes=1)
        with pytest.raises(DownloadError, match="no connection in time"):
            fetch(FILE, tmp_path, [f"http://127.0.0.1:{full.getsockname()[1]}/"], patience)
        assert time.monotonic() - started < 1
        for one in waiting:
            one.close()


def test_a_name_server_that_never_answers(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(10) or [])
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"silent for 0\.6 s"):
        fetch(FILE, tmp_path, ["http://mirror.example/", "http://other.example/"], FAST)
    assert time.monotonic() - started < 3
    release.set()


def test_auto_goes_on_within_seconds_where_nothing_answers(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    started = time.monotonic()
    dataset = load_mnist(mirrors=[mirror(server, "silent")])
    assert time.monotonic() - started < 6
    assert dataset.name == "mnist5k"
    assert dataset.note.startswith("full MNIST could not be had (")
    assert dataset.note.endswith("), so this is the embedded mnist5k")
    assert "silent" in dataset.note or "cut" in dataset.note or "no connection" in dataset.note
    assert names_in(tmp_path) == []


def test_ctrl_c_leaves_no_file(server, tmp_path, monkeypatch):
    def interrupt(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.download._Worker, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(FILE, tmp_path, [mirror(server, "stall")], FAST)
    assert names_in(tmp_path) == []


# ------------------------------------------------------------------------------- the progress bar


def test_a_bar_on_a_terminal_and_none_in_a_log(server, tmp_path, capsys, monkeypatch):
    fetch(FILE, tmp_path, [mirror(server, "good")], FAST)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch(FILE, tmp_path, [mirror(server, "good")], FAST)
    assert FILE.name in capsys.readouterr().err


# ------------------------------------------------------------------------------- several at once

FETCH = """
import sys, time
from pathlib import Path
from data.download import RemoteFile, Patience, fetch
name, packed, unpacked, sha256, folder, until, *mirrors = sys.argv[1:]
import pooch, requests, tqdm
while time.time() < float(until): pass
file = RemoteFile(name, int(packed), int(unpacked), sha256)
print(fetch(file, Path(folder), mirrors, Patience(5, 10, 30, 1))[0].sum())
"""


def start_fetch(folder, mirrors, until=0.0, **options):
    arguments = [FILE.name, FILE.packed_bytes, FILE.unpacked_bytes, FILE.sha256, folder, until, *mirrors]
    return subprocess.Popen([sys.executable, "-c", FETCH, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


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
    fetch(FILE, tmp_path, [mirror(server, "good")], FAST)
    assert names_in(tmp_path) == [part, FILE.name], "a young .part file may be another process's"
    os.utime(tmp_path / part, (1, 1))
    fetch(FILE, tmp_path, [mirror(server, "good")], FAST)
    assert names_in(tmp_path) == [FILE.name]


def test_a_part_file_that_another_process_sweeps_first(tmp_path, monkeypatch):
    from data.atomic import sweep_parts

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


# ------------------------------------------------------------------------------- the folder


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written") as caught:
        fetch(FILE, tmp_path / "file" / "cache", [mirror(server, "good")], FAST)
    assert "MINIDL_CACHE" in str(caught.value)
    assert server.requests == [], "no mirror is asked for what cannot be kept"


def test_a_folder_without_write_permission(server, tmp_path):
    from test_idx import as_nobody

    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    (tmp_path / "cache").mkdir(mode=0o555)
    code = ("os.environ.update(MINIDL_CACHE=sys.argv[1], MINIDL_DATA='')\n"
            "note = data.load_mnist(mirrors=[sys.argv[2]]).note\nprint(note)")
    done = as_nobody(code, tmp_path / "cache", mirror(server, "good"))
    assert f"the folder {tmp_path / 'cache'} cannot be written: Permission denied" in done.stdout, done.stderr
    assert server.requests == []


def test_a_full_disk_by_a_limit_on_file_size(server, tmp_path):
    import resource

    limit = (10_000, 10_000)
    process = start_fetch(tmp_path, [mirror(server, "good"), mirror(server, "missing")],
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
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
            fetch(FILE, tmp_path, [mirror(server, "good"), mirror(server, "missing")], FAST)
        assert names_in(tmp_path) == []
        with pytest.raises(OSError, match="No space left"):
            write_idx(tmp_path / "file", ARRAY)
        assert names_in(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_final_name_is_taken_by_a_folder(server, tmp_path):
    (tmp_path / FILE.name).mkdir()
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(FILE, tmp_path, [mirror(server, "good")], FAST)
    assert names_in(tmp_path) == [FILE.name]


# ------------------------------------------------------------------------------- the four real files


def test_real_mnist_through_the_downloader(server, tmp_path, monkeypatch, mnist_root):
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    root = os.environ["MINIDL_DATA"]
    mirrors = [mirror(server, "missing"), mirror(server, "mnist")]

    def load(**options):
        # the server reads MINIDL_DATA, the loader must not: so it is given as unset by an empty value
        monkeypatch.setattr(data.mnist.os, "environ", {**os.environ, "MINIDL_DATA": ""})
        monkeypatch.setattr(Handler, "do_mnist", lambda self: self.send(
            (Path(root) / self.path.rsplit("/", 1)[1]).read_bytes()))
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
