"""What a host should be, as the states render it."""

import copy
import json

import etcd_ha_host
import etcd_ha_topology
import pytest


def describe(cluster, minion, **more):
    return etcd_ha_host.describe(minion, [cluster], "amd64", **more)


def test_every_role_gets_its_own_part_and_nothing_else(cluster):
    member = describe(cluster, "etcd1.example.com")
    balancer = describe(cluster, "lb.example.com")
    ca = describe(cluster, "ca.example.com")
    assert member["member"] and not member["balancer"] and not member["authorities"]
    assert balancer["balancer"] and not balancer["member"]
    assert ca["authorities"] and not ca["member"] and ca["entries"] == []
    assert describe(cluster, "stranger")["clusters"] == []


def test_keys_lie_with_their_users(cluster):
    leaves = describe(cluster, "etcd1.example.com")["member"]["pki"]["leaves"]
    owners = {leaf["purpose"]: leaf["owner"] for leaf in leaves}
    assert owners == {"server": "etcd", "peer": "etcd", "admin": "root"}


def test_the_digest_changes_with_the_pillar_and_not_with_the_action(cluster, pillar, defaults):
    def digest(one, **more):
        return etcd_ha_host.digest(describe(one, "etcd1.example.com", **more), "s")

    assert digest(cluster) == digest(cluster, step={"action": "bootstrap", "successor": "etcd2"})
    for change in (
        {"options": {"heartbeat-interval": 150}},
        {"tls": {"ca": {"minion": "ca.example.com"}, "names": ["etcd.example.com"]}},
    ):
        other = copy.deepcopy(pillar)
        other["clusters"]["main"].update(change)
        assert digest(cluster) != digest(etcd_ha_topology.read(other, defaults)["main"]), change


def test_the_digest_is_one_whatever_way_a_description_took(cluster):
    """The states hand theirs over as JSON, with its keys sorted."""
    for minion in ("etcd1.example.com", "lb.example.com", "ca.example.com"):
        host = describe(cluster, minion)
        handed = json.loads(json.dumps(host, sort_keys=True))
        assert etcd_ha_host.digest(handed, "s") == etcd_ha_host.digest(host, "s")


def test_a_balancer_that_leads_to_members_on_the_move_is_not_final(cluster):
    step = {"leads_to": {"etcd1.example.com": ["192.168.200.52:3379"]}}
    moving, final = (describe(cluster, "lb.example.com", step=one) for one in (step, {}))
    assert [
        (row["name"], row["minion"], row["endpoint"]) for row in moving["balancer"]["backends"]
    ][:3] == [
        ("etcd1", "etcd1.example.com", "192.168.200.52:2379"),
        ("etcd1_until_moved_1", "etcd1.example.com", "192.168.200.52:3379"),
        ("etcd2", "etcd2.example.com", "192.168.200.62:2379"),
    ]
    assert (moving["balancer"]["balance"], final["balancer"]["balance"]) == (
        "roundrobin",
        "leastconn",
    )
    assert etcd_ha_host.digest(moving, "s") != etcd_ha_host.digest(final, "s")


def test_an_endpoint_that_stays_is_named_once(cluster):
    step = {"leads_to": {"etcd1.example.com": ["192.168.200.52:2379"]}}
    rows = describe(cluster, "lb.example.com", step=step)["balancer"]["backends"]
    assert len(rows) == 3


def test_the_mark_on_disk_holds_no_key(pillar, defaults):
    pem = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"
    pair = {"certificate": pem, "key": pem}
    main = pillar["clusters"]["main"]
    files = {"ca": {"certificate": pem}, "server": pair, "peer": pair, "client": pair}
    main["tls"] = {"source": "pillar", "files": files}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    for minion in ("etcd1.example.com", "lb.example.com"):
        assert "SECRET" not in json.dumps(etcd_ha_host.mark(describe(cluster, minion), "d", {}))


@pytest.mark.parametrize(("own", "used"), [({}, "client"), ({"check": "/root/c"}, "check")])
def test_a_balancer_has_the_certificate_of_root_only_where_it_has_none_of_its_own(
    pillar, defaults, own, used
):
    paths = {name: f"/root/{name}" for name in ("server", "peer", "client")} | own
    files = {name: {"certificate": at, "key": f"{at}.key"} for name, at in paths.items()}
    files["ca"] = {"certificate": "/root/ca"}
    pillar["clusters"]["main"]["tls"] = {"source": "files", "files": files}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    balancer = describe(cluster, "lb.example.com")["balancer"]["pki"]["files"]
    member = describe(cluster, "etcd1.example.com")["member"]["pki"]["files"]
    assert balancer["check"] == {"name": used, **files[used]}
    assert member["admin"] == {"name": "client", **files["client"]}


def test_peers_alone_reach_the_peer_port(pillar, defaults):
    pillar["clusters"]["main"]["firewall"] = {"enabled": True, "client_networks": ["10.9.0.0/16"]}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    rules = {
        r["port"]: r["sources"] for r in describe(cluster, "etcd1.example.com")["firewall"]["rules"]
    }
    assert rules[2380] == ["192.168.200.52", "192.168.200.62", "192.168.200.63"]
    assert set(rules[2379]) == {*rules[2380], "192.168.200.56", "10.9.0.0/16"}


def test_sources_are_written_as_firewalls_print_them(pillar, defaults):
    """ufw lists 10.9.0.1/32 as 10.9.0.1: written otherwise, every run would find it missing."""
    pillar["clusters"]["main"]["firewall"] = {
        "enabled": True,
        "client_networks": ["10.9.0.1/32", "fd00:0:0::/64", "fd00::1/128"],
    }
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    (rule,) = describe(cluster, "lb.example.com")["firewall"]["rules"]
    assert rule["sources"][-3:] == ["10.9.0.1", "fd00::/64", "fd00::1"]


def test_an_action_that_is_none_of_ours_does_nothing(cluster):
    assert describe(cluster, "etcd1.example.com", step={"action": "reinstall"})["action"] == "none"


def test_an_unsupported_system_is_named():
    with pytest.raises(ValueError, match="Gentoo"):
        etcd_ha_host.os_file("Gentoo", "Gentoo")


def test_a_stage_changes_release_and_transport_for_the_time_being(cluster):
    stage = {"version": "3.5.33", "transport": "both"}
    member = describe(cluster, "etcd1.example.com", step={"stage": stage})["member"]
    assert member["install"]["dir"].endswith("/3.5.33")
    assert member["environment"]["ETCD_LISTEN_PEER_URLS"].startswith("http://")
    assert "https://" in member["environment"]["ETCD_LISTEN_CLIENT_URLS"]
    whole = {"version": cluster.version, "transport": "https"}
    staged, plain = (describe(cluster, "etcd1.example.com", step=s) for s in ({"stage": whole}, {}))
    assert etcd_ha_host.digest(staged, "s") == etcd_ha_host.digest(plain, "s")


def test_a_highstate_keeps_to_the_data_directory_that_is_in_use(cluster):
    stage = {"data_dir": "/srv/old", "wal_dir": "/srv/log/wal"}
    member = describe(cluster, "etcd1.example.com", step={"stage": stage})["member"]
    assert (member["data_dir"], member["wal_dir"]) == ("/srv/old", "/srv/log")
    assert member["environment"]["ETCD_WAL_DIR"] == "/srv/log/wal"
