"""Keys and certificates as the states really make them: Salt's x509, real files, a CA beside them.

The way over the master is the only thing replaced: a `publish` module asks this process's own x509
module in the CA's name, and can be told that the CA is away.
"""

from __future__ import annotations

import copy
import datetime
import os
from pathlib import Path

import etcd_ha_host
import etcd_ha_host_in_force
import etcd_ha_host_leaves
import etcd_ha_topology
import pytest
import salt.state
import yaml
from compiled import FORMULA, GRAINS
from cryptography import x509
from cryptography.hazmat.primitives import serialization

MEMBER, CA = "etcd1.example.com", "ca.example.com"
PUBLISH = '''
"""Peer publishing without a master: the CA answers in this process."""

import copy
import os


def kind(fun, arg):
    """What is asked: a policy alone, or to sign."""
    if fun == "etcd_ha_ca.sign":
        return "sign" if any(arg[0].values()) else "policy"
    return "policy" if arg[2] else "sign"


def publish(tgt, fun, arg=None, tgt_type="glob", returner="", timeout=5, via_master=None):
    if os.path.exists(__opts__["ca_is_away"]):
        return {}
    with open(__opts__["ca_is_away"] + ".asked", "a") as log:
        log.write(kind(fun, arg) + "\\n")
    # A CA answers in a process of its own: what x509 takes out of the pillar comes back.
    policies = copy.deepcopy(__pillar__["x509_signing_policies"])
    try:
        return {tgt: __salt__[fun](*arg, __pub_id=__opts__["id"])}
    finally:
        __pillar__["x509_signing_policies"].update(policies)
'''


class Host:
    """Applies states of one SLS folder here, and shows what lies on disk."""

    def __init__(self, opts, pillar, root):
        self.opts, self.pillar, self.root = opts, pillar, root
        self.pki = root / "etc" / "pki"

    def highstate(self, minion, sls):
        """The same outside the orchestrate."""
        self.pillar.pop("etcd_ha_step", None)
        return self.apply(minion, sls, by_orch=False)

    def apply(self, minion, sls, test=False, by_orch=True):
        """Run the chunks of one SLS and of those below it; a list of (ID, result)."""
        opts = copy.deepcopy(self.opts)
        opts.update(id=minion, test=test)
        opts["grains"] = {"id": minion, "kernel": "Linux", "cpuarch": "x86_64", **GRAINS["Debian"]}
        pillar = {**({"etcd_ha_step": {}} if by_orch else {}), **copy.deepcopy(self.pillar)}
        state = salt.state.HighState(opts, pillar_override=pillar, initial_pillar=pillar)
        try:
            high, errors = state.render_highstate({"base": [sls]})
            assert errors == []
            high, errors = state.state.requisite_in(alone(high, sls))
            chunks, more = state.state.compile_high_data(high)
            assert errors + more == []
            returned = state.state.call_chunks(chunks)
        finally:
            state.destroy()
        return Results(returned)

    def certificate(self, purpose):
        """A certificate as it lies on disk."""
        return x509.load_pem_x509_certificate((self.pki / f"{purpose}.crt").read_bytes())

    def pair_fits(self, purpose):
        """Whether the certificate and the key in use belong together."""
        key = serialization.load_pem_private_key((self.pki / f"{purpose}.key").read_bytes(), None)
        return key.public_key() == self.certificate(purpose).public_key()

    def asked(self):
        """What the CA was asked since the last call."""
        log = Path(f"{self.opts['ca_is_away']}.asked")
        found = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def snapshot(self):
        """Every file below the host's pki with its content."""
        files = (p for p in self.pki.rglob("*") if p.is_file())
        return {str(path.relative_to(self.pki)): path.read_bytes() for path in files}


def alone(high, sls):
    """The states of one folder only: no account (all belongs to root here), no pillar refresh."""
    kept = {}
    for id_, body in high.items():
        if not id_.startswith("__") and not body["__sls__"].startswith(sls):
            continue
        if "policies_loaded" in body.get("etcd_ha", ()):
            continue
        kept[id_] = body
        for arguments in body.values() if isinstance(body, dict) else ():
            for one in arguments if isinstance(arguments, list) else ():
                if isinstance(one, dict) and "require" in one:
                    one["require"] = [r for r in one["require"] if "sls" not in r]
    return kept


class Results:
    """The results of a run."""

    def __init__(self, returned):
        self.rows = list(returned.values())

    def failed(self):
        """IDs and comments of the states that failed by themselves."""
        rows = [r for r in self.rows if r["result"] is False]
        return {r["__id__"]: r["comment"] for r in rows if "requisite" not in r["comment"]}

    def changed(self):
        """IDs of the states that changed something."""
        return {r["__id__"] for r in self.rows if r["changes"]}


@pytest.fixture
def host(minion_opts, pillar, tmp_path, monkeypatch):
    """A member and its CA on one machine, everything below a temporary directory."""
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(tmp_path / "in_force" / "host.json"))
    extmods = tmp_path / "extmods"
    for kind in ("states", "utils", "modules"):
        (extmods / kind).mkdir(parents=True)
        for module in (FORMULA / f"_{kind}").glob("*.py"):
            (extmods / kind / module.name).symlink_to(module)
    (extmods / "modules" / "publish.py").write_text(PUBLISH)
    opts = copy.deepcopy(minion_opts)
    opts.update(
        extension_modules=str(extmods),
        cachedir=str(tmp_path / "cache"),
        ca_is_away=str(tmp_path / "ca-is-away"),
    )
    main = pillar["etcd_ha"]["clusters"]["main"]
    main["config_dir"] = str(tmp_path / "etc")
    main["tls"]["ca"]["dir"] = str(tmp_path / "ca")
    # A user that every system has: root is refused.
    main["user"] = main["group"] = "daemon"
    pillar["x509_signing_policies"] = policies(pillar)
    found = Host(opts, pillar, tmp_path)
    assert found.apply(CA, "etcd_ha.authority").failed() == {}
    return found


def policies(pillar):
    """The CA's signing policies, by the same function that the pillar file uses."""
    import etcd_ha_certificates

    return etcd_ha_certificates.policies(read(pillar).values(), CA)


def read(pillar):
    defaults = yaml.safe_load((FORMULA / "etcd_ha" / "defaults.yaml").read_text())
    return etcd_ha_topology.read(copy.deepcopy(pillar["etcd_ha"]), defaults)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the files are root's: run as root")


def test_ca_is_a_ca_for_leaves_alone_and_its_key_is_roots(host):
    certificate = x509.load_pem_x509_certificate((host.root / "ca/main/ca.crt").read_bytes())
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (host.root / "ca/main/ca.key").stat().st_mode & 0o777 == 0o400
    assert host.apply(CA, "etcd_ha.authority").changed() == set()


def test_lost_ca_key_is_not_replaced(host):
    key = host.root / "ca/main/ca.key"
    certificate = (host.root / "ca/main/ca.crt").read_bytes()
    key.unlink()
    failed = host.apply(CA, "etcd_ha.authority").failed()
    assert "backup" in failed["main: the CA has not lost its key"]
    assert not key.exists()
    assert (host.root / "ca/main/ca.crt").read_bytes() == certificate


def test_first_run_makes_pairs_that_fit_with_one_question_for_all(host):
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    ca = x509.load_pem_x509_certificate((host.pki / "ca.crt").read_bytes())
    for purpose in ("server", "peer", "admin"):
        assert host.pair_fits(purpose)
        host.certificate(purpose).verify_directly_issued_by(ca)
        assert (host.pki / f"{purpose}.key").stat().st_mode & 0o777 == 0o400
    assert host.asked() == ["sign"]
    # What is there is judged by the policies, which come at once, too.
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    assert host.asked() == ["policy"]


def test_server_certificate_names_the_member_and_the_balancer(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    extension = host.certificate("server").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    names = extension.value.get_values_for_type(x509.DNSName)
    addresses = {str(a) for a in extension.value.get_values_for_type(x509.IPAddress)}
    assert MEMBER in names
    assert {"192.168.200.52", "127.0.0.1", "192.168.200.56"} <= addresses


def test_second_run_changes_nothing(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    before = host.snapshot()
    again = host.apply(MEMBER, "etcd_ha.certificates")
    assert again.failed() == {}
    assert again.changed() == set()
    assert host.snapshot() == before


def test_dry_run_on_a_blank_host_asks_nobody_and_writes_nothing(host):
    host.asked()
    dry = host.apply(MEMBER, "etcd_ha.certificates", test=True)
    assert dry.failed() == {}
    assert "main: the server certificate is signed by the CA" in dry.changed()
    assert host.asked() == []
    assert not host.pki.exists()


def renewing(host):
    """From now on every certificate is inside its renewal window."""
    tls = host.pillar["etcd_ha"]["clusters"]["main"]["tls"]
    tls["days_valid"], tls["days_remaining"] = 800, 799
    host.pillar["x509_signing_policies"] = policies(host.pillar)


def test_renewal_makes_new_keys_and_pairs_that_fit(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    before = host.snapshot()
    renewing(host)
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    after = host.snapshot()
    for purpose in ("server", "peer", "admin"):
        assert after[f"{purpose}.key"] != before[f"{purpose}.key"]
        assert after[f"{purpose}.crt"] != before[f"{purpose}.crt"]
        assert host.pair_fits(purpose)
        left = host.certificate(purpose).not_valid_after_utc - datetime.datetime.now(
            datetime.timezone.utc
        )
        assert left.days >= 798
    assert after["ca.crt"] == before["ca.crt"]


def test_ca_that_is_away_leaves_the_working_pairs_alone(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    before = host.snapshot()
    renewing(host)
    Path(host.opts["ca_is_away"]).touch()
    assert host.apply(MEMBER, "etcd_ha.certificates").failed()
    after = host.snapshot()
    live = [name for name in before if not name.startswith("next/")]
    assert {name: after[name] for name in live} == {name: before[name] for name in live}
    assert all(host.pair_fits(purpose) for purpose in ("server", "peer", "admin"))
    Path(host.opts["ca_is_away"]).unlink()
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    assert all(host.pair_fits(purpose) for purpose in ("server", "peer", "admin"))


def test_ca_that_refuses_to_sign_leaves_the_working_pair_alone(host):
    """The policy is readable, but signing fails: the new key was made and must stay aside."""
    host.apply(MEMBER, "etcd_ha.certificates")
    before = host.snapshot()
    renewing(host)
    for policy in host.pillar["x509_signing_policies"].values():
        policy["copypath"] = "/dev/null/nowhere"
    assert host.apply(MEMBER, "etcd_ha.certificates").failed()
    after = host.snapshot()
    assert after["next/server.key"] != before["next/server.key"]
    for purpose in ("server", "peer", "admin"):
        assert after[f"{purpose}.key"] == before[f"{purpose}.key"]
        assert host.pair_fits(purpose)


@pytest.mark.parametrize("lost", ["server.key", "next/server.key", "server.crt", "ca.crt"])
def test_lost_file_is_made_good(host, lost):
    host.apply(MEMBER, "etcd_ha.certificates")
    (host.pki / lost).unlink()
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    assert (host.pki / lost).exists()
    assert host.pair_fits("server")
    assert host.apply(MEMBER, "etcd_ha.certificates").changed() == set()


def test_new_balancer_means_a_new_server_certificate_only(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    before = host.snapshot()
    main = host.pillar["etcd_ha"]["clusters"]["main"]
    main["load_balancers"]["lb2.example.com"] = {"address": "192.168.200.57"}
    host.pillar["x509_signing_policies"] = policies(host.pillar)
    assert host.apply(MEMBER, "etcd_ha.certificates").failed() == {}
    after = host.snapshot()
    assert {name.partition(".")[0] for name in after if after[name] != before[name]} == {
        "server",
        "next/server",
    }
    assert b"192.168.200.57" not in after["server.crt"]
    names = host.certificate("server").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "192.168.200.57" in {str(a) for a in names.value.get_values_for_type(x509.IPAddress)}


def test_another_minion_is_refused_this_ones_policy(host):
    """The policy is pinned to one minion id; the rest of the host's states do not go on."""
    for policy in host.pillar["x509_signing_policies"].values():
        policy["minions"] = "etcd2.example.com"
    failed = host.apply(MEMBER, "etcd_ha.certificates").failed()
    assert any("has no signing policy" in comment for comment in failed.values())
    assert not list(host.pki.glob("*.crt"))


# Another CA


def another_ca(host):
    """From now on the CA is another one; the present one's certificate."""
    old = (host.pki / "ca.crt").read_bytes()
    for name in ("ca.key", "ca.crt"):
        (host.root / "ca/main" / name).unlink()
    assert host.apply(CA, "etcd_ha.authority").failed() == {}
    return old


def in_phase(host, phase):
    host.pillar["etcd_ha_step"] = {"stage": {"trust": phase}}
    return host.apply(MEMBER, "etcd_ha.certificates")


def trusted(host):
    return x509.load_pem_x509_certificates((host.pki / "ca.crt").read_bytes())


def test_the_phases_of_an_exchange(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    another_ca(host)
    leaf = host.certificate("server")

    assert in_phase(host, "both").failed() == {}
    assert len(trusted(host)) == 2 and host.certificate("server") == leaf
    assert in_phase(host, "both").changed() == set()

    assert in_phase(host, "issued").failed() == {}
    new, old = trusted(host)
    for purpose in ("server", "peer", "admin"):
        host.certificate(purpose).verify_directly_issued_by(new)
        assert host.pair_fits(purpose)
    leaf.verify_directly_issued_by(old)
    assert in_phase(host, "issued").changed() == set()

    assert in_phase(host, "").changed() == {
        "main: the member has the CA's certificate",
    }
    assert trusted(host) == [new]


def put_in_force(host, minion=MEMBER):
    """What the orchestrate would have recorded of this host."""
    described = etcd_ha_host.describe(minion, read(host.pillar).values(), "amd64")
    etcd_ha_host_in_force.write(etcd_ha_host_in_force.recorded(None, described))


def test_a_highstate_leaves_an_exchange_to_the_orchestrate(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    put_in_force(host)
    another_ca(host)
    before = host.snapshot()
    found = host.highstate(MEMBER, "etcd_ha.certificates")
    assert found.failed() == {} and found.changed() == set()
    assert host.snapshot() == before
    in_phase(host, "both")
    before = host.snapshot()
    assert host.highstate(MEMBER, "etcd_ha.certificates").changed() == set()
    assert host.snapshot() == before


def test_a_highstate_puts_no_renewed_pair_in_use_that_others_would_refuse(host):
    """It runs on all members at once: what is in use stays wherever the new one is no good."""
    host.apply(MEMBER, "etcd_ha.certificates")
    renewing(host)
    put_in_force(host)
    another_ca(host)
    before = host.snapshot()
    told = host.highstate(MEMBER, "etcd_ha.certificates").failed()
    assert any("What was in use is" in comment for comment in told.values()), told
    after = host.snapshot()
    live = [name for name in before if not name.startswith("next/")]
    assert {name: after[name] for name in live} == {name: before[name] for name in live}


def test_a_highstate_passes_with_a_renewed_ca_certificate(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    put_in_force(host)
    before = host.snapshot()
    (host.root / "ca/main/ca.crt").unlink()
    host.apply(CA, "etcd_ha.authority")
    assert host.highstate(MEMBER, "etcd_ha.certificates").failed() == {}
    assert host.snapshot() == before


def test_a_highstate_makes_no_ca(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    put_in_force(host, CA)
    for name in ("ca.key", "ca.crt"):
        (host.root / "ca/main" / name).unlink()
    found = host.highstate(CA, "etcd_ha.authority")
    assert found.failed() == {}
    assert not (host.root / "ca/main/ca.key").exists()
    assert not (host.root / "ca/main/ca.crt").exists()


def test_a_highstate_puts_a_lost_or_damaged_pair_right_and_exchanges_no_other(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    put_in_force(host)
    kept = host.certificate("peer")
    (host.pki / "server.crt").unlink()
    (host.pki / "admin.key").write_text("damaged")
    found = host.highstate(MEMBER, "etcd_ha.certificates")
    assert found.failed() == {}
    assert all(host.pair_fits(one) for one in ("server", "peer", "admin"))
    assert host.certificate("peer") == kept


def test_a_highstate_leaves_a_certificate_whose_names_the_pillar_changed(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    put_in_force(host)
    host.pillar["etcd_ha"]["clusters"]["main"]["tls"]["names"] = ["etcd.example.com"]
    host.pillar["x509_signing_policies"] = policies(host.pillar)
    before = host.snapshot()
    assert host.highstate(MEMBER, "etcd_ha.certificates").changed() == set()
    assert host.snapshot() == before


def test_a_renamed_ca_keeps_its_name_and_key(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    kept = (host.root / "ca/main/ca.crt").read_bytes()
    clusters = host.pillar["etcd_ha"]["clusters"]
    clusters["prod"] = {**clusters.pop("main"), "renamed_from": "main"}
    host.pillar["x509_signing_policies"] = policies(host.pillar)
    assert host.apply(CA, "etcd_ha.authority").failed() == {}
    assert (host.root / "ca/prod/ca.crt").read_bytes() == kept
    assert not (host.root / "ca/main").exists()
    assert host.apply(MEMBER, "etcd_ha.certificates").changed() == set()
    del clusters["prod"]["renamed_from"]
    assert host.apply(CA, "etcd_ha.authority").changed() == set()


def test_a_pair_that_does_not_fit_is_not_put_in_use(host):
    """The user's own files may be mixed up: etcd keeps those that work."""
    host.apply(MEMBER, "etcd_ha.certificates")
    tls = host.pillar["etcd_ha"]["clusters"]["main"]["tls"]
    for name in ("ca.crt", *(f"{n}.{end}" for n in ("server", "peer") for end in ("crt", "key"))):
        (host.root / name).write_bytes((host.pki / name).read_bytes())
    (host.root / "client.crt").write_bytes((host.pki / "admin.crt").read_bytes())
    (host.root / "client.key").write_bytes((host.pki / "server.key").read_bytes())
    files = {
        name: {"certificate": f"{host.root}/{name}.crt", "key": f"{host.root}/{name}.key"}
        for name in ("server", "peer", "client")
    }
    tls.update(source="files", files={"ca": {"certificate": f"{host.root}/ca.crt"}, **files})
    before = host.snapshot()
    kept = host.apply(MEMBER, "etcd_ha.certificates")
    assert kept.failed() == {} and kept.changed() == set(), "a highstate keeps what is in use"
    host.pillar["etcd_ha_step"] = {"pairs": "take"}
    (comment,) = host.apply(MEMBER, "etcd_ha.certificates").failed().values()
    assert "client.crt was not put in use: " in comment
    assert "client.key does not match the certificate" in comment
    assert host.snapshot() == before


def test_a_highstate_says_which_files_of_the_user_s_wait_and_repairs_what_is_damaged(host):
    host.apply(MEMBER, "etcd_ha.certificates")
    tls = host.pillar["etcd_ha"]["clusters"]["main"]["tls"]
    names = {"server": "server", "peer": "peer", "client": "admin"}
    for name, made in names.items():
        for end in ("crt", "key"):
            (host.root / f"{name}.{end}").write_bytes((host.pki / f"{made}.{end}").read_bytes())
            (host.root / f"{name}.{end}").chmod(0o600)
    (host.root / "ca.crt").write_bytes((host.pki / "ca.crt").read_bytes())
    files = {
        name: {"certificate": f"{host.root}/{name}.crt", "key": f"{host.root}/{name}.key"}
        for name in names
    }
    tls.update(source="files", files={"ca": {"certificate": f"{host.root}/ca.crt"}, **files})
    put_in_force(host)

    def waiting():
        described = etcd_ha_host.describe(MEMBER, read(host.pillar).values(), "amd64")
        return etcd_ha_host_leaves.waiting(described)

    assert waiting() == []
    in_use = host.snapshot()
    (host.pki / "peer.key").write_text("damaged")
    assert host.highstate(MEMBER, "etcd_ha.certificates").failed() == {}
    assert host.snapshot() == in_use
    for end in ("crt", "key"):
        (host.root / f"server.{end}").write_bytes((host.root / f"peer.{end}").read_bytes())
    (host.root / "client.crt").write_bytes((host.root / "peer.crt").read_bytes())
    (host.root / "client.key").write_bytes((host.root / "peer.key").read_bytes())
    assert host.highstate(MEMBER, "etcd_ha.certificates").changed() == set()
    assert host.snapshot() == in_use
    assert waiting(), "what waits is told"
    (host.root / "server.crt").write_bytes(b"")
    assert [one for one in waiting() if "server.crt" in one and "what is in use stays" in one]
