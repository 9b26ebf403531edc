"""TLS as an outsider meets it: only a client with a certificate of this cluster's CA gets in."""

import datetime
import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lab_command import MEMBERS

PKI = "/etc/etcd/main"
CHECK = {"certificate": f"{PKI}/check.crt", "key": f"{PKI}/check.key"}
CLIENT, PEER = 2379, 2380


def ask(lab, host, port=CLIENT, **how):
    # A peer's port has certificates for peers alone; who it is, is not the question here.
    wanted = {"ca": f"{PKI}/ca.crt", "host": lab.address(host), "port": port, **CHECK, **how}
    wanted["path"] = "/health" if port == CLIENT else "/version"
    return lab.probe("lb", "tls", json.dumps(wanted))


@pytest.fixture(scope="module")
def foreign():
    """A CA that this cluster does not know, and a client of it: PEM texts."""
    return _foreign_client()


def _foreign_client():
    now = datetime.datetime.now(datetime.timezone.utc)

    def made(subject, issuer, key, signer, is_authority):
        names = [
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
        ]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        constraints = x509.BasicConstraints(ca=is_authority, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        certificate = builder.sign(signer, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    authority, client = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    # The same names as the real ones: names alone must not open the door.
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return {
        "certificate": made("root", "etcd main CA", client, authority, False),
        "key": client.private_bytes(serialization.Encoding.PEM, *form).decode(),
        "ca": made("etcd main CA", "etcd main CA", authority, authority, True),
    }


@pytest.mark.parametrize("host", [*MEMBERS, "lb"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_with_a_certificate_gets_in(converged, host, version):
    """What the refusals below are measured against: the same client, but for one thing."""
    found = ask(converged, host, version=version)
    assert found.get("status") == 200, found
    assert '"health":"true"' in found["body"].replace(" ", "")


def asked_in_the_clear(lab, host, port):
    """How plain HTTP from the CA's host ends, and from where the port was reached, if it was."""
    found = lab.probe("ca", "plain", lab.address(host), port, "/health")
    return found, found.pop("from", None)


def refusals(lab, source, hosts=MEMBERS):
    """How often these members say that they refused what came from there: it spoke no TLS."""
    lines = []
    for host in hosts:
        done = lab.exec(host, "journalctl", "-u", "etcd", "-o", "cat", "--no-pager").ok()
        lines += [line for line in done.out.splitlines() if f'"remote-addr":"{source}' in line]
    return sum("does not look like a TLS handshake" in line for line in lines)


def wait_for_refusals(lab, source, count, hosts=MEMBERS, seconds=10):
    deadline = time.monotonic() + seconds
    while (found := refusals(lab, source, hosts)) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found >= count, f"{', '.join(hosts)} did not refuse {source} for want of TLS"


# etcd hangs up without a word, and tells its journal why.
HUNG_UP = "RemoteDisconnected: Remote end closed connection without response"


@pytest.mark.parametrize("host", MEMBERS)
@pytest.mark.parametrize("port", [CLIENT, PEER])
def test_plain_http_is_refused(converged, host, port):
    found, source = asked_in_the_clear(converged, host, port)
    assert source, f"the port is not open: {found}"
    assert found == {"error": HUNG_UP}
    wait_for_refusals(converged, source, 1, hosts=[host])


def test_plain_http_is_refused_through_the_balancer(converged):
    """A balancer that has no member left hangs up as well: a member must have said no."""
    balancer = f"{converged.address('lb')}:"
    before = refusals(converged, balancer)
    found, source = asked_in_the_clear(converged, "lb", CLIENT)
    assert source, f"the port is not open: {found}"
    assert found == {"error": HUNG_UP}
    wait_for_refusals(converged, balancer, before + 1)


def test_a_balancer_has_no_peer_port(converged):
    found, source = asked_in_the_clear(converged, "lb", PEER)
    assert source is None and "ConnectionRefusedError" in found["error"], found


@pytest.mark.parametrize("host", [*MEMBERS, "lb"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_no_certificate_is_refused(converged, host, version):
    found = ask(converged, host, version=version, certificate=None)
    assert "alert" in found.get("error", ""), found


@pytest.mark.parametrize("host", MEMBERS)
def test_a_peer_without_a_certificate_is_refused(converged, host):
    found = ask(converged, host, PEER, certificate=None)
    assert "alert" in found.get("error", ""), found


@pytest.mark.parametrize("host", [*MEMBERS, "lb"])
def test_a_client_of_a_foreign_ca_is_refused(converged, foreign, host):
    for name in ("certificate", "key"):
        converged.write("lb", f"/tmp/foreign/{name}", foreign[name])
    mine = {"certificate": "/tmp/foreign/certificate", "key": "/tmp/foreign/key"}
    for port in (CLIENT, PEER) if host != "lb" else (CLIENT,):
        found = ask(converged, host, port, **mine)
        assert "alert" in found.get("error", ""), found


@pytest.mark.parametrize("host", MEMBERS)
def test_a_server_cannot_pass_for_a_foreign_ca_s(converged, foreign, host):
    converged.write("lb", "/tmp/foreign/ca", foreign["ca"])
    found = ask(converged, host, ca="/tmp/foreign/ca")
    assert "CERTIFICATE_VERIFY_FAILED" in found.get("error", ""), found


@pytest.mark.parametrize("host", [*MEMBERS, "lb"])
def test_tls_1_1_is_refused(converged, host):
    for port in (CLIENT, PEER) if host != "lb" else (CLIENT,):
        found = ask(converged, host, port, version="TLSv1_1")
        assert "alert protocol version" in found.get("error", "").lower(), found


def test_the_metrics_listener_is_on_loopback_alone(converged):
    found = converged.probe("lb", "plain", converged.address("etcd1"), 2381, "/metrics")
    assert "refused" in found.get("error", "").lower(), found
    inside = converged.probe("etcd1", "plain", "127.0.0.1", 2381, "/health")
    assert inside.get("status") == 200, inside
