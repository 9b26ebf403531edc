"""The gate before a former CA is dropped: a real handshake that trusts one CA alone."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading

import etcd_ha_machine
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from test_pem import key, key_text, pem


def signed(name, private, ca_private, ca=False):
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
        .issuer_name(x509.Name.from_rfc4514_string("CN=CA"))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(ca_private, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two CAs, and a pair of each: CA name -> (PEM of the CA, certificate file, key file)."""
    found = {}
    for name in ("old", "new"):
        ca, leaf, folder = key(), key(), tmp_path_factory.mktemp(name)
        (folder / "leaf.crt").write_text(pem(signed("leaf", leaf, ca)))
        (folder / "leaf.key").write_text(key_text(leaf))
        text = pem(signed("CA", ca, ca, ca=True))
        (folder / "ca.crt").write_text(text)
        found[name] = (text, f"{folder}/leaf.crt", f"{folder}/leaf.key", f"{folder}/ca.crt")
    return found


@contextlib.contextmanager
def serving(bears, trusts):
    """A server that asks for a certificate, as etcd does; its URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*bears[1:3])
    context.load_verify_locations(trusts[3])
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                plain, _ = listening.accept()
                with plain, context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize(
    ("bears", "trusts", "passes"),
    [("new", "new", True), ("old", "new", False), ("new", "old", False)],
)
def test_only_who_bears_and_trusts_the_new_ca_passes(made, bears, trusts, passes):
    ca, certificate, private, _ = made["new"]
    with serving(made[bears], made[trusts]) as url:
        if passes:
            etcd_ha_machine.shake_hands(url, ca, (certificate, private))
        else:
            with pytest.raises(OSError, match=r"(?i)certificate|alert|unknown ca|reset"):
                etcd_ha_machine.shake_hands(url, ca, (certificate, private))
