"""Before anything was set up: a dry run, a wrong pillar and a bad download change nothing."""

import pytest
from extent import only_in_all
from lab_command import HOSTS, MEMBERS, differences


def test_a_dry_run_on_blank_hosts_changes_nothing(blank):
    before = blank.fingerprint()
    run = blank.orch("test=True")
    assert differences(before, blank.fingerprint()) == {}
    assert any("bootstrap" in name for name in run.states), run.text
    assert any(state["result"] is None for state in run.states.values()), run.text


def test_the_plan_is_told_in_words_and_changes_nothing(blank):
    before = blank.fingerprint()
    told = blank.salt_run("etcd_ha.plan").ok().out
    assert "bootstrap etcd1, etcd2, etcd3 together" in told
    assert differences(before, blank.fingerprint()) == {}


def _unknown_key(cluster):
    cluster["mebmers"] = cluster["members"]


def _two_faults(cluster):
    first, second = list(cluster["members"].values())[:2]
    second["address"] = first["address"]
    cluster["options"] = {"hartbeat-interval": 100}


def _owned_option(cluster):
    cluster["options"] = {"initial-cluster-state": "new"}


def _absent_version(cluster):
    cluster["version"] = "3.6.99"


def _version_with_a_known_loss_of_data(cluster):
    cluster["version"] = "3.5.3"


def _silent_minion(cluster):
    cluster["members"].pop("etcd3.example.com")
    cluster["members"]["etcd9.example.com"] = {"address": "198.18.0.19"}


def _no_authority(cluster):
    cluster["tls"] = {"ca": {"minion": None}}


def _port_clash(cluster):
    cluster["load_balancers"] = {"etcd1.example.com": cluster["members"]["etcd1.example.com"]}


WRONG = {
    "unknown key": (_unknown_key, ["mebmers", "'members'"]),
    "two faults at once": (_two_faults, ["address", "hartbeat-interval", "heartbeat-interval"]),
    "option that the formula owns": (_owned_option, ["initial-cluster-state"]),
    "version that the mirror lacks": (_absent_version, ["3.6.99", "mirror"]),
    "version that loses data": (_version_with_a_known_loss_of_data, ["3.5.3", "version"]),
    "minion that does not answer": (_silent_minion, ["etcd9.example.com", "did not answer"]),
    "no CA": (_no_authority, ["tls:ca:minion"]),
    "balancer on a member's port": (_port_clash, ["balancer:port", "etcd1.example.com"]),
}


@pytest.fixture(scope="module")
def untouched():
    """The fingerprint of the blank hosts, taken once for all wrong pillars."""
    return {}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pillar_is_refused(blank, untouched, name):
    if not untouched:
        untouched.update(blank.fingerprint())
    change, words = WRONG[name]
    blank.change_pillar(change)
    blank.orch().refused(*words)


def test_no_wrong_pillar_touched_a_host(blank, untouched):
    assert untouched, "run the wrong pillars before this test"
    assert differences(untouched, blank.fingerprint()) == {}


def test_a_master_without_the_peer_permission_is_told_the_line_that_it_needs(blank):
    before = blank.fingerprint()
    peer = "grep -l x509.sign_remote_certificate /etc/salt/master /etc/salt/master.d/*"
    file = blank.exec("master", "sh", "-c", peer).out.split()[0]
    blank.exec("master", "sed", "-i.kept", "s/x509.sign_remote_certificate/test.ping/", file).ok()
    try:
        blank.orch().refused("x509.sign_remote_certificate", "restart salt-master")
    finally:
        blank.exec("master", "mv", f"{file}.kept", file).ok()
    assert differences(before, blank.fingerprint()) == {}


@only_in_all
def test_a_corrupt_release_is_refused_and_leaves_no_etcd(fresh):
    version = str(fresh.shipped["clusters"]["main"]["version"])
    spoiled = fresh.run("mirror", "corrupt", version).ok().out.strip()
    try:
        found = fresh.run("client", "sha256sum", spoiled).ok().out.split()[0]
        run = fresh.orch()
    finally:
        fresh.run("mirror", "restore", version).ok()
    wanted = good_hash(fresh, version)
    assert found != wanted
    run.refused(f"has the sha256 {found}, but {wanted} is expected", "corrupt")
    assert {host: etcd_of(fresh, host) for host in MEMBERS} == {host: [] for host in MEMBERS}
    # With the good release in its place nothing stands in the way; and the look above can find.
    fresh.orch().ok()
    for host in MEMBERS:
        there = etcd_of(fresh, host)
        assert f"/opt/etcd/{version}/etcd" in there and "/usr/local/bin/etcdctl" in there, there
        assert there[-1].isdigit(), f"etcd does not run: {there}"


def etcd_of(lab, host):
    """What of etcd is on a host: files and links, then the processes. Fails if it cannot look."""
    look = """
        set -e
        for folder in /opt/etcd /usr/local/bin; do
            test ! -d $folder || find $folder -mindepth 1 ! -type d
        done
        pgrep -x etcd || test $? -eq 1
    """
    return lab.exec(host, "sh", "-c", look).ok().out.split()


def good_hash(lab, version):
    """The sha256 of the release as the mirror keeps it, whatever it serves at the moment."""
    rows = [line.split() for line in lab.run("mirror", "list").ok().out.splitlines()]
    (found,) = [row[-1] for row in rows if row and row[0] == version]
    return found


@only_in_all
def test_a_corrupt_release_has_both_hashes_in_its_message(fresh):
    """A hash pinned in the pillar wins over the mirror's own list."""
    pinned = "0" * 64
    found = good_hash(fresh, str(fresh.shipped["clusters"]["main"]["version"]))

    def pin(cluster):
        cluster["install"] = {**cluster.get("install", {}), "checksum": pinned}

    fresh.change_pillar(pin)
    fresh.orch().refused(f"has the sha256 {found}, but {pinned} is expected")


def test_every_host_of_the_lab_is_looked_at(blank):
    """The other tests' proof is a comparison: it must see a change that was made."""
    before = blank.fingerprint()
    for host in HOSTS:
        blank.exec(host, "touch", "/etc/etcd_ha_was_here").ok()
    found = differences(before, blank.fingerprint())
    for host in HOSTS:
        blank.exec(host, "rm", "/etc/etcd_ha_was_here").ok()
    assert set(found) == set(HOSTS)
