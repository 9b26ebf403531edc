"""The environment file of a member: what stands in it, what needs a restart, and that it cannot be
injected into."""

import subprocess

import etcd_ha_environment
import etcd_ha_topology
import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_a_tls_member_has_every_variable(cluster):
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert found["ETCD_NAME"] == "etcd1"
    assert found["ETCD_INITIAL_CLUSTER"] == (
        "etcd1=https://192.168.200.52:2380,etcd2=https://192.168.200.62:2380,"
        "etcd3=https://192.168.200.63:2380"
    )
    assert found["ETCD_LISTEN_CLIENT_URLS"] == "https://192.168.200.52:2379,https://127.0.0.1:2379"
    assert found["ETCD_CLIENT_CERT_AUTH"] == found["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    assert found["ETCD_LISTEN_METRICS_URLS"] == "http://127.0.0.1:2381"
    assert found["ETCD_FEATURE_GATES"] == "InitialCorruptCheck=true,CompactHashCheck=true"


def test_the_log_lies_below_its_directory(pillar, defaults):
    """etcd makes its log beside the given path and renames it: no mount point can be that path."""
    pillar["clusters"]["main"]["wal_dir"] = "/srv/wal"
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert found["ETCD_WAL_DIR"] == "/srv/wal/wal"


def test_new_never_stands_in_the_file(cluster):
    for member in cluster.members:
        found = etcd_ha_environment.variables(cluster, member)
        assert found["ETCD_INITIAL_CLUSTER_STATE"] == "existing"


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [
        ("3.4.45", "ETCD_LOGGER", "ETCD_FEATURE_GATES"),
        ("3.5.33", "ETCD_TLS_MIN_VERSION", "ETCD_LOGGER"),
        ("3.5.33", "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "ETCD_FEATURE_GATES"),
        ("3.4.45", "ETCD_LOGGER", "ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED"),
        ("3.5.8", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "ETCD_TLS_MIN_VERSION"),
        ("3.7.1", "ETCD_FEATURE_GATES", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK"),
    ],
)
def test_each_release_line_gets_what_it_knows(pillar, defaults, version, has, lacks):
    pillar["clusters"]["main"]["version"] = version
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert has in found and lacks not in found


def test_feature_gates_of_the_user_stand_beside_the_formulas(pillar, defaults):
    pillar["clusters"]["main"]["options"] = {
        "feature-gates": "StopGRPCServiceOnDefrag=true,CompactHashCheck=false"
    }
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert found["ETCD_FEATURE_GATES"] == (
        "InitialCorruptCheck=true,CompactHashCheck=false,StopGRPCServiceOnDefrag=true"
    )


def test_without_tls_no_certificate_is_named(pillar, defaults):
    pillar["clusters"]["main"]["tls"] = {"enabled": False}
    cluster = etcd_ha_topology.read(pillar, defaults)["main"]
    found = etcd_ha_environment.variables(cluster, cluster.members[0])
    assert not [name for name in found if "CERT" in name or "KEY" in name]
    assert found["ETCD_ADVERTISE_CLIENT_URLS"] == "http://192.168.200.52:2379"


def test_only_what_a_running_member_reads_asks_for_a_restart(cluster):
    wanted = etcd_ha_environment.variables(cluster, cluster.members[0])
    running = {**wanted, "ETCD_INITIAL_CLUSTER_STATE": "new", "ETCD_INITIAL_CLUSTER": "x=y"}
    assert etcd_ha_environment.needs_restart(running, wanted) == {}
    running["ETCD_HEARTBEAT_INTERVAL"] = "90"
    del running["ETCD_CLIENT_CERT_AUTH"]
    assert etcd_ha_environment.needs_restart(running, wanted) == {
        "ETCD_CLIENT_CERT_AUTH": {"old": "", "new": "true"},
        "ETCD_HEARTBEAT_INTERVAL": {"old": "90", "new": ""},
    }


def test_the_survivor_of_a_recovery_is_not_restarted_for_its_forced_start(cluster):
    wanted = etcd_ha_environment.variables(cluster, cluster.members[0])
    running = {**wanted, "ETCD_FORCE_NEW_CLUSTER": "true"}
    assert etcd_ha_environment.needs_restart(running, wanted) == {}


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,12}", fullmatch=True), printable, max_size=5))
def test_what_is_written_is_read_back(values):
    assert etcd_ha_environment.parse_file(etcd_ha_environment.file_text(values)) == values


def test_a_shell_reads_values_and_runs_nothing(tmp_path):
    values = {"A": 'x"; touch pwned; "', "B": "$(touch pwned) `touch pwned` $HOME \\ 'q'"}
    file = tmp_path / "env"
    file.write_text(etcd_ha_environment.file_text(values))
    script = '. ./env; printf "%s\\n%s" "$A" "$B"'
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == list(values.values())
    assert not (tmp_path / "pwned").exists()
