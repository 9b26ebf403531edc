"""Users' own certificates: good ones come into use in turn, bad ones never, and a cut-off heals."""

import json

import pytest
from changing import THREE
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from extent import only_in_all
from lab_command import MEMBERS, minions
from test_authority import CA_CRT, CA_KEY, CHECK_TOO, PKI, everywhere, own_ca, steps, write_all
from tls_corpus import CLIENT, DAY, HOUR, NOW, SERVER, Authority, key, key_pem, pem

HOSTS = (*THREE, "lb")
EXPIRED = {"begins": NOW - 9 * DAY, "ends": NOW - HOUR}
# What somebody may put there, and what is said of it: (how it differs, words).
WRONG = {
    "expired": (EXPIRED, "has expired"),
    "not yet valid": ({"begins": NOW + 9 * HOUR}, "is not valid yet"),
    "without a name": ({"names": []}, "lacks the alternative names"),
    "for servers alone": ({"uses": (SERVER,)}, "lacks the extended key usage clientAuth"),
    "for clients alone": ({"uses": (CLIENT,)}, "lacks the extended key usage serverAuth"),
    "laxly signed": ({"aki": None}, "lacks authorityKeyIdentifier"),
}
# The same by other means: (script on the host, words).
SPOILED = {
    "another key": ("cp peer.key server.key", "does not match the certificate"),
    "an encrypted key": (
        "openssl ec -in server.key -aes128 -passout pass:x -out y 2>/dev/null; mv y server.key",
        "is encrypted",
    ),
    "a key for all": ("chmod 0644 server.key", "can be read by everybody"),
    "DER": ("openssl x509 -in server.crt -outform der -out y; mv y server.crt", "is DER"),
    "cut off": ("head -c 300 server.crt > y; mv y server.crt", "is cut off"),
    "a key beside it": ("cat server.key >> server.crt", "holds a private key"),
    "no file": ("rm server.crt", "cannot be read"),
    "a BOM": ("{ printf '\\357\\273\\277'; cat server.crt; } > y; mv y server.crt", "byte order"),
}


@pytest.fixture
def brought(changed):
    """Three members with certificates of their owner's: the ground, and the owner's CA."""
    lab = changed.lab
    tls = {"source": "files", "files": CHECK_TOO["files"]}
    ca = getattr(lab, "own_ca", None)
    wanted = changed.pillar(THREE, tls=tls)
    if ca is None or lab.state != f"changed {json.dumps(wanted, sort_keys=True)}":
        lab.become_blank()
        ca = lab.own_ca = own_ca(lab)
        lab.write_pillar(wanted)
        lab.orch().ok()
        lab.state = f"changed {json.dumps(wanted, sort_keys=True)}"
    changed.begin(THREE, tls=tls)
    return changed, ca


def renew(lab, ca, *hosts, **more):
    for host in hosts:
        ca.give(lab, host, more.pop("names", everywhere(lab)), **more)


def spoil(lab, host, kind):
    done = lab.exec(host, "sh", "-ec", f"cd /root/pki; umask 077; {SPOILED[kind][0]}").ok()
    assert done.code == 0


def live(lab, hosts=HOSTS):
    """What is in use, by host and file."""
    script = "cd /etc/etcd; sha256sum pki/*.crt pki/*.key main/*.crt main/*.key 2>/dev/null; true"
    return {host: lab.exec(host, "sh", "-c", script).ok().out for host in hosts}


def served(lab, host, port):
    """The certificate that a member serves there (SHA-256)."""
    script = (
        f"openssl s_client -connect {lab.address(host)}:{port} -cert {PKI}/peer.crt "
        f"-key {PKI}/peer.key </dev/null 2>/dev/null | openssl x509 -outform pem"
    )
    text = lab.exec("etcd1", "sh", "-c", script).ok().out
    return x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256()).hex()


def source(lab, host, name):
    text = lab.exec(host, "cat", f"/root/pki/{name}.crt").ok().out
    return x509.load_pem_x509_certificate(text.encode()).fingerprint(hashes.SHA256()).hex()


def serve_their_source(lab):
    for host in THREE:
        assert served(lab, host, 2379) == source(lab, host, "server")
        assert served(lab, host, 2380) == source(lab, host, "peer")


def kept_by_a_highstate(lab, *words):
    """Every host keeps what is in use, says so, and is green."""
    before = live(lab)
    told = ""
    for minion, states in lab.apply(minions(*HOSTS)).items():
        bad = [s["comment"] for s in states.values() if s["result"] is not True or s["changes"]]
        assert not bad, (minion, bad)
        told += " ".join(state["comment"] for state in states.values())
    for word in words:
        assert word in told, (word, told)
    assert live(lab) == before


def test_renewed_certificates_come_into_use_one_member_after_the_other(brought):
    changed, ca = brought
    lab = changed.lab
    renew(lab, ca, *HOSTS)
    kept_by_a_highstate(lab, "pending: /root/pki/server.crt is another one")
    run = changed.run(THREE, "renewed")
    order = [step for step in run.states if "put its new" in step or "accept its" in step]
    assert len(order) == 2 * len(THREE), order
    assert ["accept its" in step for step in order] == [False, True] * len(THREE)
    assert not steps(run, "restart"), list(run.states)
    serve_their_source(lab)


@only_in_all
def test_bad_ones_are_refused_by_name_and_what_is_in_use_stays(brought):
    """A different fault on each host: one run names them all."""
    changed, ca = brought
    lab = changed.lab
    before = live(lab)
    given = dict(zip(HOSTS, ("expired", "not yet valid", "without a name"), strict=False))
    for host, kind in given.items():
        ca.give(lab, host, **{"names": everywhere(lab), **WRONG[kind][0]})
    ca.give(lab, "lb", everywhere(lab), only=("check",), **EXPIRED)
    words = [f"{host}: /root/pki/server.crt {WRONG[kind][1]}" for host, kind in given.items()]
    lab.orch().refused(*words, "lb: /root/pki/check.crt has expired", "certificates in use stay")
    kept_by_a_highstate(lab, *(WRONG[kind][1] for kind in given.values()))
    assert live(lab) == before
    lab.put("/served", "yes")
    renew(lab, ca, *HOSTS)
    changed.run(THREE, "good-again")
    serve_their_source(lab)


@only_in_all
def test_each_bad_kind_is_refused_and_kept_out(brought):
    changed, ca = brought
    lab = changed.lab
    before = live(lab)
    for kind, (how, words) in WRONG.items():
        ca.give(lab, "etcd2", **{"names": everywhere(lab), **how})
        lab.orch().refused("etcd2: /root/pki/", words)
        kept_by_a_highstate(lab, words)
        print(f"  KIND {kind}: refused, and kept out")
    for kind, (_, words) in SPOILED.items():
        renew(lab, ca, "etcd2")
        spoil(lab, "etcd2", kind)
        lab.orch().refused("etcd2: /root/pki/server", words)
        kept_by_a_highstate(lab, words)
        print(f"  KIND {kind}: refused, and kept out")
    assert live(lab) == before
    lab.put("/served", "still")
    renew(lab, ca, "etcd2")
    changed.run(THREE, "mended")


@only_in_all
def test_what_is_down_is_healed_although_bad_files_wait(brought):
    changed, ca = brought
    lab = changed.lab
    ca.give(lab, "etcd3", everywhere(lab), **EXPIRED)
    lab.exec("etcd3", "systemctl", "stop", "etcd").ok()
    lab.orch().refused("etcd3: /root/pki/server.crt has expired")
    assert lab.healthy("etcd3"), "it was started with the pair that it has"
    renew(lab, ca, "etcd3")
    changed.run(THREE, "healed")


def put_in_use(lab, host, files):
    """As an older formula, or a hand, may have done it: name -> (certificate, key)."""
    texts = {f"{name}.crt": pem(one) for name, (one, _) in files.items()}
    texts |= {f"{name}.key": key_pem(private) for name, (_, private) in files.items()}
    write_all(lab, host, "/root/live", texts)
    script = "cd /root/live"
    for name in files:
        owner = "root" if name == "admin" else "etcd"
        script += f"; install -m 0400 -o {owner} -g {owner} {name}.key {PKI}"
        script += f"; install -m 0644 {name}.crt {PKI}"
    lab.exec(host, "sh", "-ec", script).ok()


def expired(lab, authority, host):
    found = {}
    for name, subject in (("server", "CN=x"), ("peer", "CN=x"), ("admin", "CN=root")):
        own = key()
        found[name] = authority.leaf(own, subject, everywhere(lab), **EXPIRED), own
    return found


@only_in_all
@pytest.mark.parametrize("restarted", [False, True])
def test_members_that_expired_certificates_cut_off_are_healed(brought, restarted):
    changed, ca = brought
    lab = changed.lab
    for host in THREE:
        put_in_use(lab, host, expired(lab, ca.authority, host))
    cut_off(lab, restarted)
    for host in THREE:
        ca.give(lab, host, everywhere(lab), **EXPIRED)
    told = lab.orch().refused("has expired")
    assert "orch.recover" not in told.text
    renew(lab, ca, *HOSTS)
    lab.orch().ok()
    changed.settled()
    serve_their_source(lab)


def cut_off(lab, restarted):
    """Nobody is reached; after a restart not even members by each other."""
    for host in THREE if restarted else ():
        lab.exec(host, "systemctl", "--no-block", "restart", "etcd").ok()
    for host in MEMBERS:
        assert not lab.healthy(host)


@only_in_all
@pytest.mark.parametrize("restarted", [False, True])
def test_a_cluster_whose_own_ca_s_certificates_all_expired_is_healed(changed, restarted):
    lab = changed.lab
    changed.begin(THREE)
    authority = Authority()
    texts = [lab.exec("ca", "cat", path).ok().out.encode() for path in (CA_KEY, CA_CRT)]
    authority.key = serialization.load_pem_private_key(texts[0], None)
    authority.certificate = x509.load_pem_x509_certificate(texts[1])
    authority.name = authority.certificate.subject.rfc4514_string().partition("=")[2]
    for host in THREE:
        put_in_use(lab, host, expired(lab, authority, host))
    cut_off(lab, restarted)
    lab.orch().ok()
    changed.settled()
    for host in THREE:
        assert lab.healthy(host)
