"""Whatever the pillar can turn on it can turn off, also out of what that has made of the cluster.

For each key of the pillar a pair of changes is made, a -> b -> a: the hosts are as b has left them,
and well, or as a setting leaves them that breaks something. The plan back to a is a plan, not a
refusal. What has no way back stands in docs/changes.md, with its reason.
"""

import copy
import dataclasses
import pathlib

import etcd_flags
import etcd_ha_planner
import etcd_ha_topology
import pytest
import told_changes
from etcd_ha_observed import Observed
from etcd_ha_topology import merge
from good_pillar import PILLAR
from test_docs import leaves, tables

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "changes.md"
PAIR = {"certificate": "/root/a.crt", "key": "/root/a.key"}
FILES = {
    "ca": {"certificate": "/root/ca.crt"},
    **dict.fromkeys(("server", "peer", "client", "check"), PAIR),
}
LB2 = {"lb2.example.com": {"address": "192.168.200.57"}}
# Key -> what it is changed to; "beside" stands for all of a change that needs more than that key.
OTHER = {
    "version": "3.7.1",
    "user": "etcd2",
    "group": "etcd2",
    "data_dir": "/srv/etcd",
    "wal_dir": "/srv/wal",
    "config_dir": "/etc/etcd2",
    "ports:client": 3379,
    "ports:peer": 3380,
    "ports:metrics": 3381,
    "ports:transfer": 3382,
    "install:method": "package",
    "install:url": "https://mirror.example.com/etcd",
    "install:checksum": "a" * 64,
    "install:dir": "/opt/etcd2",
    "install:bin_dir": "/opt/bin",
    "install:packages": ["etcd"],
    "host:hosts_file": False,
    "host:hostname": True,
    "tls:enabled": False,
    "tls:source": {"beside": {"tls": {"source": "files", "files": FILES}}},
    "tls:ca:minion": "etcd3.example.com",
    "tls:ca:dir": "/etc/pki/other",
    "tls:ca:common_name": "Other CA",
    "tls:ca:organization": "Other",
    "tls:ca:days_valid": 2000,
    "tls:ca:days_remaining": 100,
    "tls:ca:change": "trust",
    "tls:algo": {"beside": {"tls": {"algo": "rsa", "keysize": 3072}}},
    "tls:keysize": 384,
    "tls:days_valid": 200,
    "tls:days_remaining": 30,
    "tls:names": ["etcd.example.com"],
    "tls:trust_store": True,
    "tls:files": FILES,
    "tls:minimum_version": "TLS1.3",
    "balancer:kind": "nginx",
    "balancer:balance": "roundrobin",
    "balancer:port": 3379,
    "balancer:bind": "192.168.200.56",
    "balancer:package": "haproxy-2.8",
    "balancer:check_interval": 5,
    "balancer:check_timeout": 5,
    "balancer:idle_timeout": 3600,
    "balancer:virtual_address:address": "192.168.200.100",
    "balancer:virtual_address:prefix_length": 24,
    "balancer:virtual_address:interface": "eth1",
    "balancer:virtual_address:router_id": 52,
    "balancer:virtual_address:advert_interval": 2,
    "balancer:virtual_address:check_interval": 3,
    "balancer:stats:enabled": True,
    "balancer:stats:address": "192.168.200.56",
    "balancer:stats:port": 9404,
    "firewall:enabled": True,
    "firewall:kind": "nftables",
    "firewall:client_networks": ["10.1.0.0/16"],
    "access:enabled": True,
    "access:users": {"app": {"roles": []}},
    "access:roles": {"app": {"permissions": [{"prefix": "/app/", "access": "read"}]}},
    "access:remove_unknown": True,
    "maintenance:compaction:mode": {
        "beside": {"maintenance": {"compaction": {"mode": "revision", "retention": 1000}}}
    },
    "maintenance:compaction:retention": "8h",
    "maintenance:quota_warning": 50,
    "maintenance:defragment:minimum_size": 1,
    "maintenance:defragment:fragmentation": 10,
    "remove_unknown": True,
    "purge": True,
    "upgrade:through": {"3.5": "3.5.33"},
    "start_timeout": 60,
    "options": etcd_flags.options("3.6.14", "/etc/etcd/pki", "/var/lib/etcd"),
    # Beside the keys of defaults.yaml
    "load_balancers": {**PILLAR["clusters"]["main"]["load_balancers"], **LB2},
    "members": {
        **PILLAR["clusters"]["main"]["members"],
        "etcd2.example.com": {"address": "192.168.200.72", "options": {"max-wals": 7}},
    },
}
OTHER |= {
    f"backup:{key}": value
    for key, value in {
        "schedule": "daily",
        "directory": "/srv/backups",
        "keep:last": 3,
        "keep:days": 3,
        "keep:daily": 3,
        "keep:weekly": 3,
        "keep:monthly": 3,
        "max_age": 50,
        "timeout": 60,
        "master:enabled": {
            "beside": {"backup": {"master": {"enabled": True, "address": "10.0.0.9"}}}
        },
        "master:directory": "/srv/kept",
        "master:address": "10.0.0.9",
        "master:port": 4511,
        "s3:bucket": "abc",
        "s3:prefix": "other",
        "s3:endpoint": "https://s3.example.com",
        "s3:region": "eu-west-1",
        "s3:provider": "Minio",
        "s3:access_key": {"beside": {"backup": {"s3": {"access_key": "a", "secret_key": "b"}}}},
        "s3:secret_key": {"beside": {"backup": {"s3": {"access_key": "a", "secret_key": "b"}}}},
        "s3:credentials_file": "/root/s3",
        "s3:server_side_encryption": "AES256",
        "s3:kms_key": {
            "beside": {"backup": {"s3": {"server_side_encryption": "aws:kms", "kms_key": "abc"}}}
        },
        "s3:encryption_password": "planted",
        "s3:ca_certificate": "/etc/ssl/s3.crt",
        "s3:timeout": 60,
    }.items()
}
# What some values need beside them to be good.
NEEDED = {
    "access:users": {"access": {"enabled": True}},
    "balancer:virtual_address": {"balancer": {"virtual_address": {"address": "192.168.200.100"}}},
    "backup:s3": {"backup": {"s3": {"bucket": "abc"}}},
}


def one_way():
    """The rows of the page's table: key -> why."""
    found = tables(PAGE.read_text())
    return {
        row[0].strip("`"): row[1] for heads, rows in found if heads[0] == "One way" for row in rows
    }


def nested(key, value):
    for part in reversed(key.split(":")):
        value = {part: value}
    return value


def pillars(key):
    """The pillar of a and that of b."""
    value, before = OTHER[key], PILLAR["clusters"]["main"]
    for start, needed in NEEDED.items():
        if key.startswith(start) and key != f"{start}:address":
            before = merge(before, needed)
    change = value["beside"] if isinstance(value, dict) and "beside" in value else None
    after = merge(before, change or nested(key, value))
    if key == "members":
        after["members"] = value
    return [{"clusters": {"main": copy.deepcopy(one)}} for one in (before, after)]


def clusters(key, defaults):
    return [etcd_ha_topology.read(one, defaults)["main"] for one in pillars(key)]


def broken(hosts, minion, **values):
    silent = {"healthy": False, "leader": False, "members": (), "version": ""}
    silent |= {"cluster_id": "", "member_id": "", "access": None}
    return {**hosts, minion: dataclasses.replace(hosts[minion], **{**silent, **values})}


def deaf(hosts, cluster, some):
    for member in cluster.members[:some]:
        hosts = broken(hosts, member.minion, voting=True)
    return hosts


def mute(hosts, cluster, some):
    for member in cluster.members[:some]:
        hosts = broken(hosts, member.minion)
    return hosts


def ended(hosts, cluster, some):
    for member in cluster.members[:some]:
        hosts = broken(hosts, member.minion, active=False)
    return hosts


STATES = {
    "well": lambda hosts, cluster: hosts,
    "one serves no client": lambda hosts, cluster: deaf(hosts, cluster, 1),
    "none serves a client": lambda hosts, cluster: deaf(hosts, cluster, 3),
    "one hears nobody": lambda hosts, cluster: mute(hosts, cluster, 1),
    "one has ended": lambda hosts, cluster: ended(hosts, cluster, 1),
    "all have ended": lambda hosts, cluster: ended(hosts, cluster, 3),
    "no balancer leads anywhere": lambda hosts, cluster: {
        minion: dataclasses.replace(host, balancer_healthy=False) for minion, host in hosts.items()
    },
}


def test_every_key_has_a_pair_or_a_reason(defaults):
    keys = {key for key, _ in leaves(defaults)}
    assert keys <= OTHER.keys() | one_way().keys()
    assert OTHER.keys() - keys == {"load_balancers", "members"}


@pytest.mark.parametrize("key", OTHER)
def test_there_is_a_way_back(key, defaults):
    home, away = clusters(key, defaults)
    left, known = told_changes.in_sync(away), told_changes.wanted(away, home)
    digests = [told_changes.digest(one, m.minion) for one in (home, away) for m in home.members]
    touched = digests[:3] != digests[3:]
    for state, change in STATES.items():
        hosts = change(left, away)
        hosts = {**{minion: Observed(minion) for minion in home.hosts}, **hosts}
        plan = etcd_ha_planner.plan(home, hosts, known)
        if state == "none serves a client" and not touched:
            # Not by this key: it changes nothing on members.
            assert "run with the pillar's settings" in plan.refusal
            continue
        assert not plan.refusal, (state, plan.refusal)
        assert plan.steps or not (touched or state != "well"), state
