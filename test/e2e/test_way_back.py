"""A setting breaks one member at most, and the pillar without it mends what it has broken."""

import base64
import datetime
import json

import pytest
from changing import THREE
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from extent import only_in_all

CA = "/etc/pki/etcd_ha/main"
CRL = "/etc/etcd/revoked.crl"
SET = "sed -i '/^{0}=/d' /etc/default/etcd; echo '{0}=\"{1}\"' >> /etc/default/etcd"


def revoke(lab, path):
    """Have every member hold a list by which the balancer's own certificate is revoked."""
    read = {
        name: lab.exec(host, "cat", file).ok().out.encode()
        for name, host, file in (
            ("ca", "ca", f"{CA}/ca.crt"),
            ("key", "ca", f"{CA}/ca.key"),
            ("check", "lb", "/etc/etcd/main/check.crt"),
        )
    }
    issuer = x509.load_pem_x509_certificate(read["ca"])
    serial = x509.load_pem_x509_certificate(read["check"]).serial_number
    now = datetime.datetime.now(datetime.timezone.utc)
    one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(now - datetime.timedelta(hours=1))
    builder = builder.next_update(now + datetime.timedelta(days=1)).add_revoked_certificate(one)
    key = serialization.load_pem_private_key(read["key"], None)
    # DER: where etcd cannot read the list it refuses every handshake.
    found = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    coded = base64.b64encode(found).decode()
    for host in THREE:
        lab.exec(host, "sh", "-c", f"echo {coded} | base64 -d > {path}; chown etcd {path}").ok()


def with_variable(lab, name):
    return [host for host in THREE if name in lab.variables(host)]


def by_hand(lab, name, value, hosts=THREE):
    """Give etcd on these hosts one more variable, as no pillar may have it any more."""
    for host in hosts:
        lab.exec(host, "sh", "-c", SET.format(name, value)).ok()
    for host in hosts:
        lab.exec(host, "systemctl", "restart", "etcd").ok()


def up(lab):
    """The members that HAProxy sees up."""
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/etcd_ha_haproxy.sock'); "
        "s.sendall(b'show stat\\n'); t = b''\n"
        "while (p := s.recv(65536)): t += p\n"
        "print(t.decode())"
    )
    lines = lab.exec("lb", "/usr/bin/python3", "-c", script).ok().out.splitlines()
    rows = [line.split(",") for line in lines if line.startswith("members_main,etcd")]
    return {row[1] for row in rows if row[17].startswith("UP")}


def test_what_cuts_the_balancers_off_does_so_at_one_member(changed):
    """A list of revoked certificates has the balancers': members are well, clients are not."""
    changed.begin(THREE)
    lab = changed.lab
    revoke(lab, CRL)
    changed.ask_for(THREE, options={"client-crl-file": CRL})
    run = lab.orch()
    assert run.code != 0, run.text
    failed = [name for name, state in run.states.items() if state["result"] is False]
    assert "see that lb finds" in failed[0], failed
    assert "does not see every member up" in run.text
    assert len(with_variable(lab, "ETCD_CLIENT_CRL_FILE")) == 1
    assert len(up(lab)) >= 2
    lab.put("/cut", "not off")
    changed.ask_for(THREE)
    changed.run(THREE, "back")
    assert not with_variable(lab, "ETCD_CLIENT_CRL_FILE") and up(lab) == set(THREE)


@only_in_all
@pytest.mark.parametrize(
    ("name", "value"),
    [
        # gRPC goes on, HTTP is refused: the balancers see no member, the members are healthy.
        ("ETCD_LISTEN_CLIENT_HTTP_URLS", "http://127.0.0.1:2383"),
        # No client gets in, root's etcdctl neither; the members vote.
        ("ETCD_CLIENT_CERT_ALLOWED_HOSTNAME", "nobody.example.com"),
        # No member hears another one: the quorum is gone.
        ("ETCD_PEER_CERT_ALLOWED_HOSTNAME", "nobody.example.com"),
    ],
    ids=["no http", "no client", "no peer"],
)
def test_out_of_what_is_broken_at_all_members(changed, name, value):
    changed.begin(THREE)
    lab = changed.lab
    lab.put("/broken", "kept")
    if "PEER" in name:
        for host in THREE:
            lab.exec(host, "sh", "-c", SET.format(name, value)).ok()
            lab.exec(host, "systemctl", "restart", "--no-block", "etcd").ok()
        lab.exec("etcd1", "sleep", "8").ok()
    else:
        by_hand(lab, name, value)
        lab.exec("etcd1", "sleep", "8").ok()
        assert not up(lab)
    run = lab.orch(timeout=600).ok()
    print(run.text[:3000])
    assert not [host for host in THREE if lab.variables(host).get(name) == value]
    assert up(lab) == set(THREE)
    assert lab.get("/broken") == "kept"
    changed.settled()


# What is turned on and off again, each from a cluster that is well.
PAIRS = {
    "options": {"options": {"max-request-bytes": 4194304, "quota-backend-bytes": 4294967296}},
    "metrics": {"ports": {"metrics": 3381}, "options": {"metrics": "extensive"}},
    "ports": {"ports": {"client": 3379, "peer": 3380}},
    "tls": {"options": {"cipher-suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]}},
    "nginx": {"balancer": {"kind": "nginx"}},
    "balance": {"balancer": {"balance": "roundrobin"}},
    "source": {"balancer": {"balance": "source"}},
    "statistics": {"balancer": {"stats": {"enabled": True}}},
    "backup": {"backup": {"schedule": "daily"}},
    "firewall": {"firewall": {"enabled": True, "client_networks": ["198.18.0.0/15"]}},
    "access": {"access": {"enabled": True}},
    "data": {"data_dir": "/srv/etcd"},
    "account": {"user": "etcd2", "group": "etcd2"},
}


@only_in_all
@pytest.mark.parametrize("pair", PAIRS)
def test_there_and_back(changed, pair):
    changed.begin(THREE)
    change = json.loads(json.dumps(PAIRS[pair]))
    if "tls" in pair:
        change["tls"] = {"minimum_version": "TLS1.2", **changed.wanted["clusters"]["main"]["tls"]}
    changed.ask_for(THREE, **change)
    changed.lab.orch(timeout=600).ok()
    if pair == "access":
        # Off again is asked for: without the key the formula leaves it as it is.
        changed.ask_for(THREE, access={"enabled": False})
    else:
        changed.ask_for(THREE)
    changed.lab.orch(timeout=600).ok()
    changed.settled()
