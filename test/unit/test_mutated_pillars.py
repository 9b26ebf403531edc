"""Good pillars with something strange somewhere: refused by a key, or rendered harmlessly."""

import collections
import copy

import etcd_ha_topology
import pytest
import read_back
from etcd_ha_topology import PillarError, merge
from good_pillar import PILLAR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import places

# Every section with something in it, so that a change can come anywhere.
FULL = merge(
    PILLAR,
    {
        "clusters": {
            "main": {
                "token": "main",
                "user": "etcd",
                "group": "etcd",
                "data_dir": "/var/lib/etcd",
                "wal_dir": "/srv/wal",
                "config_dir": "/etc/etcd",
                "ports": {"client": 2379, "peer": 2380, "metrics": 2381, "transfer": 2382},
                "install": {"url": "https://mirror/etcd", "dir": "/opt/etcd", "packages": ["etcd"]},
                "host": {"hosts_file": True, "hostname": True},
                "tls": {
                    "source": "salt",
                    "algo": "ec",
                    "keysize": 256,
                    "names": ["etcd.example.com", "10.0.0.1"],
                    "ca": {"common_name": "CA", "organization": "O", "days_valid": 3650},
                },
                "balancer": {
                    "kind": "haproxy",
                    "balance": "leastconn",
                    "port": 2379,
                    "bind": "*",
                    "check_interval": 2,
                    "idle_timeout": 86400,
                    "stats": {"enabled": True, "address": "127.0.0.1", "port": 8404},
                },
                "firewall": {
                    "enabled": True,
                    "kind": "nftables",
                    "client_networks": ["10.1.0.0/16", "fd00::/64"],
                },
                "access": {
                    "enabled": True,
                    "roles": {"app": {"permissions": [{"prefix": "/app/", "access": "read"}]}},
                    "users": {"app": {"roles": ["app"], "password": "planted-secret"}},
                },
                "options": {
                    "auth-token": "simple",
                    "heartbeat-interval": 100,
                    "log-level": "info",
                    "cipher-suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "B"],
                    "feature-gates": "StopGRPCServiceOnDefrag=true",
                },
                "maintenance": {"compaction": {"mode": "periodic", "retention": "1h"}},
                "start_timeout": 120,
                "upgrade": {"through": {"3.5": "3.5.33"}},
                "backup": {
                    "schedule": "daily",
                    "directory": "/var/backups/etcd_ha",
                    "keep": {"last": 7},
                    "s3": {"bucket": "abc", "access_key": "a", "secret_key": "planted-secret"},
                },
            }
        }
    },
)

INJECTIONS = (
    "\nUser=root",
    "a\nETCD_FORCE_NEW_CLUSTER=true",
    '"; touch /pwned; "',
    "$(id)",
    "`id`",
    "${HOME}",
    "{{ grains.id }}",
    "{% set x = 1 %}",
    "{# x #}",
    "%i%%",
    "a # b",
    "a; b",
    "--help",
    "-x",
    "../../etc/passwd",
    "a\\",
    "'",
    "fe80::1%x\n  bind *:1",
    "::1%$(id)",
    "10.0.0.1\n10.0.0.2 evil",
    "a\tb",
    "a\u0085b\u2028c",
    "größe 😀",
    "\ud800",
    "\0",
    "on",
    "no",
    "0644",
    "12:30:45",
    "3.10",
    "1e3",
    "~",
    "",
    " ",
    "x" * 300,
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [0, -1, 1, 65536, 2**31, 2**63, 2**64, 10**40, 3.1, float("nan"), float("inf")]
    ),
    st.sampled_from(INJECTIONS),
    st.text(max_size=20),
    st.text(st.sampled_from("az09./:-_@ \n\"'$`\\{}%#"), max_size=12),
)
STRANGE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=5), SCALARS), inner)
    ),
    max_leaves=4,
)


PLACES = [path for path in places(FULL) if path]
# Where no secret is: one that is put into another place is told there.
OPEN = [path for path in PLACES if path[-1] not in ("password", "secret_key")]
SEEN = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\nmutated pillars: {dict(sorted(SEEN.items()))}")


@st.composite
def mutated(draw):
    """A good pillar with one to three places of it set, renamed, doubled or taken away."""
    pillar = copy.deepcopy(FULL)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(PLACES))
        where = pillar
        try:
            for key in path[:-1]:
                where = where[key]
            present = where[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        if not isinstance(where, (dict, list)):
            # A change before this one has put text here, which has places, too.
            continue
        how = draw(st.sampled_from(["set", "set", "set", "copy", "append", "rename", "drop"]))
        if how == "append" and isinstance(present, str):
            where[path[-1]] = present + draw(st.sampled_from(INJECTIONS))
        elif how == "rename" and isinstance(where, dict):
            new = draw(SCALARS)
            where[new if new == new else "nan"] = where.pop(path[-1])
        elif how == "copy":
            other = FULL
            for key in draw(st.sampled_from(OPEN)):
                other = other[key]
            where[path[-1]] = copy.deepcopy(other)
        elif how == "drop":
            del where[path[-1]]
        else:
            where[path[-1]] = draw(STRANGE)
    return pillar


@settings(
    max_examples=1500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(pillar=mutated())
def test_is_refused_by_a_key_or_reads_back(pillar, defaults):
    try:
        clusters = etcd_ha_topology.read(pillar, defaults)
    except PillarError as err:
        SEEN["refused"] += 1
        assert err.faults
        for fault in err.faults:
            assert fault.startswith("etcd_ha") and fault.isprintable() and len(fault) < 600
            assert "planted-secret" not in fault
        return
    SEEN["rendered and read back"] += 1
    SEEN["files"] += read_back.read_all(clusters)


def test_the_full_pillar_is_good(defaults):
    """Otherwise every mutation of it would be refused for something else."""
    assert read_back.read_all(etcd_ha_topology.read(copy.deepcopy(FULL), defaults)) > 30


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ":".join(map(str, path)))
def test_each_place_is_looked_at(path, defaults):
    """A list of lists of lists is good nowhere, and the fault names the way there."""
    pillar = copy.deepcopy(FULL)
    where = pillar
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = [[["strange"]]]
    with pytest.raises(PillarError) as caught:
        etcd_ha_topology.read(pillar, defaults)
    named = [str(key) for key in path if not isinstance(key, int)][-2:]
    told = "\n".join(caught.value.faults)
    assert named[-1] in told or named[0] in told, told
