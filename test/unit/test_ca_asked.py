"""One question to the CA for all certificates of a host, and what the CA answers to whom."""

import copy
import os
from types import SimpleNamespace

import etcd_ha_arguments
import etcd_ha_certificates
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from faces import load
from salt.exceptions import CommandExecutionError
from test_pem import key, pem, signed

CA, ETCD1 = "ca.example.com", "etcd1.example.com"
POLICY = {"minions": ETCD1, "days_valid": 365, "csr": None}


def public(own):
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return own.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


@pytest.fixture(scope="module")
def authority():
    own = key()
    return own, signed("etcd main CA", own.public_key(), "etcd main CA", own)


@pytest.fixture
def ca(authority):
    """The CA's module; ``asked`` are the questions to Salt's x509, which behaves as Salt's does."""
    asked, (own, certificate) = [], authority
    pillar = {"x509_signing_policies": {"server": copy.deepcopy(POLICY), "peer": {"minions": "lb"}}}

    def by_x509(name, wanted, only=False, **more):
        policy = pillar["x509_signing_policies"][name]
        asked.append((name, wanted, only, more))
        # salt.modules.x509_v2 takes it out of the pillar itself, and compares afterwards.
        if "minions" in policy and policy.pop("minions") != more.get("__pub_id"):
            return {"data": None, "errors": ["minion not permitted"]}
        if only:
            der = certificate.public_bytes(serialization.Encoding.DER)
            return {"data": {**policy, "signing_cert": der}, "errors": []}
        if wanted["public_key"] == "broken":
            return {"data": None, "errors": ["no key"]}
        theirs = serialization.load_pem_public_key(wanted["public_key"].encode())
        made = signed("etcd1", theirs, "etcd main CA", own)
        return {"data": made.public_bytes(serialization.Encoding.DER), "errors": []}

    salt = {"x509.sign_remote_certificate": by_x509}
    module = load("_modules/etcd_ha_ca", salt=salt, pillar=pillar, grains={"id": CA})
    module.asked, module.policies = asked, pillar["x509_signing_policies"]
    return module


def test_a_policy_and_a_certificate_come_in_one_answer(ca, authority):
    own = key()
    told = ca.sign({"server": public(own)}, "2026-11-24 10:15:00", __pub_id=ETCD1)["server"]
    assert told["policy"]["signing_cert"] == pem(authority[1])
    made = x509.load_pem_x509_certificate(told["certificate"].encode())
    assert made.public_key() == own.public_key()
    assert ca.asked[-1][1] == {"public_key": public(own), "not_before": "2026-11-24 10:15:00"}
    assert all(more == {"__pub_id": ETCD1} for *_, more in ca.asked)


def test_without_a_key_nothing_is_signed(ca):
    told = ca.sign({"server": ""}, __pub_id=ETCD1)
    assert told["server"]["certificate"] == "" and [only for _, _, only, _ in ca.asked] == [True]


@pytest.mark.parametrize("caller", ["lb", "etcd1.example.com.evil", None, ""])
def test_another_minion_gets_neither_a_policy_nor_a_certificate(ca, caller):
    for wanted in ({"server": ""}, {"server": public(key())}, {"peer": "", "server": ""}):
        for _ in range(2):
            with pytest.raises(CommandExecutionError, match="no signing policy"):
                ca.sign(wanted, __pub_id=caller)
    assert ca.asked == []


def test_whose_a_policy_is_stays_in_it(ca):
    """Else a second question of the same process would be anybody's."""
    ca.sign({"server": public(key())}, __pub_id=ETCD1)
    assert ca.policies["server"] == POLICY


def test_what_x509_refuses_is_told(ca):
    broken = "broken"
    with pytest.raises(CommandExecutionError, match=r"did not sign by server: no key"):
        ca._signed(ca.policies, "server", ETCD1, broken, None)
    assert ca.policies["server"] == POLICY


def test_the_longest_names_of_the_pillar_make_a_policy_that_is_taken():
    """A cluster's name has 56 characters at most, a minion id 253."""
    minion = ".".join(["a" * 63] * 3 + ["b" * 61])
    policy = etcd_ha_certificates.policy_name(SimpleNamespace(name="c" * 56), "server", minion)
    leaf = {"policy": policy, "key": "/a.key", "certificate": "/a.crt"}
    assert etcd_ha_arguments.fault({"requests": {policy: ""}}) == ""
    assert etcd_ha_arguments.fault({"leaves": [leaf]}) == ""
    for odd in ("", "../x", f"{policy}{'x' * 100}", "a b"):
        assert etcd_ha_arguments.fault({"requests": {odd: ""}})
        assert etcd_ha_arguments.fault({"leaves": [{**leaf, "policy": odd}]})


@pytest.fixture
def host(tmp_path, ca):
    """A host's state; ``host.answer`` changes what comes back, ``host.told`` is Salt's context."""
    leaves = [
        {"policy": "server", "key": "/server.key", "certificate": str(tmp_path / "server.crt")}
    ]

    class Host:
        folder, told, asked, answer = tmp_path, {}, [], staticmethod(lambda answers: answers)

        def run(self, test=False):
            def publish(target, function, arg, timeout):
                assert (target, function) == (CA, "etcd_ha_ca.sign")
                self.asked.append(arg)
                return self.answer({CA: ca.sign(*arg, __pub_id=ETCD1)})

            salt = {"publish.publish": publish, "x509.get_public_key": lambda _: public(self.key)}
            states = load("_states/etcd_ha_ca", salt=salt, opts={"test": test}, context=self.told)
            return states.asked("x", CA, leaves, "2026-11-24 10:15:00")

    found = Host()
    found.key, found.asked, found.told = key(), [], {}
    return found


def test_a_host_without_certificates_has_all_of_them_after_one_question(host):
    told = host.run()
    path = host.folder / "server.crt"
    assert told["result"] is True and list(told["changes"]) == [str(path)]
    assert x509.load_pem_x509_certificate(path.read_bytes()).public_key() == host.key.public_key()
    assert os.stat(path).st_mode & 0o777 == 0o644 and len(host.asked) == 1
    assert set(host.told["_x509_policies"][CA]) == {"server"}


def test_what_is_there_is_not_signed_again(host):
    host.run()
    before = (host.folder / "server.crt").read_bytes()
    told = host.run()
    assert told["result"] is True and told["changes"] == {}
    assert host.asked[-1] == [{"server": ""}, "2026-11-24 10:15:00"]
    assert (host.folder / "server.crt").read_bytes() == before


def test_a_test_asks_nobody_for_a_certificate(host):
    told = host.run(test=True)
    assert told["result"] is None and host.asked == [] and not list(host.folder.iterdir())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "did not answer within 60 s"),
        ("'etcd_ha_ca.sign' publish timed out", "answered: 'etcd_ha_ca.sign' publish timed out"),
        ({"lb.example.com": {"server": {"policy": {}, "certificate": "x"}}}, "did not answer"),
        ({CA: "'etcd_ha_ca.sign' is not available."}, "saltutil.sync_all"),
        ({CA: "ERROR: ca has no signing policy"}, "answered: ERROR: ca has no signing policy"),
        ({CA: {"server": {"policy": {}, "certificate": ""}}}, "answered"),
        ({CA: {"server": {"policy": None, "certificate": "x"}}}, "answered"),
        ({CA: {}}, "did not answer"),
        ({CA: {"peer": {"policy": {}, "certificate": "x"}}}, "answered"),
    ],
)
def test_no_answer_and_an_odd_one_fail_the_state(host, answer, says):
    host.answer = lambda _: answer
    told = host.run()
    assert told["result"] is False and says in told["comment"] and told["changes"] == {}
    assert not list(host.folder.iterdir()) and "_x509_policies" not in host.told
