"""The pillar is read completely or refused with every fault and its key."""

import copy

import etcd_ha_topology
import pytest
from etcd_ha_topology import PillarError


def faults(pillar, defaults):
    with pytest.raises(PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    return caught.value.faults


def test_a_small_pillar_gets_every_default(cluster):
    assert [m.name for m in cluster.members] == ["etcd1", "etcd2", "etcd3"]
    assert cluster.peer_url(cluster.members[0]) == "https://192.168.200.52:2380"
    assert cluster.client_url(cluster.members[1]) == "https://192.168.200.62:2379"
    assert cluster.balancer_url(cluster.balancers[0]) == "https://192.168.200.56:2379"
    assert cluster.token == "main"
    assert cluster.hosts[-1] == "ca.example.com"


def test_later_layers_win(pillar, defaults):
    pillar["options"] = {"heartbeat-interval": 150, "election-timeout": 2000}
    main = pillar["clusters"]["main"]
    main["options"] = {"heartbeat-interval": 200}
    main["members"]["etcd2.example.com"]["data_dir"] = "/srv/etcd"
    os_settings = {"user": "etcduser", "data_dir": "/os/etcd"}
    cluster = etcd_ha_topology.read(pillar, defaults, os_settings)["main"]
    first, second, _ = cluster.members
    assert first.settings["options"] == {"heartbeat-interval": 200, "election-timeout": 2000}
    assert (first.settings["data_dir"], second.settings["data_dir"]) == ("/os/etcd", "/srv/etcd")
    assert first.settings["user"] == "etcduser"


def test_reading_leaves_the_pillar_and_the_defaults_alone(pillar, defaults):
    before = copy.deepcopy((pillar, defaults))
    etcd_ha_topology.read(pillar, defaults)
    assert (pillar, defaults) == before


CLUSTER = "etcd_ha:clusters:main"


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"versoin": "3.6.14"}, f"{CLUSTER}:versoin", "did you mean 'version'"),
        ({"ports": {"cleint": 1}}, f"{CLUSTER}:ports:cleint", "did you mean 'client'"),
        ({"version": 3.6}, f"{CLUSTER}:version", "full etcd version"),
        ({"version": "3.5.4"}, f"{CLUSTER}:version", "3.5.6 or newer"),
        ({"version": "2.3.8"}, f"{CLUSTER}:version", "not supported"),
        ({"ports": {"client": 70000}}, f"{CLUSTER}:ports:client", "1 to 65535"),
        ({"ports": {"client": True}}, f"{CLUSTER}:ports:client", "1 to 65535"),
        ({"ports": {"peer": 2379}}, f"{CLUSTER}:ports:peer", "as is client"),
        ({"data_dir": "var/lib/etcd"}, f"{CLUSTER}:data_dir", "absolute path"),
        ({"data_dir": "/var/lib/../etc"}, f"{CLUSTER}:data_dir", "absolute path"),
        ({"data_dir": "/var/lib/etcd\nUser=root"}, f"{CLUSTER}:data_dir", "absolute path"),
        ({"data_dir": "/var/lib/etcd\n"}, f"{CLUSTER}:data_dir", "absolute path"),
        ({"user": "etcd\n"}, f"{CLUSTER}:user", "system user"),
        ({"token": "a\n"}, f"{CLUSTER}:token", "letters"),
        ({"user": "root; id"}, f"{CLUSTER}:user", "system user"),
        ({"tls": {"ca": {"minion": None}}}, f"{CLUSTER}:tls:ca:minion", "name the minion"),
        ({"tls": {"enabled": "on"}}, f"{CLUSTER}:tls:enabled", "true or false"),
        ({"tls": {"days_remaining": 400}}, f"{CLUSTER}:tls:days_remaining", "every run renews"),
        ({"tls": {"names": "etcd.example.com"}}, f"{CLUSTER}:tls:names", "give a list"),
        ({"tls": {"names": ["a b"]}}, f"{CLUSTER}:tls:names", "has 'a b'; give an IP address"),
        ({"tls": {"source": "files"}}, f"{CLUSTER}:tls:files:server:key", "is missing"),
        ({"tls": "yes"}, f"{CLUSTER}:tls", "must be a mapping"),
        ({"install": {"checksum": "abc"}}, f"{CLUSTER}:install:checksum", "64 hex digits"),
        ({"install": {"url": "x y"}}, f"{CLUSTER}:install:url", "upstream's layout"),
        ({"balancer": {"kind": "traefik"}}, f"{CLUSTER}:balancer:kind", "haproxy or nginx"),
        (
            {"balancer": {"stats": {"enabled": True, "address": "0.0.0.0"}}},
            f"{CLUSTER}:balancer:stats:address",
            "loopback",
        ),
        (
            {"firewall": {"client_networks": ["10.1.0.0/33"]}},
            f"{CLUSTER}:firewall:client_networks",
            "10.1.0.0/16",
        ),
        ({"members": {}}, f"{CLUSTER}:members", "at least one minion"),
        (
            {"members": {"a b": {"address": "192.168.200.9"}}},
            f"{CLUSTER}:members:a b",
            "not a minion id",
        ),
        (
            {"members": {"a": {"address": "192.168.200.900"}}},
            f"{CLUSTER}:members:a:address",
            "IP address",
        ),
        ({"members": {"a": {"address": "127.0.0.1"}}}, f"{CLUSTER}:members:a:address", "loopback"),
        (
            {"members": {"a": {"address": "10.0.0.1"}, "b": {"address": "10.0.0.1"}}},
            f"{CLUSTER}:members:b:address",
            "which is a's",
        ),
        (
            {"members": {"a": {"address": "10.0.0.1", "version": "3.5.33"}}},
            f"{CLUSTER}:members:a:version",
            "whole cluster",
        ),
        (
            {"load_balancers": {"etcd1.example.com": {"address": "192.168.200.52"}}},
            f"{CLUSTER}:balancer:port",
            "set another balancer:port",
        ),
        ({"options": {"data-dir": "/x"}}, f"{CLUSTER}:options:data-dir", "data_dir"),
        ({"options": {"heartbeat-intervall": 1}}, f"{CLUSTER}:options", "heartbeat-interval"),
    ],
)
def test_a_fault_is_named_with_its_key_and_its_cure(pillar, defaults, change, key, says):
    pillar["clusters"]["main"].update(change)
    found = faults(pillar, defaults)
    assert any(fault.startswith(key) and says in fault for fault in found), found


def test_all_faults_are_told_at_once(pillar, defaults):
    main = pillar["clusters"]["main"]
    main["ports"] = {"client": 0, "peer": -1}
    main["user"] = "no body"
    main["members"]["etcd1.example.com"]["address"] = "nowhere"
    assert len(faults(pillar, defaults)) == 4


@pytest.mark.parametrize("pillar", [None, {}, [], "x", {"clusters": []}, {"clusters": {"a": 1}}])
def test_what_is_no_pillar_is_refused(pillar, defaults):
    assert faults(pillar, defaults)


def test_two_clusters_may_not_share_a_host(pillar, defaults):
    pillar["clusters"]["other"] = copy.deepcopy(pillar["clusters"]["main"])
    assert any("belongs to main already" in fault for fault in faults(pillar, defaults))


def test_members_with_the_same_first_label_are_named_by_their_ids(pillar, defaults):
    pillar["clusters"]["main"]["members"] = {"e.a": "10.0.0.1", "e.b": "10.0.0.2", "x": "10.0.0.3"}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    assert [member.name for member in cluster.members] == ["e.a", "e.b", "x"]


def test_an_even_number_of_members_is_allowed_and_warned_of(pillar, defaults):
    del pillar["clusters"]["main"]["members"]["etcd3.example.com"]
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    (warning,) = etcd_ha_topology.warnings(cluster)
    assert warning.endswith("has 2 members, which tolerate 0 failures, the same as 1. Use 3")


def test_one_member_is_allowed_and_warned_of(pillar, defaults):
    pillar["clusters"]["main"]["members"] = {"etcd1.example.com": "10.0.0.1"}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    (warning,) = etcd_ha_topology.warnings(cluster)
    assert "members has 1 member, which tolerates no failure" in warning


@pytest.mark.parametrize(("minion", "part"), [("etcd2", "member"), ("lb", "load balancer")])
def test_a_ca_on_a_host_with_another_part_is_warned_of(pillar, defaults, minion, part):
    pillar["clusters"]["main"]["tls"] = {"ca": {"minion": f"{minion}.example.com"}}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    (warning,) = etcd_ha_topology.warnings(cluster)
    assert f"which is a {part} too" in warning and "Use another host" in warning


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2001:db8:0::0011", "2001:db8::11"),
        ("2001:DB8::11", "2001:db8::11"),
        ("2001:0db8:0000:0000:0000:0000:0000:0011", "2001:db8::11"),
        # Python prints this one in one way up to 3.12, and in another from 3.13 on.
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::ffff:a00:5", "10.0.0.5"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(pillar, defaults, written, meant):
    main = pillar["clusters"]["main"]
    main["members"]["etcd1.example.com"]["address"] = written
    main["load_balancers"]["lb.example.com"] = {"address": "2001:db8:0::56"}
    main["balancer"] = {
        "bind": "2001:DB8:0::60",
        "virtual_address": {"address": "2001:db8:0:0::60"},
        "stats": {"enabled": True, "address": "0::1"},
    }
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    assert cluster.members[0].address == meant
    assert cluster.balancers[0].address == "2001:db8::56"
    balancer = cluster.settings["balancer"]
    assert balancer["bind"] == cluster.virtual_address == "2001:db8::60"
    assert balancer["stats"]["address"] == "::1"


def two_clusters(pillar, **other):
    """A second cluster with hosts of its own, but for what is given."""
    pillar["clusters"]["other"] = {
        "version": "3.6.14",
        "members": {"e4.example.com": {"address": "10.4.0.1"}},
        "tls": {"ca": {"minion": "ca.example.com"}},
        **other,
    }
    return pillar


@pytest.mark.parametrize(
    "other",
    [
        {"members": {"e4": "192.168.200.52"}},
        {"load_balancers": {"lb4": "192.168.200.52"}},
        {"load_balancers": {"lb4": "::ffff:192.168.200.56"}},
        {
            "load_balancers": {"lb4": "10.4.0.9"},
            "balancer": {"virtual_address": {"address": "192.168.200.52"}},
        },
    ],
)
def test_two_clusters_may_not_share_an_address(pillar, defaults, other):
    read = etcd_ha_topology.read_each(two_clusters(pillar, **other), defaults)
    assert not read.clusters
    for cluster in ("main", "other"):
        assert any("which main has already" in fault for fault in read.faults[cluster])


def test_two_clusters_may_not_share_a_host_but_for_its_case(pillar, defaults):
    pillar = two_clusters(pillar, members={"ETCD1.example.com": "10.4.0.1"})
    read = etcd_ha_topology.read_each(pillar, defaults)
    for cluster in ("main", "other"):
        assert any("upper and lower case" in fault for fault in read.faults[cluster])


def test_two_clusters_may_share_their_ca(pillar, defaults):
    assert len(etcd_ha_topology.read(two_clusters(pillar), defaults)) == 2


def test_a_version_is_asked_for_and_never_taken_from_the_formula(pillar, defaults):
    """Otherwise a newer formula would bring a newer etcd."""
    del pillar["clusters"]["main"]["version"]
    (fault,) = faults(pillar, defaults)
    assert fault.startswith(f"{CLUSTER}:version is missing") and "version: 3.6.14" in fault
    pillar["version"] = "3.6.14"
    assert etcd_ha_topology.read(pillar, defaults)["main"].version == "3.6.14"


def test_plain_http_needs_no_ca(pillar, defaults):
    pillar["clusters"]["main"]["tls"] = {"enabled": False}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    assert cluster.scheme == "http" and cluster.ca_minion is None
    assert "ca.example.com" not in cluster.hosts
