"""What must not be done: each refusal by its words, and with nothing changed on the hosts."""

import contextlib
import json

import pytest
from changing import EVERYONE, THREE
from extent import only_in_all, only_in_all_case
from lab_command import differences

# What etcd itself writes as it runs; that the data is there is seen at the folder.
OWN_DATA = "/var/lib/etcd/member/"
ASIDE = "/root/kept"
STRANGER = "https://198.18.0.99:2380"
CA_KEY = "/etc/pki/etcd_ha/main/ca.key"


def seen(lab, hosts):
    everything = lab.fingerprint(hosts)
    return {
        host: {path: told for path, told in found.items() if not path.startswith(OWN_DATA)}
        for host, found in everything.items()
    }


@contextlib.contextmanager
def untouched(changed, *hosts):
    """Whatever is done inside, these hosts are afterwards as they were."""
    hosts = hosts or (*EVERYONE, "lb", "ca")
    before = seen(changed.lab, hosts)
    yield
    found = differences(before, seen(changed.lab, hosts))
    assert not found, f"a refused run has changed the hosts: {found}"


@contextlib.contextmanager
def without_data(lab, *hosts):
    """These members are stopped and their data is gone; afterwards they run with it again."""
    away = f"systemctl stop etcd; rm -rf {ASIDE}; mv /var/lib/etcd/member {ASIDE}"
    back = f"systemctl stop etcd; rm -rf /var/lib/etcd/member; mv {ASIDE} /var/lib/etcd/member"
    try:
        for host in hosts:
            lab.exec(host, "sh", "-c", away).ok()
        yield
    finally:
        for host in hosts:
            lab.exec(host, "sh", "-c", f"{back}; systemctl start etcd --no-block").ok()
    for host in THREE:
        lab.wait_healthy(host)


def begun(changed):
    """Three members, as the shipped pillar has them."""
    changed.begin(THREE)


def refused(changed, *words):
    run = changed.lab.orch(timeout=200).refused(*words)
    assert run.changes == {}, run.changes
    print("\n".join(f"    {state['name']}" for state in run.states.values()))


def test_a_downgrade_that_etcd_cannot_do(changed):
    begun(changed)
    with untouched(changed):
        changed.ask_for(THREE, version="3.4.23")
        refused(changed, "cannot be taken down to 3.4.23", "one minor line", "restore a backup")
    changed.same()


def test_none_of_the_present_members_is_named(changed):
    begun(changed)
    with untouched(changed):
        changed.ask_for(("etcd4", "etcd5"))
        refused(changed, "none of the pillar's members of main", "Keep at least one")
    changed.same()


def test_the_ca_s_key_is_not_there(changed):
    begun(changed)
    changed.lab.exec("ca", "mv", CA_KEY, "/root/ca.key").ok()
    try:
        with untouched(changed):
            changed.ask_for((*THREE, "etcd4", "etcd5"))
            refused(changed, CA_KEY, "is missing", "backup")
    finally:
        changed.lab.exec("ca", "mv", "/root/ca.key", CA_KEY).ok()
    changed.same()


def test_an_unknown_member_is_named_and_taken_out_when_asked(changed):
    begun(changed)
    add = ("member", "add", "stranger", "--learner", f"--peer-urls={STRANGER}")
    changed.lab.etcdctl("etcd1", *add).ok()
    with untouched(changed):
        refused(changed, f"the unstarted member at {STRANGER}", "remove_unknown: true")
    assert len(changed.members()) == 4
    changed.ask_for(THREE, remove_unknown=True)
    changed.lab.orch().ok()
    changed.settled()
    assert len(changed.members()) == 3
    changed.same()


@only_in_all
def test_no_quorum_because_the_members_do_not_reach_each_other(changed):
    """All hosts answer the master, and etcd runs on each, but none finds another."""
    begun(changed)
    try:
        changed.lab.fault("etcd1", "cut", "--from", "etcd2", "--from", "etcd3")
        changed.lab.fault("etcd2", "cut", "--from", "etcd3")
        with untouched(changed):
            refused(changed, "main has no quorum", "journalctl -u etcd", "nothing is restarted")
    finally:
        for host in THREE:
            changed.lab.fault(host, "heal")
    for host in THREE:
        changed.lab.wait_healthy(host)
    changed.same()


@pytest.mark.parametrize("fault", [only_in_all_case("freeze"), "kill"])
def test_two_of_three_hosts_are_lost(changed, fault):
    """First they are asked for; then the pillar names them no more, which is no way out either."""
    begun(changed)
    lost, alive = ("etcd2", "etcd3"), ("etcd1", "etcd4", "etcd5", "lb", "ca")
    try:
        for host in lost:
            changed.lab.fault(host, fault)
        with untouched(changed, *alive):
            refused(changed, "etcd2", "etcd3", "did not answer", "manage.status")
            if fault == "kill":
                changed.ask_for(("etcd1", "etcd4", "etcd5"))
                refused(changed, "main has no quorum", "no longer names", "Name it")
    finally:
        for host in lost:
            changed.lab.fault(host, "heal")
    changed.lab.wait_for_minions(*lost)
    for host in THREE:
        changed.lab.wait_healthy(host, seconds=90)
    changed.same()


@only_in_all
def test_a_member_of_another_cluster(changed):
    begun(changed)
    bootstrap = "ETCD_INITIAL_CLUSTER_STATE=new\n"
    with without_data(changed.lab, "etcd3"):
        own = "ETCD_INITIAL_CLUSTER=etcd3=https://198.18.0.13:2380\n"
        changed.lab.write("etcd3", "/run/etcd_ha/bootstrap.env", bootstrap + own)
        changed.lab.exec("etcd3", "chmod", "755", "/run/etcd_ha").ok()
        changed.lab.exec("etcd3", "chmod", "644", "/run/etcd_ha/bootstrap.env").ok()
        changed.lab.exec("etcd3", "systemctl", "start", "etcd").ok()
        changed.lab.exec("etcd3", "rm", "/run/etcd_ha/bootstrap.env").ok()
        with untouched(changed):
            refused(changed, "did not set up", "etcd3", "Nothing was changed")
    changed.same()


def test_two_of_three_members_without_data_and_then_all(changed):
    begun(changed)
    with without_data(changed.lab, *THREE):
        # One still has its data; it does not run, or it runs alone.
        back = f"cp -a {ASIDE} /var/lib/etcd/member"
        changed.lab.exec("etcd1", "sh", "-c", back).ok()
        with untouched(changed):
            refused(changed, "etcd2", "etcd3", "lost their data", "no quorum", "restore a backup")
        changed.lab.exec("etcd1", "systemctl", "start", "etcd", "--no-block").ok()
        with untouched(changed):
            refused(changed, "etcd2", "etcd3", "lost their data", "no quorum", "restore a backup")
        changed.lab.exec("etcd1", "systemctl", "stop", "etcd").ok()
        changed.lab.exec("etcd1", "rm", "-rf", "/var/lib/etcd/member").ok()
        with untouched(changed):
            refused(
                changed, "main was bootstrapped once", "restore a backup", "etcd_ha.forget main"
            )
    assert json.dumps(changed.get("/begin")) == '"kept"'
    changed.same()
