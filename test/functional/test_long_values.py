"""Every state ID is one short line, with the longest paths and names that the pillar may have."""

from __future__ import annotations

import pytest
from etcd_ha_steps import LONGEST_ID
from etcd_ha_topology import merge

LABEL = "a" * 60
NAME = "c" * 56
CA = f"{LABEL}.{LABEL}.{LABEL}.{'z' * 61}"
MEMBER = f"{LABEL}1.{LABEL}.{LABEL}.{LABEL}"
BALANCER = f"{LABEL}b1.{LABEL}.{LABEL}.{LABEL}"
ACCOUNT = "u" * 32


def path(name):
    """The longest path that is taken."""
    return f"/srv/{name}/{'p' * 190}/".ljust(255, "q")


FILES = {
    name: {"certificate": path(f"{name}.crt"), **({} if name == "ca" else {"key": path(name)})}
    for name in ("ca", "server", "peer", "client", "check")
}
PEM = {
    name: {part: f"-----BEGIN X-----\n{name} {part}" for part in parts}
    for name, parts in FILES.items()
}
HUGE = {
    "version": "3.6.14",
    "renamed_from": "f" * 64,
    "members": {
        f"{LABEL}{n}.{LABEL}.{LABEL}.{LABEL}": {"address": f"10.0.0.{n}", "name": f"{LABEL}-{n}"}
        for n in range(1, 10)
    },
    "load_balancers": {
        f"{LABEL}b{n}.{LABEL}.{LABEL}.{LABEL}": {"address": f"10.0.1.{n}"} for n in (1, 2)
    },
    "tls": {"ca": {"minion": CA, "dir": path("ca")}, "trust_store": True},
    "user": ACCOUNT,
    "group": ACCOUNT,
    "data_dir": path("data"),
    "wal_dir": path("wal"),
    "config_dir": path("config"),
    "install": {"dir": path("releases"), "bin_dir": path("bin")},
    "firewall": {"enabled": True, "kind": "nftables"},
    "backup": {
        "schedule": "daily",
        "directory": path("backups"),
        "s3": {"bucket": "abc", "access_key": "a", "secret_key": "b"},
    },
    "balancer": {
        "virtual_address": {"address": "10.0.1.99", "interface": "eth0"},
        "stats": {"enabled": True},
    },
    "access": {
        "enabled": True,
        "users": {"n" * 128: {"roles": ["r" * 128]}},
        "roles": {"r" * 128: {"permissions": [{"prefix": "k" * 4000, "access": "read"}]}},
    },
}


@pytest.mark.parametrize(
    ("minion", "sls", "change"),
    [
        (MEMBER, "etcd_ha", {}),
        (MEMBER, "etcd_ha", {"tls": {"source": "files", "files": FILES}}),
        (MEMBER, "etcd_ha", {"tls": {"source": "pillar", "files": PEM}}),
        (MEMBER, "etcd_ha", {"install": {"method": "package"}}),
        (MEMBER, "etcd_ha.prepare", {}),
        (MEMBER, "etcd_ha.access", {}),
        (BALANCER, "etcd_ha", {}),
        (BALANCER, "etcd_ha", {"balancer": {"kind": "nginx"}}),
        (CA, "etcd_ha", {}),
        (f"s{CA}", "etcd_ha", {}),
    ],
)
def test_no_path_and_no_name_makes_an_id_too_long(compile_states, minion, sls, change):
    pillar = {"etcd_ha": {"clusters": {NAME: merge(HUGE, change)}}}
    compiled = compile_states(minion, pillar, sls)
    assert compiled.errors == [] and compiled.unresolved() == []
    refused = compiled.of("test.fail_without_changes")
    assert compiled.chunks and not refused, refused
    for one in compiled.ids():
        assert len(one) <= LONGEST_ID and one.isprintable(), one


def test_names_that_yaml_takes_for_something_else_stand_as_they_are(compile_states):
    """A cluster called null, on a minion called 0x1f."""
    small = {name: HUGE[name] for name in ("version", "balancer")}
    small["tls"] = {"ca": {"minion": "1e5"}}
    small["members"] = {"on": {"address": "10.0.0.1"}}
    small["load_balancers"] = {"0x1f": {"address": "10.0.1.1"}}
    pillar = {"etcd_ha": {"clusters": {"null": small}}}
    for minion in ("on", "0x1f", "1e5"):
        compiled = compile_states(minion, pillar)
        assert compiled.errors == [] and compiled.unresolved() == []
    text = compile_states("0x1f", pillar).file("/etc/keepalived/keepalived.conf")
    assert "    router_id 0x1f\n" in text and "vrrp_instance etcd_null {" in text
