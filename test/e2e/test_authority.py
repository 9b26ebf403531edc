"""Another CA for a cluster in use: members, balancers and clients go over to it in phases."""

import base64

from changing import THREE
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from extent import only_in_all
from lab_command import DOMAIN, minions
from tls_corpus import Authority, key, key_pem, pem

CA_KEY, CA_CRT = "/etc/pki/etcd_ha/main/ca.key", "/etc/pki/etcd_ha/main/ca.crt"
PKI = "/etc/etcd/pki"
OWN = {
    "source": "files",
    "files": {
        "ca": {"certificate": "/root/pki/ca.crt"},
        **{
            name: {"certificate": f"/root/pki/{name}.crt", "key": f"/root/pki/{name}.key"}
            for name in ("server", "peer", "client")
        },
    },
}
CHECK_TOO = {
    "source": "files",
    "files": {
        **OWN["files"],
        "check": {"certificate": "/root/pki/check.crt", "key": "/root/pki/check.key"},
    },
}
SUBJECTS = {"server": "CN=x", "peer": "CN=x", "client": "CN=root", "check": "O=balancers"}
SHIPPED = {"ca": {"minion": f"ca.{DOMAIN}"}}


def fingerprints(lab, host, path):
    """The certificates in a file, by their SHA-256."""
    text = lab.exec(host, "cat", path).ok().out
    found = x509.load_pem_x509_certificates(text.encode())
    return {one.fingerprint(hashes.SHA256()).hex() for one in found}


def bear_certificates_of(lab, ca):
    """Every host trusts this CA alone, and every certificate in use is signed by it."""
    for host, folder, leaves in (
        *((host, PKI, ("server", "peer", "admin")) for host in THREE),
        ("lb", "/etc/etcd/main", ("check",)),
    ):
        text = lab.exec(host, "cat", f"{folder}/ca.crt").ok().out
        (trusted,) = x509.load_pem_x509_certificates(text.encode())
        assert trusted == ca, host
        for leaf in leaves:
            text = lab.exec(host, "cat", f"{folder}/{leaf}.crt").ok().out
            x509.load_pem_x509_certificate(text.encode()).verify_directly_issued_by(ca)


def present_ca(lab, host="ca", path=CA_CRT):
    return x509.load_pem_x509_certificate(lab.exec(host, "cat", path).ok().out.encode())


def kept_admin(lab):
    """A copy of etcd1's admin certificate and key, as somebody may have made one."""
    lab.exec("etcd1", "sh", "-c", f"rm -rf /root/old; cp -a {PKI} /root/old").ok()


def is_refused_to_the_old(lab):
    """Nobody gets in with a certificate of the former CA; and etcd serves one of the new."""
    for ca, cert in (("/root/old/ca.crt", PKI), (f"{PKI}/ca.crt", "/root/old")):
        script = (
            f"ETCDCTL_ENDPOINTS={lab.own('etcd2')} ETCDCTL_CACERT={ca} "
            f"ETCDCTL_CERT={cert}/admin.crt ETCDCTL_KEY={cert}/admin.key "
            "etcdctl --command-timeout=3s get x"
        )
        assert lab.exec("etcd1", "sh", "-c", script).code != 0, (ca, cert)


def highstate(lab, *hosts):
    """Apply the formula there without the orchestrate: nothing changes, nothing fails."""
    done = lab.apply(minions(*hosts))
    for minion, states in done.items():
        rows = [s for s in states.values() if s["changes"] or s["result"] is not True]
        assert not rows, (minion, rows)


def steps(run, words):
    return [step for step in run.states if words in step]


@only_in_all
def test_a_new_key_waits_for_the_clients_and_a_highstate_does_not_hurry(changed):
    """``tls:ca:change`` stops the exchange twice; meanwhile every host trusts both CAs."""
    lab = changed.lab
    changed.begin(THREE)
    kept_admin(lab)
    old = present_ca(lab)
    waits = {"tls": {"ca": {**SHIPPED["ca"], "change": "trust"}}}
    changed.ask_for(THREE, **waits)
    run = changed.run(THREE, "trust", command="rotate_ca")
    assert "give clients the new CA" in run.text
    assert len(steps(run, "beside the old one")) == len(THREE) + 1
    new = present_ca(lab)
    assert new.public_key() != old.public_key()
    kept = lab.exec("ca", "sh", "-c", "ls /etc/pki/etcd_ha/main/former-*/ca.key").ok().out
    assert kept.strip(), "the former key is set aside, not deleted"
    for host in THREE:
        assert len(fingerprints(lab, host, f"{PKI}/ca.crt")) == 2
        leaf = present_ca(lab, host, f"{PKI}/server.crt")
        leaf.verify_directly_issued_by(old)
    highstate(lab, "etcd1", "etcd2", "etcd3", "lb")
    present_ca(lab, "etcd1", f"{PKI}/server.crt").verify_directly_issued_by(old)

    waits["tls"]["ca"]["change"] = "issue"
    run = changed.change(THREE, "issue", **waits)
    assert not steps(run, "restart"), list(run.states)
    for host in THREE:
        assert len(fingerprints(lab, host, f"{PKI}/ca.crt")) == 2
        present_ca(lab, host, f"{PKI}/server.crt").verify_directly_issued_by(new)

    changed.change(THREE, "whole")
    bear_certificates_of(lab, new)
    is_refused_to_the_old(lab)


@only_in_all
def test_a_renewed_ca_certificate_is_brought_to_all(changed):
    """The same key, another certificate: one round of restarts, no new certificates."""
    lab = changed.lab
    changed.begin(THREE)
    before = present_ca(lab)
    leaf = fingerprints(lab, "etcd1", f"{PKI}/server.crt")
    longer = {"tls": {"ca": {**SHIPPED["ca"], "days_valid": 7300, "days_remaining": 3651}}}
    run = changed.change(THREE, "renewed", **longer)
    after = present_ca(lab)
    assert after != before and after.public_key() == before.public_key()
    bear_certificates_of(lab, after)
    assert fingerprints(lab, "etcd1", f"{PKI}/server.crt") == leaf
    assert not steps(run, "take certificates")


@only_in_all
def test_a_lost_ca_is_refused_and_made_anew_on_demand(changed):
    lab = changed.lab
    changed.begin(THREE)
    lab.exec("ca", "sh", "-c", f"mkdir /root/lost; mv {CA_KEY} {CA_CRT} /root/lost").ok()
    lab.orch().refused("the CA of main is gone", "rotate_ca")
    run = changed.run(THREE, "lost", command="rotate_ca")
    assert steps(run, "beside the old one")
    bear_certificates_of(lab, present_ca(lab))


@only_in_all
def test_another_ca_minion(changed):
    """A host that is no member signs from now on; the former CA is not asked any more."""
    lab = changed.lab
    changed.begin(THREE)
    with lab.another_ca("etcd5"):
        try:
            lab.fault("ca", "kill")
            changed.change(THREE, "minion", tls={"ca": {"minion": f"etcd5.{DOMAIN}"}})
        finally:
            lab.fault("ca", "heal")
            lab.wait_for_minions("ca")
    bear_certificates_of(lab, present_ca(lab, "etcd5"))


# The user's own certificates


class OwnCA:
    """A CA that somebody keeps elsewhere, and signs certificates for all hosts with."""

    def __init__(self):
        self.authority = Authority()
        self.certificate = self.authority.certificate

    def give(self, lab, host, names, only=tuple(SUBJECTS), **more):
        """Certificates and keys for a host, where tls:files names them."""
        files = {"ca.crt": pem(self.certificate)}
        for purpose in only:
            own = key()
            leaf = self.authority.leaf(own, SUBJECTS[purpose], names, **more)
            files |= {f"{purpose}.crt": pem(leaf), f"{purpose}.key": key_pem(own)}
        write_all(lab, host, "/root/pki", files)


def write_all(lab, host, folder, files):
    """Put these files into a directory on a host, in one command: name -> content."""
    words = [w for n, text in files.items() for w in (n, base64.b64encode(text).decode())]
    script = (
        'umask 077; mkdir -p "$1"; cd "$1"; shift; '
        'while [ $# -gt 0 ]; do echo "$2" | base64 -d > "$1"; shift 2; done'
    )
    lab.exec(host, "sh", "-ec", script, "sh", folder, *words).ok()


def everywhere(lab):
    """The names that let one certificate serve on every host."""
    return [f"IP:{lab.address(host)}" for host in (*THREE, "lb")] + ["IP:127.0.0.1"]


def own_ca(lab):
    """An own CA whose certificates lie on all hosts."""
    ca = OwnCA()
    for host in (*THREE, "lb"):
        ca.give(lab, host, everywhere(lab))
    return ca


@only_in_all
def test_to_own_certificates_and_back(changed):
    lab = changed.lab
    changed.begin(THREE)
    own = own_ca(lab)
    changed.change(THREE, "own", tls=OWN)
    bear_certificates_of(lab, own.certificate)
    kept_admin(lab)
    run = changed.change(THREE, "salt")
    bear_certificates_of(lab, present_ca(lab))
    is_refused_to_the_old(lab)
    assert steps(run, "see that every member serves")


@only_in_all
def test_another_own_ca_that_is_not_on_all_hosts_is_refused(changed):
    lab = changed.lab
    changed.begin(THREE)
    own_ca(lab)
    lab.exec("etcd2", "rm", "/root/pki/ca.crt").ok()
    changed.ask_for(THREE, tls=OWN)
    lab.orch().refused("/root/pki/ca.crt", "is no certificate on etcd2")
    OwnCA().give(lab, "etcd2", [])
    lab.orch().refused("/root/pki/ca.crt on etcd2 is not the same as on etcd1")
    changed.ask_for(THREE)
    changed.same()
