"""What somebody gets who has taken over a member, a balancer, or an unrelated minion: nothing more.

Each attack has its counterpart that succeeds, so that a refusal is one of the attack, and not of a
mistake in it.
"""

import copy
import json
import secrets

import forging
import pytest
from changing import THREE
from extent import only_in_all
from forging import Authority
from lab_command import DOMAIN, HOSTS, MEMBERS
from test_signing import policy_of, request, signed

CLIENT, PEER = 2379, 2380
PEER_NAME = "peer.etcd-ha.internal"
STRANGER = "etcd5"
# A member, the balancer, and a minion of the same master that has no part in the cluster.
TAKEN_OVER = ("etcd2", "lb", STRANGER)
VERSIONS = ("TLSv1_2", "TLSv1_3")


@pytest.fixture
def hostile(changed):
    """The shipped cluster, and a minion that is none of it."""
    changed.begin(THREE)
    yield changed.lab
    changed.same()


def minion(host):
    return f"{host}.{DOMAIN}"


# Certificates of others


@pytest.mark.parametrize("host", TAKEN_OVER)
@pytest.mark.parametrize("purpose", ["server", "peer", "admin"])
def test_no_host_gets_a_member_s_certificate(hostile, host, purpose):
    done = request(hostile, host, policy_of("etcd1", purpose))
    assert done.code != 0 and "BEGIN CERTIFICATE" not in done.out, done.text
    assert "not permitted to use specified signing policy" in done.text


@pytest.mark.parametrize("host", ["etcd2", STRANGER])
def test_no_host_gets_the_balancer_s_certificate(hostile, host):
    done = request(hostile, host, policy_of("lb", "check"))
    assert done.code != 0 and "BEGIN CERTIFICATE" not in done.out, done.text


def test_a_member_gets_its_own_and_no_more_names(hostile):
    """The counterpart of the refusals; and what it asks for beside its policy is not heard."""
    names = [f"DNS:{minion('etcd1')}", f"IP:{hostile.address('etcd1')}", "DNS:*"]
    found = signed(hostile, "etcd2", policy_of("etcd2", "peer"), CN="etcd1", subjectAltName=names)
    text = found.public_bytes(forging.serialization.Encoding.PEM)
    assert found.subject.rfc4514_string() == "CN=etcd2" and text
    kind = forging.x509.SubjectAlternativeName
    held = found.extensions.get_extension_for_class(kind).value
    assert minion("etcd1") not in held.get_values_for_type(forging.x509.DNSName)
    addresses = [str(one) for one in held.get_values_for_type(forging.x509.IPAddress)]
    assert addresses == [hostile.address("etcd2")]


def test_a_request_of_one_s_own_with_another_s_names_is_not_signed(hostile):
    """A CSR could say anything: the policy takes none."""
    key = "/tmp/own.key"
    request(hostile, "etcd2", policy_of("etcd2", "peer")).ok()
    csr = hostile.salt_call(
        "etcd2", "x509.create_csr", f"private_key={key}", "CN=etcd1",
        f'subjectAltName=["DNS:{minion("etcd1")}"]', "--out=json",
    ).ok()  # fmt: skip
    text = json.loads(csr.out)["local"]
    assert "BEGIN CERTIFICATE REQUEST" in text
    asked = {"ca_server": minion("ca"), "signing_policy": policy_of("etcd2", "peer"), "csr": text}
    pairs = [f"{name}={json.dumps(value)}" for name, value in asked.items()]
    done = hostile.salt_call("etcd2", "x509.create_certificate", *pairs, "--out=json")
    if done.code == 0 and "BEGIN CERTIFICATE-----" in done.out:
        made = forging.x509.load_pem_x509_certificate(json.loads(done.out)["local"].encode())
        kind = forging.x509.SubjectAlternativeName
        held = made.extensions.get_extension_for_class(kind).value
        assert minion("etcd1") not in held.get_values_for_type(forging.x509.DNSName)
        assert made.subject.rfc4514_string() == "CN=etcd2"


@pytest.mark.parametrize("host", ["lb", STRANGER])
def test_nobody_can_say_to_be_somebody_else(hostile, host):
    """The CA knows who asks from the master, whatever stands in the question."""
    public = hostile.exec(host, "sh", "-c", "openssl ecparam -name prime256v1 -genkey -noout | "
                          "openssl ec -pubout 2>/dev/null").ok().out  # fmt: skip
    words = [policy_of("etcd1", "admin"), {"public_key": public}, f"__pub_id={minion('etcd1')}"]
    done = hostile.salt_call(
        host, "publish.publish", minion("ca"), "x509.sign_remote_certificate",
        f"arg={json.dumps(words)}", "timeout=15",
    )  # fmt: skip
    assert "BEGIN CERTIFICATE" not in done.text, done.text


def ask_for_all(lab, host, requests, *more):
    """What the CA answers where a host asks it for all its certificates at once."""
    words = json.dumps([requests, "2026-11-24 10:15:00", *more])
    return lab.salt_call(
        host, "publish.publish", minion("ca"), "etcd_ha_ca.sign", f"arg={words}", "timeout=15"
    )


@pytest.mark.parametrize(
    "more", [[], [f"__pub_id={minion('etcd1')}"]], ids=["plain", "in disguise"]
)
def test_one_question_for_all_is_no_way_to_another_s_certificate(hostile, more):
    public = hostile.exec("etcd2", "sh", "-c", "openssl ecparam -name prime256v1 -genkey -noout | "
                          "openssl ec -pubout 2>/dev/null").ok().out  # fmt: skip
    own, others = policy_of("etcd2", "peer"), policy_of("etcd1", "peer")
    for requests in ({others: public}, {others: ""}, {own: "", others: public}):
        for _ in range(2):
            done = ask_for_all(hostile, "etcd2", requests, *more)
            assert "BEGIN CERTIFICATE" not in done.text, done.text
            assert "no signing policy" in done.text, done.text
    # The question by itself is answered: it is not for another reason that nothing came.
    assert "BEGIN CERTIFICATE" in ask_for_all(hostile, "etcd2", {own: public}).text


# Functions of others


ASKED = (
    ("test.ping", []),
    ("cmd.run", ["touch /tmp/taken-over"]),
    ("state.apply", ["etcd_ha"]),
    ("pillar.items", []),
    ("etcd_ha.facts", []),
    ("etcd_ha_member.remove", ["1", "etcd1"]),
    ("etcd_ha_member.retire", ["main"]),
    ("x509.create_certificate", []),
)


@pytest.mark.parametrize("host", TAKEN_OVER)
def test_no_function_but_the_one_for_certificates_runs_on_others(hostile, host):
    for function, words in ASKED:
        done = hostile.salt_call(
            host, "publish.publish", "*", function, f"arg={json.dumps(words)}", "timeout=5",
            "--out=json",
        )  # fmt: skip
        answer = json.loads(done.out)["local"] if done.out.strip() else {}
        assert not answer, (function, answer)
    for other in HOSTS:
        assert hostile.exec(other, "test", "-e", "/tmp/taken-over").code != 0, other
    # What is allowed does reach the CA.
    done = hostile.salt_call(
        "etcd2", "publish.publish", minion("ca"), "x509.sign_remote_certificate",
        f'arg={json.dumps([policy_of("etcd1", "peer"), {}])}', "timeout=15",
    ).ok()  # fmt: skip
    assert "not permitted" in done.text, done.text


@pytest.mark.parametrize("host", TAKEN_OVER)
def test_no_runner_of_the_master_is_reached(hostile, host):
    for function, words in (("manage.up", []), ("etcd_ha.forget", ["main"]), ("etcd_ha.plan", [])):
        done = hostile.salt_call(
            host, "publish.runner", function, f"arg={json.dumps(words)}", "timeout=5", "--out=json"
        )
        told = json.loads(done.out)["local"] if done.out.strip() else ""
        assert not told or "not allowed" in str(told).lower() or "No access" in str(told), told
    assert "in sync" in hostile.salt_run("etcd_ha.plan").ok().out


@pytest.mark.parametrize("host", TAKEN_OVER)
def test_no_file_is_pushed_to_the_master_and_no_mine_is_read(hostile, host):
    assert "True" not in hostile.salt_call(host, "cp.push", "/etc/hostname").out
    done = hostile.salt_call(host, "mine.get", "*", "etcd_ha.facts", "--out=json")
    assert json.loads(done.out)["local"] == {}


# Pillars of others


def apart(lab, passwords):
    """Two clusters, each with a password in a file of its own; the state of the top file before."""
    folder = lab.pillar_file.parent
    wanted = copy.deepcopy(lab.shipped)
    main = wanted["clusters"].pop("main")
    hosts = {"red": ["etcd1"], "blue": ["etcd2", "etcd3"]}
    top = ["base:", "  '*':", "    - etcd_ha", f"  '{minion('ca')}':"]
    top += ["    - etcd_ha_signing_policies"]
    for name, members in hosts.items():
        own = {**main, "members": {minion(one): main["members"][minion(one)] for one in members}}
        own.pop("load_balancers")
        wanted["clusters"][name] = own
        user = {"app": {"roles": [], "password": passwords[name]}}
        secret = {"etcd_ha": {"clusters": {name: {"access": {"users": user}}}}}
        (folder / f"{name}_secrets.sls").write_text(json.dumps(secret))
        for one in (*members, "master"):
            top += [f"  '{minion(one)}{'_master' if one == 'master' else ''}':"]
            top += [f"    - {name}_secrets"]
    before = (folder / "top.sls").read_text()
    # A host may stand in several targets; a mapping has each once.
    merged = {}
    for line in top[1:]:
        if line.startswith("  '"):
            merged.setdefault(key := line, [])
        else:
            merged[key].append(line)
    lines = ["base:", *(one for key, names in merged.items() for one in (key, *names))]
    (folder / "top.sls").write_text("\n".join(lines) + "\n")
    lab.write_pillar(wanted)
    return before


# Salt 3008 masks what pillar.items prints, and a template is told all the same.
RENDERED = ("slsutil.renderer", "string={{ pillar | json }}", "default_renderer=jinja|json")


@pytest.fixture
def two(fresh):
    """Two clusters whose secrets lie apart; the planted passwords."""
    passwords = {name: f"planted-{secrets.token_hex(8)}" for name in ("red", "blue")}
    before = apart(fresh, passwords)
    yield fresh, passwords
    folder = fresh.pillar_file.parent
    (folder / "top.sls").write_text(before)
    for name in passwords:
        (folder / f"{name}_secrets.sls").unlink()


@only_in_all
def test_no_host_reads_another_cluster_s_secrets_or_keys(two):
    lab, passwords = two
    lab.orch().ok()
    # Each has its own: the search would find one.
    own = lab.salt_call("etcd2", "--out=json", "pillar.items").ok().out
    assert "blue" in own and passwords["red"] not in own
    seen = lab.salt_call("etcd2", "--out=json", *RENDERED).out
    assert passwords["blue"] in seen, "the search finds nothing at all"
    attacks = (
        ("pillar.items",),
        ("pillar.items", "pillarenv=base"),
        ("pillar.items", "saltenv=other"),
        ("pillar.items", f'pillar={{"id": "{minion("etcd2")}"}}'),
        (f"--id={minion('etcd2')}", "pillar.items"),
        (f"--id={minion('master')}_master", "pillar.items"),
        ("cp.get_file_str", "salt://blue_secrets.sls"),
        ("cp.get_file_str", "salt://../pillar/blue_secrets.sls"),
        ("cp.get_file_str", "salt://|../../srv/pillar/blue_secrets.sls"),
        ("cp.get_file_str", "/srv/pillar/blue_secrets.sls"),
        ("cp.list_master",),
        RENDERED,
    )
    for host in ("etcd1", "lb"):
        for words in attacks:
            done = lab.run("salt-call", host, "--out=json", "-l", "error", *words, timeout=120)
            assert passwords["blue"] not in done.text, (host, words)
    an_admin_of_the_other_cluster_is_nobody(lab)


def an_admin_of_the_other_cluster_is_nobody(lab):
    """red's certificates open neither port of blue; its own ports open to them."""
    pki = "/etc/etcd/pki"
    lab.write("etcd1", "/tmp/blue.crt", lab.exec("etcd2", "cat", f"{pki}/ca.crt").ok().out)
    for leaf, port in (("peer", PEER), ("admin", CLIENT), ("server", CLIENT)):
        files = {"certificate": f"{pki}/{leaf}.crt", "key": f"{pki}/{leaf}.key"}
        path = "/members" if port == PEER else "/health"
        for target, ca, admitted in (("etcd2", "/tmp/blue.crt", 0), ("etcd1", f"{pki}/ca.crt", 1)):
            wanted = {"host": lab.address(target), "port": port, "path": path, "ca": ca, **files}
            found = lab.probe("etcd1", "tls", json.dumps(wanted))
            assert (found.get("status") == 200) == bool(admitted), (leaf, target, found)


# Ports


def asked(lab, host, target, port, version, **files):
    """What a request from a host to a member's port gives."""
    path = "/members" if port == PEER else "/health"
    wanted = {"host": lab.address(target), "port": port, "path": path, "version": version, **files}
    return lab.probe(host, "tls", json.dumps(wanted))


def refused(found):
    """The server itself ended the connection."""
    error = found.get("error", "")
    return "status" not in found and ("alert" in error or "reset" in error or "closed" in error)


def pki_of(host):
    return "/etc/etcd/main" if host == "lb" else "/etc/etcd/pki"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("port", [CLIENT, PEER])
def test_no_port_opens_without_a_certificate(hostile, port, version):
    found = asked(hostile, "etcd2", "etcd1", port, version, ca="/etc/etcd/pki/ca.crt")
    assert refused(found), found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("host", "leaf"), [("etcd2", "admin"), ("etcd2", "server"), ("lb", "check")]
)
def test_the_peer_port_opens_to_no_certificate_but_a_peer_s(hostile, host, leaf, version):
    pki = pki_of(host)
    files = {name: f"{pki}/{leaf}.{end}" for name, end in (("certificate", "crt"), ("key", "key"))}
    found = asked(hostile, host, "etcd1", PEER, version, ca=f"{pki}/ca.crt", **files)
    assert refused(found), found
    # It is a good one: where clients come, it is taken.
    found = asked(hostile, host, "etcd1", CLIENT, version, ca=f"{pki}/ca.crt", **files)
    assert found.get("status") == 200, found


def test_a_peer_s_own_certificate_opens_it_from_its_own_host_alone(hostile):
    pki = pki_of("etcd2")
    files = {"certificate": f"{pki}/peer.crt", "key": f"{pki}/peer.key"}
    found = asked(hostile, "etcd2", "etcd1", PEER, "TLSv1_2", ca=f"{pki}/ca.crt", **files)
    assert found.get("status") == 200, found
    pair = [hostile.exec("etcd2", "cat", path).ok().out for path in files.values()]
    ca = hostile.exec("etcd2", "cat", f"{pki}/ca.crt").ok().out
    for host in ("lb", STRANGER):
        stolen = forging.put(hostile, host, pair, ca)
        found = asked(hostile, host, "etcd1", PEER, "TLSv1_2", **stolen)
        assert refused(found), (host, found)


# Certificates that the cluster's own CA has signed, as it never does: (what they say, which ports
# open to them).
FORGED = {
    "good for a peer": ({"names": [PEER_NAME, "own"]}, {PEER, CLIENT}),
    "expired": ({"names": [PEER_NAME, "own"], "began": 20, "ends": -1}, set()),
    "not valid yet": ({"names": [PEER_NAME, "own"], "began": -1}, set()),
    "a client's": ({"uses": ["client"]}, {CLIENT}),
    "a client's with its address": ({"uses": ["client"], "names": ["own"]}, {CLIENT}),
    "a server's alone": ({"uses": ["server"], "names": [PEER_NAME, "own"]}, set()),
    "a peer's, of another host": ({"names": [PEER_NAME, "192.0.2.1"]}, {CLIENT}),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", FORGED)
def test_what_a_certificate_says_counts(hostile, what, version):
    wanted, opens = FORGED[what]
    own = hostile.address(STRANGER)
    names = [own if name == "own" else name for name in wanted.get("names", ())]
    ca = Authority.stolen(hostile)
    pair = ca.issue("forged", **{**wanted, "names": names})
    files = forging.put(hostile, STRANGER, pair, ca.text)
    found = {
        port: asked(hostile, STRANGER, "etcd1", port, version, **files) for port in (CLIENT, PEER)
    }
    assert {port for port in found if found[port].get("status") == 200} == opens, found
    assert all(refused(found[port]) for port in found if port not in opens), found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ca_of_the_same_name_is_nobody_s(hostile, version):
    """Its certificates say all that they should; the key is another."""
    strange, ours = Authority.strange(), Authority.stolen(hostile)
    pair = strange.issue("etcd2", [PEER_NAME, hostile.address(STRANGER)])
    files = forging.put(hostile, STRANGER, pair, ours.text)
    for port in (CLIENT, PEER):
        found = asked(hostile, STRANGER, "etcd1", port, version, **files)
        assert refused(found), (port, found)


@only_in_all
def test_a_former_ca_opens_nothing_any_more(changed):
    """Whoever has its key, and what it signed, is shut out once the CA has been exchanged."""
    changed.begin(THREE)
    lab, former = changed.lab, Authority.stolen(changed.lab)
    pair = former.issue("etcd2", [PEER_NAME, lab.address(STRANGER)])
    before = forging.put(lab, STRANGER, pair, former.text)
    for port in (CLIENT, PEER):
        assert asked(lab, STRANGER, "etcd1", port, "TLSv1_2", **before).get("status") == 200
    lab.orch(command="rotate_ca").ok()
    now = Authority.stolen(lab)
    assert now.certificate != former.certificate
    files = forging.put(lab, STRANGER, pair, now.text)
    for host in MEMBERS:
        for port in (CLIENT, PEER):
            found = asked(lab, STRANGER, host, port, "TLSv1_2", **files)
            assert refused(found), (host, port, found)
    # Brought back to a member by hand, it is known for another file, and replaced.
    lab.write("etcd2", "/etc/etcd/pki/ca.crt", former.text)
    run = lab.orch().ok()
    assert [step for step in run.states if "etcd2" in step], run.text
    assert lab.exec("etcd2", "cat", "/etc/etcd/pki/ca.crt").ok().out.strip() == now.text.strip()
    changed.settled()


def test_a_host_cannot_come_as_another_minion(hostile):
    """The master knows each by its key."""
    for host in ("lb", STRANGER):
        done = hostile.run("salt-call", host, f"--id={minion('etcd1')}", "--out=json",
                           "test.ping", timeout=120)  # fmt: skip
        assert done.code != 0 or '"local": true' not in done.out, done.text
    assert hostile.ask(minion("etcd1"), "test.ping") == {minion("etcd1"): True}
