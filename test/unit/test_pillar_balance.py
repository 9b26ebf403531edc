"""``balancer:balance`` is what the pillar says, in the words of each kind of balancer."""

import etcd_ha_host
import etcd_ha_pillar_balance
import etcd_ha_topology
import pytest
import read_back

LINES = [
    ("haproxy", "leastconn", ["balance leastconn"]),
    ("haproxy", "roundrobin", ["balance roundrobin"]),
    ("haproxy", "static-rr", ["balance static-rr"]),
    ("haproxy", "source", ["balance source", "hash-type consistent"]),
    ("haproxy", "random", ["balance random"]),
    ("haproxy", "first", ["balance first"]),
    ("nginx", "leastconn", ["least_conn;"]),
    ("nginx", "roundrobin", []),
    ("nginx", "source", ["hash $remote_addr consistent;"]),
]


def described(pillar, defaults, kind, balance, **step):
    pillar["clusters"]["main"]["balancer"] = {"kind": kind, "balance": balance}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    return etcd_ha_host.describe("lb.example.com", [cluster], "amd64", step)["balancer"]


def test_every_way_is_in_these_cases():
    known = etcd_ha_pillar_balance._LINES
    assert {row[:2] for row in LINES} == {(kind, one) for kind in known for one in known[kind]}


@pytest.mark.parametrize(("kind", "balance", "lines"), LINES)
def test_stands_in_the_configuration(pillar, defaults, kind, balance, lines):
    balancer = described(pillar, defaults, kind, balance)
    text = read_back.render(
        f"balancer/{kind}.jinja", balancer=balancer, os=read_back.os_data()[kind], trust=""
    )
    words = ("balance", "hash-type", "least_conn", "hash ")
    found = [line.strip() for line in text.splitlines() if line.strip().startswith(words)]
    assert found == lines


@pytest.mark.parametrize("balance", ["leastconn", "source", "first"])
def test_while_members_move_haproxy_takes_one_after_the_other(pillar, defaults, balance):
    moving = {"leads_to": {"etcd1.example.com": ["192.168.200.52:3379"]}}
    found = described(pillar, defaults, "haproxy", balance, **moving)
    assert found["balance_lines"] == ["balance roundrobin"]


def test_nginx_leaves_a_closed_endpoint_out_itself(pillar, defaults):
    moving = {"leads_to": {"etcd1.example.com": ["192.168.200.52:3379"]}}
    found = described(pillar, defaults, "nginx", "leastconn", **moving)
    assert found["balance_lines"] == ["least_conn"]


def test_a_wrong_kind_is_one_fault(pillar, defaults):
    pillar["clusters"]["main"]["balancer"] = {"kind": "traefik", "balance": "wild"}
    found = etcd_ha_topology.read_each(pillar, defaults).faults["main"]
    assert len(found) == 1 and "balancer:kind" in found[0]
