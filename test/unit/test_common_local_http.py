"""HTTP over a socket in the file system."""

import http.server
import socketserver
import threading

import etcd_ha_common_local_http
import pytest


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = b"x" * (9 << 20) if self.path == "/long" else self.rfile.read(length)
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body)

    def address_string(self):
        return "a socket"

    def log_message(self, *words):
        pass


@pytest.fixture
def path(tmp_path):
    """Deeper than the 108 bytes that a socket's address may have."""
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    short = f"{tmp_path}/s"
    with socketserver.ThreadingUnixStreamServer(short, Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        (tmp_path / "s").rename(folder / "client:1")
        yield str(folder / "client:1")
        server.shutdown()
        thread.join()


def test_what_listens_at_a_long_path_is_asked(path):
    assert etcd_ha_common_local_http.get(path, "/a", 5) == (200, "/a ")
    assert etcd_ha_common_local_http.get(path, "/b", 5, '{"revision": 0}') == (
        200,
        '/b {"revision": 0}',
    )
    assert etcd_ha_common_local_http.get(path, "/none", 5)[0] == 404


def test_no_answer_and_one_without_an_end_are_errors(path, tmp_path):
    with pytest.raises(OSError, match="more than"):
        etcd_ha_common_local_http.get(path, "/long", 5)
    with pytest.raises(FileNotFoundError):
        etcd_ha_common_local_http.get(f"{tmp_path}/none", "/", 5)
