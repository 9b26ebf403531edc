"""Whatever a name is, its certificates can be signed, and each host is known by one name."""

import copy
import re

import etcd_ha_certificates
import etcd_ha_common_addresses
import etcd_ha_common_dns
import etcd_ha_host
import etcd_ha_topology
import pytest
import read_back
import salt.utils.x509 as x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import DNSName, SubjectAlternativeName
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

LONG = "a" * 60 + "-b1"
IDS = (
    "etcd_1",
    "_etcd",
    "r1--db.example.com",
    "xn--db.example.com",
    "xn--mnchen-3ya.example.com",
    "10.0.0.7",
    "9.example.com",
    "ETCD7.Example.com",
    f"{LONG}.example.com",
    "a" * 54,
    "a" * 55,
    f"{'a' * 40}.{'b' * 40}",
    ".".join([LONG] * 3 + ["c" * 61]),
)


def signed_by_salt(name):
    """Whether Salt's x509 takes this as a DNS name."""
    try:
        x509._parse_general_names([("DNS", name)])
    except CommandExecutionError:
        return False
    return True


@settings(max_examples=400)
@given(
    st.from_regex(etcd_ha_topology._HOST, fullmatch=True)
    | st.from_regex(r"(xn--)?[a-z0-9]{1,4}(-{1,2}[a-z0-9]{1,4}){0,2}", fullmatch=True)
    | st.from_regex(r"[a-z]{1,70}(\.[a-z]{60,64}){0,4}", fullmatch=True)
)
def test_a_dns_name_is_what_salt_signs(name):
    if not etcd_ha_common_addresses.parsed(name):
        assert (etcd_ha_common_dns.fault(name) == "") == signed_by_salt(name)
    assert signed_by_salt(etcd_ha_common_dns.stand_in(name))


@pytest.mark.parametrize("name", IDS)
def test_a_name_is_kept_wherever_it_can_be_one(name):
    found = etcd_ha_common_dns.stand_in(name)
    is_one = signed_by_salt(name) and name != "10.0.0.7"
    assert (found == name) == is_one
    assert is_one or re.fullmatch(r"[0-9a-f]{32}\.etcd-ha\.internal", found)


def odd_cluster(pillar, defaults, minion, **member):
    """A cluster in which this minion is a member, beside a load balancer of the same kind of id."""
    main = copy.deepcopy(pillar)["clusters"]["main"]
    main["members"][minion] = {"address": "10.9.0.1", **member}
    main["load_balancers"] = {f"{minion[:-1]}z": "10.9.0.2", "lb.example.com": "10.9.0.3"}
    return etcd_ha_topology.read({"clusters": {"main": main}}, defaults)["main"]


def sign(policy):
    """The certificate that Salt's x509 builds from a signing policy."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    own = {"subject", "subjectAltName", "extendedKeyUsage", "keyUsage", "basicConstraints"}
    given = {name: policy[name] for name in own}
    # Self-signed: whose signature it has says nothing of its names.
    builder, *_ = x509.build_crt(pem, **given)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("minion", IDS)
def test_every_certificate_can_be_signed(pillar, defaults, minion):
    name = {"name": "short"} if len(minion.split(".")[0]) > 64 or minion[0] == "_" else {}
    cluster = odd_cluster(pillar, defaults, minion, **name)
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    assert len(policies) == 4 * 3 + 2
    for policy in policies.values():
        found = sign(policy)
        assert len(policy["subjectAltName"]) == len(set(policy["subjectAltName"]))
        names = found.extensions.get_extension_for_class(SubjectAlternativeName).value
        assert len(list(names)) == len(policy["subjectAltName"])
        # RFC 5280, appendix A.1: 64 for a common name, and for a unit (cryptography takes more).
        assert all(len(part.value.encode()) <= 64 for part in found.subject)


@pytest.mark.parametrize("minion", IDS)
def test_the_balancer_asks_for_a_name_that_the_member_alone_has(pillar, defaults, minion):
    name = {"name": "short"} if minion[0] == "_" else {}
    cluster = odd_cluster(pillar, defaults, minion, **name)
    policies = etcd_ha_certificates.policies([cluster], "ca.example.com")
    host = etcd_ha_host.describe("lb.example.com", [cluster], "amd64")
    names = {
        member.minion: set(
            sign(policies[f"etcd_ha_main_server_{member.minion}"])
            .extensions.get_extension_for_class(SubjectAlternativeName)
            .value.get_values_for_type(DNSName)
        )
        for member in cluster.members
    }
    for row in host["balancer"]["backends"]:
        assert [minion for minion in names if row["host"] in names[minion]] == [row["minion"]]


def test_a_member_s_name_that_is_no_dns_name_is_its_common_name_alone(pillar, defaults):
    cluster = odd_cluster(pillar, defaults, "e4.example.com", name="etcd_4")
    policy = etcd_ha_certificates.policies([cluster], "ca.example.com")[
        "etcd_ha_main_server_e4.example.com"
    ]
    assert policy["subject"] == "CN=etcd_4"
    assert "DNS:e4.example.com" in policy["subjectAltName"]
    assert not any("etcd_4" in name for name in policy["subjectAltName"])


@pytest.mark.parametrize(
    "organization",
    [
        "#1 of all",
        "#41",
        " lead",
        "trail ",
        " ",
        "  ",
        "a\\ ",
        "\\",
        "Ü" * 32,
        ';,+="<>#',
        "a, O=b",
    ],
)
def test_an_organization_stands_in_the_subject_as_it_is_written(pillar, defaults, organization):
    pillar["clusters"]["main"]["tls"]["ca"]["organization"] = organization
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    for policy in etcd_ha_certificates.policies([cluster], "ca.example.com").values():
        told = {part.oid._name: part.value for part in sign(policy).subject}
        assert told.pop("organizationName") == organization and len(told) == 1


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("2001:db8:0::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("10.0.0.5", "10.0.0.5/32"),
    ],
)
def test_a_network_is_the_same_however_it_is_written(text, network):
    assert str(etcd_ha_common_addresses.network(text)) == network


@pytest.mark.parametrize("value", [None, 10, True, "10.0.0.5/8", "fe80::%eth0/64", "x", ""])
def test_what_is_no_network_is_none(value):
    assert etcd_ha_common_addresses.network(value) is None


@pytest.mark.parametrize("recorded", [True, False])
def test_a_record_of_an_older_formula_knows_members_by_their_minion_ids(cluster, recorded):
    """A highstate renders from what was in force, where backends had no ``host`` of their own."""
    balancer = etcd_ha_host.describe("lb.example.com", [cluster], "amd64", {})["balancer"]
    for backend in balancer["backends"]:
        backend["host"] = f"known.{backend['minion']}"
        if recorded:
            del backend["host"]
    text = read_back.render(
        "balancer/haproxy.jinja", balancer=balancer, os=read_back.os_data()["haproxy"], trust=""
    )
    found = re.findall(r"^ +server \S+ \S+ verifyhost (\S+)$", text, re.M)
    assert found == [f"{'' if recorded else 'known.'}{m.minion}" for m in cluster.members]
