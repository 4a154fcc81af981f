"""A real HTTP server on loopback that does everything a bad server can do, for the tests of the downloader.

A test module gets its `server` with `pytest_plugins = ["tests.test_download_server"]`.
"""

import gzip
import hashlib
import http.server
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from minidl.data.download import Patience, RemoteFile

ARRAY = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
RAW = b"\0\0\x08\x03" + np.array(ARRAY.shape, ">u4").tobytes() + ARRAY.tobytes()
PACKED = gzip.compress(RAW)
FILE = RemoteFile("images.gz", len(PACKED), len(RAW), hashlib.sha256(RAW).hexdigest())
CALM = Patience(connect=5, silence=10, total=30, passes=1)
FAST = Patience(connect=0.5, silence=1, total=2.5, passes=1)  # for servers that are meant to be too slow
BOMB = gzip.compress(b"\0\0\x08\x01" + (1 << 26).to_bytes(4, "big") + bytes(1 << 26))


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
        for i in range(0, len(PACKED), 1024):  # about four seconds in all
            self.wfile.write(PACKED[i : i + 1024])
            self.wfile.flush()
            time.sleep(0.1)

    def do_endless(self):
        self.send(b"", claimed=1 << 40)
        for _ in range(2000):  # 32 MB, many times what may come
            self.wfile.write(bytes(16384))

    def do_bomb(self):  # a header that claims 64 MB, which the file really holds
        self.send(BOMB)

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


@pytest.fixture(scope="session")
def http_server():
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


@pytest.fixture
def server(monkeypatch, http_server):
    """The server, with an empty list of requests; no proxy stands between it and the test."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    http_server.requests = []
    return http_server


def mirror(server, behaviour):
    return f"{server.url}/{behaviour}/"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())
