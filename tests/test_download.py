"""What the real downloader makes of each answer that a server on loopback gives it, good or bad."""

import pickle
import shutil
import socket
import ssl
import subprocess
import threading
import time

import numpy as np
import pytest

from minidl import data
from minidl.data import DownloadError, load_mnist, read_idx
from minidl.data.download import Patience, fetch
from tests.test_download_server import ARRAY, CALM, FAST, FILE, Handler, Server, mirror, names_in

pytest_plugins = ["tests.test_download_server"]

# ------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize("behaviour", ["good", "repacked", "unpacked", "encoded", "redirect"])
def test_the_right_bytes_in_any_wrapping_are_kept(server, tmp_path, behaviour):
    folder = tmp_path / "new" / "cache"
    array, sender = fetch(FILE, folder, [mirror(server, behaviour)], CALM)
    assert sender == mirror(server, behaviour)
    np.testing.assert_array_equal(array, ARRAY)
    assert names_in(folder) == [FILE.name]
    np.testing.assert_array_equal(read_idx(folder / FILE.name), ARRAY)


BAD = {
    "html": r"web page \(HTML\)",
    "wrong": r"not the published images.gz: the SHA-256 of its uncompressed bytes starts \w{12}, expected \w{12}\n",
    "other": "not the published images.gz",
    "empty": "found an empty file",
    "cut": r"the connection was lost \(after at least \d+ bytes\)|data is damaged",
    "short": "data is damaged",
    "reset": "the connection was lost|data is damaged",
    "hangup": "no connection",
    "garbage": "no connection",
    "length": "Error|found damage",
    "badencoding": "Error",
    "missing": "HTTP status 404 Not Found",
    "forbidden": "HTTP status 403 Forbidden",
    "broken": "HTTP status 500 Internal Server Error",
    "silent": "silent for 1 s, after 0 bytes",
    "stall": r"silent for 1 s, after \d+ bytes",
    "trickle": r"too slow: \d+ bytes in 2.5 s",
    "endless": r"it sent more than \d+ bytes",
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
    patience = FAST if behaviour in ("silent", "stall", "trickle") else CALM
    array, sender = fetch(FILE, tmp_path, mirrors, patience)
    np.testing.assert_array_equal(array, ARRAY)
    assert names_in(tmp_path) == [FILE.name]
    assert sender == mirrors[1]
    assert threading.active_count() <= before + 4

    with pytest.raises(DownloadError, match=BAD[behaviour]) as caught:
        fetch(FILE, tmp_path / "alone", mirrors[:1], patience)
    assert mirrors[0] in str(caught.value)
    assert str(tmp_path / "alone") in str(caught.value)
    assert names_in(tmp_path / "alone") == []


def test_the_message_lists_every_mirror_and_how_to_do_it_by_hand(server, tmp_path):
    mirrors = [mirror(server, name) for name in ("missing", "html", "nowhere")]
    with pytest.raises(DownloadError) as caught:
        fetch(FILE, tmp_path, mirrors, Patience(5, 10, 30, passes=2, pause=0))
    text = str(caught.value)
    assert all(f"{url}: " in text for url in mirrors)
    assert text.count("HTTP status 404") == 1, "what a mirror answers twice is told once"
    assert "HTTP status 404" in caught.value.reason
    assert "Instead, get the four" in text
    assert str(tmp_path) in text
    assert "MINIDL_DATA" in text
    assert len(server.requests) == 6, "each mirror is tried a second time"
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_a_second_pass_helps_where_a_mirror_recovers(server, tmp_path):
    array, _ = fetch(FILE, tmp_path, [mirror(server, "once")], Patience(5, 10, 30, passes=2, pause=0.01))
    np.testing.assert_array_equal(array, ARRAY)


def test_no_mirror_at_all(tmp_path):
    with pytest.raises(DownloadError, match="there is no mirror to ask"):
        fetch(FILE, tmp_path, [], FAST)


def test_a_certificate_that_is_not_valid(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate for this test")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "cert",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with pytest.raises(DownloadError, match="certificate is not valid"):
            fetch(FILE, tmp_path / "cache", [f"https://127.0.0.1:{server.server_port}/good/"], CALM)
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
        patience = Patience(connect=0.3, silence=5, total=9, passes=1)
        with pytest.raises(DownloadError, match="no connection in time"):
            fetch(FILE, tmp_path, [f"http://127.0.0.1:{full.getsockname()[1]}/"], patience)
        assert time.monotonic() - started < 3
        for one in waiting:
            one.close()


def test_a_name_server_that_never_answers(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(10) or [])
    started = time.monotonic()
    with pytest.raises(DownloadError, match="silent for 1 s"):
        fetch(FILE, tmp_path, ["http://mirror.example/", "http://other.example/"], FAST)
    assert time.monotonic() - started < 4
    release.set()


def test_auto_goes_on_within_seconds_where_nothing_answers(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    started = time.monotonic()
    dataset = load_mnist(mirrors=[mirror(server, "silent")])
    assert time.monotonic() - started < 6
    assert dataset.name == "mnist5k"
    assert dataset.note.startswith("could not get the full MNIST (")
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
    fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(data.download, "is_terminal", lambda stream: True)
    fetch(FILE, tmp_path, [mirror(server, "good")], CALM)
    assert FILE.name in capsys.readouterr().err
