"""A file from one member to the others: mutual TLS with the peers' own certificates, one port.

It lasts as long as the call that serves it. A guest is known by its address and, under TLS, by a
certificate of the cluster's CA that bears this address or one of its names. A cluster without TLS
has its file served in plain, to its members' addresses alone.
"""

import contextlib
import http.client
import http.server
import os
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_BLOCK = 1 << 20
FILE, NOTHING = "/snapshot", "/nothing"


class TransferError(RuntimeError):
    """The file did not reach everyone; the text says whom, and why."""


@dataclass(frozen=True)
class Identity:
    """The files of a host's own certificate, and of the CA that it trusts."""

    ca: str
    certificate: str
    key: str


class Service(http.server.ThreadingHTTPServer):
    """Gives one file to each guest once; ``guests`` is address -> the names in its certificate."""

    daemon_threads = True

    def __init__(
        self,
        path: str,
        at: tuple[str, int],
        guests: Mapping[str, Collection[str]],
        identity: Identity | None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        self.path, self.guests = path, guests
        self.waiting, self.moved = set(guests), threading.Condition()
        self.last = time.monotonic()
        self.refused: dict[str, str] = {}
        self.context = _context(identity, server=True) if identity else None
        super().__init__(at, _Handler)

    def is_guest(self, address: str, connection: object) -> bool:
        """Whether this address may have the file over this connection."""
        names = self.guests.get(address)
        if names is None:
            return False
        if self.context is None:
            return True
        borne = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        found: Any = (borne or {}).get("subjectAltName", ())
        told = {str(one[1]) for one in found}
        return bool(told & {address, *names})

    def progress(self, served: str = "") -> None:
        """Note that something goes on, or that a guest has all that it came for."""
        with self.moved:
            self.last = time.monotonic()
            self.waiting.discard(served)
            self.moved.notify_all()

    def wait(self, patience: float) -> None:
        """Until every guest has been; raises TransferError after ``patience`` s without a move."""
        with self.moved:
            while self.waiting:
                left = self.last + patience - time.monotonic()
                if left <= 0:
                    told = "; ".join(f"{who}: {why}" for who, why in sorted(self.refused.items()))
                    raise TransferError(
                        f"{', '.join(sorted(self.waiting))} did not fetch the file within "
                        f"{patience:g} s{f' ({told})' if told else ''}"
                    )
                self.moved.wait(left)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A guest that breaks off comes again, or is missed at the end."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Service
    timeout = 60

    def setup(self) -> None:
        if self.server.context is not None:
            self.request.settimeout(10)
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        """The file, or the word that a guest needs none."""
        address = _plain(self.client_address[0])
        if not self.server.is_guest(address, self.connection):
            self.server.refused[address] = "its certificate is not that of a member"
            self.send_error(403)
            return
        if self.path == NOTHING:
            self.send_response(200)
            self.end_headers()
        elif self.path == FILE:
            self._send()
        else:
            self.send_error(404)
            return
        self.server.progress(address)

    def _send(self) -> None:
        with open(self.server.path, "rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            for block in iter(lambda: file.read(_BLOCK), b""):
                self.wfile.write(block)
                self.server.progress()

    def log_message(self, format: str, *args: Any) -> None:
        """What is served is told by the call that serves it."""


@contextlib.contextmanager
def served(
    path: str,
    at: tuple[str, int],
    guests: Mapping[str, Collection[str]],
    identity: Identity | None,
) -> Iterator[Service]:
    """Serve a file while the block runs; raises TransferError where the port cannot be had."""
    try:
        service = Service(path, at, guests, identity)
    except OSError as err:
        raise TransferError(f"{at[0]}:{at[1]} cannot be listened on: {err}") from err
    thread = threading.Thread(target=service.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()


def fetch(
    at: tuple[str, int],
    identity: Identity | None,
    patience: float,
    path: str | None = None,
    source: str | None = None,
) -> None:
    """Fetch the file to ``path``, or say that it is not needed (``path`` None).

    The other side may not be there yet: it is tried for ``patience`` seconds. ``source`` is the own
    address to come from. Raises TransferError.
    """
    deadline, told = time.monotonic() + patience, "no answer"
    while time.monotonic() < deadline:
        try:
            _ask(at, identity, path, source)
            return
        except (OSError, http.client.HTTPException) as err:
            told = str(err) or repr(err)
        time.sleep(0.1)
    raise TransferError(f"nothing could be fetched from {at[0]}:{at[1]} in {patience:g} s: {told}")


def answers(at: tuple[str, int], identity: Identity | None, patience: float) -> bool:
    """Whether a member serves its peers there, which is waited for; one may listen long before."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        connection = (
            http.client.HTTPConnection(*at, timeout=1)
            if identity is None
            else http.client.HTTPSConnection(*at, timeout=1, context=_context(identity, False))
        )
        try:
            connection.request("GET", "/version")
            connection.getresponse()
            return True
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()
    return False


def _ask(
    at: tuple[str, int], identity: Identity | None, path: str | None, source: str | None
) -> None:
    own = (source, 0) if source else None
    if identity is None:
        connection = http.client.HTTPConnection(*at, timeout=30, source_address=own)
    else:
        connection = http.client.HTTPSConnection(
            *at, timeout=30, source_address=own, context=_context(identity, server=False)
        )
    try:
        connection.request("GET", NOTHING if path is None else FILE)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"it answered {answer.status} {answer.reason}")
        if path is not None:
            _keep(answer, path)
    finally:
        connection.close()


def _keep(answer: http.client.HTTPResponse, path: str) -> None:
    size, held = int(answer.headers["Content-Length"]), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(path, flags, 0o600), "wb") as file:
        while block := answer.read(_BLOCK):
            file.write(block)
            held += len(block)
    if held != size:
        raise OSError(f"the connection broke after {held} of {size} bytes")


def _context(identity: Identity, server: bool) -> ssl.SSLContext:
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=identity.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def _plain(address: str) -> str:
    """An IPv4 address also where IPv6 carries it."""
    return address.removeprefix("::ffff:")
