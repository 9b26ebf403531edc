"""A file from one member to the others: only to members, whole, and known when not."""

import datetime
import ipaddress
import socket
import threading

import etcd_ha_transfer
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from etcd_ha_transfer import Identity, TransferError

HOST, GUEST, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def port():
    with socket.socket() as one:
        one.bind((HOST, 0))
        return one.getsockname()[1]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "snapshot.db"
    path.write_bytes(bytes(range(256)) * 20000)
    return path


class Authority:
    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.signed(name, self.key, None, True)
        self.path = self.write(f"{name}.crt", self.certificate)

    def signed(self, name, key, alternatives, is_ca=False):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder(
            issuer,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now,
            now + datetime.timedelta(days=1),
        ).add_extension(x509.BasicConstraints(is_ca, None), True)
        if alternatives:
            names = [x509.IPAddress(ipaddress.ip_address(one)) for one in alternatives]
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        return made.sign(self.key, hashes.SHA256())

    def write(self, name, certificate):
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)

    def identity(self, address):
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.folder / f"{self.name}-{address}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        leaf = self.write(f"{self.name}-{address}.crt", self.signed(address, key, [address]))
        return Identity(self.path, leaf, str(path))


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_a_guest_has_the_file_whole_and_for_root_alone(authority, file, tmp_path):
    at, copy = (HOST, port()), tmp_path / "copy"
    guests = {GUEST: [], OTHER: []}
    with etcd_ha_transfer.served(str(file), at, guests, authority.identity(HOST)) as service:
        etcd_ha_transfer.fetch(at, authority.identity(GUEST), 5, str(copy), GUEST)
        assert service.waiting == {OTHER}
        etcd_ha_transfer.fetch(at, authority.identity(OTHER), 5, source=OTHER)
        service.wait(5)
    assert copy.read_bytes() == file.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("who", ["no member", "another's certificate", "another CA", "in plain"])
def test_nobody_else_has_it(authority, file, tmp_path, who):
    at, copy = (HOST, port()), tmp_path / "copy"
    identity, source = {
        "no member": (authority.identity(OTHER), OTHER),
        "another's certificate": (authority.identity(OTHER), GUEST),
        "another CA": (Authority(tmp_path, "evil").identity(GUEST), GUEST),
        "in plain": (None, GUEST),
    }[who]
    with etcd_ha_transfer.served(str(file), at, {GUEST: []}, authority.identity(HOST)) as service:
        with pytest.raises(TransferError, match="nothing could be fetched"):
            etcd_ha_transfer.fetch(at, identity, 0.5, str(copy), source)
        with pytest.raises(TransferError, match=GUEST):
            service.wait(0.2)
    assert not copy.exists()


@pytest.mark.parametrize("whose", ["another member's", "another CA's"])
def test_a_guest_takes_it_from_the_right_member_alone(authority, file, tmp_path, whose):
    at, copy = (HOST, port()), tmp_path / "copy"
    if whose == "another member's":
        server = authority.identity(OTHER)
    else:
        server = Authority(tmp_path, "evil").identity(HOST)
    with (
        etcd_ha_transfer.served(str(file), at, {GUEST: []}, server),
        pytest.raises(TransferError, match="nothing could be fetched"),
    ):
        etcd_ha_transfer.fetch(at, authority.identity(GUEST), 0.5, str(copy), GUEST)
    assert not copy.exists()


def test_a_member_is_known_by_its_name_too(authority, file, tmp_path):
    """Certificates of people's own may bear no addresses of guests."""
    at, copy = (HOST, port()), tmp_path / "copy"
    guests = {GUEST: [OTHER]}
    with etcd_ha_transfer.served(str(file), at, guests, authority.identity(HOST)) as service:
        etcd_ha_transfer.fetch(at, authority.identity(OTHER), 5, str(copy), GUEST)
        service.wait(5)


def test_without_tls_it_goes_to_members_addresses_alone(file, tmp_path):
    at, copy = (HOST, port()), tmp_path / "copy"
    with etcd_ha_transfer.served(str(file), at, {GUEST: []}, None) as service:
        with pytest.raises(TransferError):
            etcd_ha_transfer.fetch(at, None, 0.5, str(copy), OTHER)
        etcd_ha_transfer.fetch(at, None, 5, str(copy), GUEST)
        service.wait(5)
    assert copy.read_bytes() == file.read_bytes()


def test_a_guest_that_comes_first_waits(file, tmp_path):
    at, copy = (HOST, port()), tmp_path / "copy"
    guest = threading.Thread(target=etcd_ha_transfer.fetch, args=(at, None, 5, str(copy), GUEST))
    guest.start()
    with etcd_ha_transfer.served(str(file), at, {GUEST: []}, None) as service:
        service.wait(5)
    guest.join()
    assert copy.read_bytes() == file.read_bytes()


def test_one_that_does_not_come_is_named(file):
    at = (HOST, port())
    with (
        etcd_ha_transfer.served(str(file), at, {GUEST: []}, None) as service,
        pytest.raises(TransferError, match=rf"{GUEST} did not fetch the file within 0.2 s"),
    ):
        service.wait(0.2)


def test_a_port_that_is_taken_is_told(file):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        at = taken.getsockname()
        with (
            pytest.raises(TransferError, match="cannot be listened on"),
            etcd_ha_transfer.served(str(file), at, {}, None),
        ):
            pass


def test_a_member_that_listens_and_does_not_serve_is_no_answer():
    with socket.create_server((HOST, 0)) as silent:
        assert not etcd_ha_transfer.answers(silent.getsockname(), None, 0.2)


def test_a_member_that_comes_to_serve_is_waited_for():
    with socket.create_server((HOST, 0)) as late:

        def serve():
            connection, _ = late.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert etcd_ha_transfer.answers(late.getsockname(), None, 5)
        thread.join()
