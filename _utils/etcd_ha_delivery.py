"""A backup on its way from a member to its master: one file, one port, TLS to one certificate.

Salt's own ways are none here: what a function returns passes the event bus and stays in the job
cache, and ``cp.push`` needs ``file_recv``, by which every minion may write to the master. So the
master waits at a port for this one file while the member's function runs. It makes a key and a
certificate for it, which the member is told by Salt and trusts alone; it takes bytes only from who
has the token, and keeps them only where their hash is the one that the member told by Salt.
"""

import contextlib
import hmac
import os
import secrets
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import etcd_ha_snapshot
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NAME, _BLOCK = "etcd_ha", 1 << 20
# Seconds in which a connection must have said who it is, and in which each block must come.
_HELLO, _SILENCE = 10.0, 60.0


class Inbox:
    """A port of the master at which one file is waited for.

    ``certificate`` and ``token`` are what the sender is told. ``problem`` is what became of the
    last try, empty once the file is there.
    """

    def __init__(self, port: int, path: str, size: int, sha256: str) -> None:
        self.path, self.size, self.sha256 = path, size, sha256
        self.token, self.problem = secrets.token_hex(32), "nobody has come"
        self.certificate, key = _identity()
        self._context = _serving(self.certificate, key)
        self._listener = socket.create_server(
            ("::", port) if socket.has_dualstack_ipv6() else ("", port),
            family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET,
            dualstack_ipv6=socket.has_dualstack_ipv6(),
        )
        self._listener.settimeout(0.5)
        self._ended = threading.Event()

    @property
    def port(self) -> int:
        """Where it waits."""
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Take one connection after the other until the file is there, or it is ``close``d."""
        while self.problem and not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                connection.settimeout(_HELLO)
                with self._context.wrap_socket(connection, server_side=True) as inner:
                    self.problem = self._received(inner)
            except (OSError, ValueError) as err:
                self.problem = f"it did not arrive: {err}"
            finally:
                connection.close()

    def close(self) -> None:
        """Wait no longer."""
        self._ended.set()
        self._listener.close()

    def _received(self, connection: ssl.SSLSocket) -> str:
        token = _exactly(connection, len(self.token))
        if not hmac.compare_digest(token, self.token.encode()):
            return "somebody else came, who has not the token"
        connection.settimeout(_SILENCE)
        part = f"{self.path}.part"
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                left = self.size
                while left:
                    block = connection.recv(min(left, _BLOCK))
                    if not block:
                        return f"it ended {left} bytes early"
                    file.write(block)
                    left -= len(block)
                file.flush()
                os.fsync(file.fileno())
            if etcd_ha_snapshot.verified_hash(part) != self.sha256:
                return "it is another snapshot than the one that was asked for"
            os.replace(part, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
        # The sender may ask what became of it as soon as it is told.
        self.problem = ""
        with contextlib.suppress(OSError):
            connection.sendall(b"+")
        return ""


@contextlib.contextmanager
def waiting(port: int, path: str, size: int, sha256: str) -> Iterator[Inbox]:
    """An inbox that waits in a thread of its own; raises OSError where the port is taken."""
    inbox = Inbox(port, path, size, sha256)
    thread = threading.Thread(target=inbox.serve, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        inbox.close()
        thread.join()


def send(path: str, at: tuple[str, int], certificate: str, token: str, timeout: float) -> int:
    """Send a file to who has this certificate (PEM text); the number of bytes. Raises OSError."""
    context = ssl.create_default_context(cadata=certificate)
    deadline, sent = time.monotonic() + timeout, 0
    with (
        open(path, "rb") as file,
        # Longer than whoever came before may keep the door without a word.
        socket.create_connection(at, _SILENCE) as plain,
        context.wrap_socket(plain, server_hostname=_NAME) as connection,
    ):
        connection.settimeout(_SILENCE)
        connection.sendall(token.encode())
        for block in iter(lambda: file.read(_BLOCK), b""):
            connection.sendall(block)
            sent += len(block)
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {sent} bytes were sent within {timeout:g} s")
        if connection.recv(1) != b"+":
            raise ConnectionError("the master did not take it")
    return sent


def _exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        block = connection.recv(count - len(found))
        if not block:
            raise ConnectionError("it ended at once")
        found += block
    return found


def _identity() -> tuple[str, str]:
    """A certificate and its key, as PEM text, for one use within a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clocks of the two may differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def _serving(certificate: str, key: str) -> ssl.SSLContext:
    """Python loads a key from files alone: it lies in one of root's for that moment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key + certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return context
