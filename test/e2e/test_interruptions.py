"""Every kind of plan, interrupted again and again: it ends as asked, and nothing is lost.

Each run is killed after the next step that makes progress, or inside of it, and the same command is
given again, until a run comes to its end. What is killed and where goes round: the orchestrate, the
whole master, the minion that acts, the power of its host.

All of them take most of an hour. Without ETCD_HA_INTERRUPT=all fewer kinds and fewer kills a kind
are done, chosen so that each way to kill and each kind of step is among them; what is not is
printed. Each test begins with what the one before has left, the first with what test_changes.py
has left.
"""

import os

import pytest
from changing import FIVE, KEPT_PKI, PKI, THREE, Load
from interrupting import (
    ABOUT_TO_ACT,
    CERTIFIED,
    CONFIGURED,
    FIRST,
    FIRST_START,
    RENAMED,
    RUNS,
    STOPPED,
    SWITCHED,
    TRUSTED,
    UNIT,
    Interruptions,
    Kill,
    addresses_are_the_members_own,
    is_whole,
    minion,
    power,
    rotation,
    these,
)
from lab_command import DOMAIN
from test_authority import bear_certificates_of, present_ca

ALL = os.environ.get("ETCD_HA_INTERRUPT") == "all"
OPTION = {"options": {"heartbeat-interval": 120}}
PLACE = {"data_dir": "/var/lib/etcd-moved"}
PORTS = {"ports": {"client": 2479, "peer": 2480, "metrics": 2481}, "balancer": {"port": 2379}}
PLAIN = {"tls": {"enabled": False}}
OLDER, NEWER = "3.6.14", "3.7.1"


def only_in_all(test):
    why = f"{test.__name__} is run with ETCD_HA_INTERRUPT=all alone"
    return pytest.mark.skipif(not ALL, reason=why)(test)


def interrupted(changed, hosts, ways, few=(), **settings):
    """Ask for this, and interrupt it until it is there: in all ways, or in these few alone."""
    changed.ask_for(hosts, **settings)
    ways, limit = (rotation(*ways), RUNS) if ALL else (these(*few), len(few))
    done = Interruptions(changed.lab).until_in_sync(ways, limit)
    assert ALL or len(done.kills) == limit, f"it had ended before: {done.kills}"


def whole(changed):
    """As asked, and nothing is half done on any member."""
    changed.settled()
    for host in changed.hosts:
        is_whole(changed.lab, host)
    addresses_are_the_members_own(changed)


def under_load(changed, kind, hosts, ways, schemes=("https",), pki=PKI, **more):
    with Load(changed.lab, f"/kill-{kind}/", schemes, seconds=1500, pki=pki) as load:
        interrupted(changed, hosts, ways, **more)
    whole(changed)
    load.check(hosts, longest=None)


def obtained(changed, *versions):
    assert changed.obtainable(*versions) == list(versions), f"{versions} are needed"


def ids(changed):
    return {member["name"]: member["ID"] for member in changed.members()}


@only_in_all
def test_three_members_become_five(changed):
    obtained(changed, NEWER)
    changed.begin(THREE, version=NEWER, **OPTION)
    ways = (minion(FIRST_START), power(FIRST_START), minion(CERTIFIED))
    few = (power(FIRST_START, after=""), Kill("master"))
    under_load(changed, "grow", FIVE, ways, few=few, version=NEWER, **OPTION)


@only_in_all
def test_a_wiped_member_is_replaced(changed):
    """One step does most of it, so a disk is wiped for each way to meet it."""
    changed.begin(FIVE, version=NEWER, **OPTION)
    ways = power(FIRST_START, after=""), minion(FIRST_START, after=""), minion(2.5, after="")
    with Load(changed.lab, "/kill-replace/", seconds=1500) as load:
        for way in (*ways, Kill("master", delay=1.5, after=": prepare "), FIRST):
            changed.lab.fault("etcd4", "wipe", "--data", "/var/lib/etcd")
            done = Interruptions(changed.lab).until_in_sync(these(way), 1)
            assert done.kills == [way], done.kills
            whole(changed)
    load.check(FIVE, longest=None)


@only_in_all
def test_five_members_become_three(changed):
    changed.begin(FIVE, version=NEWER, **OPTION)
    changed.lead("etcd5")
    ways = (minion(0.1), power(0.1), ABOUT_TO_ACT)
    few = (Kill("orchestrate", after="etcd_ha_member.remove"),)
    under_load(changed, "shrink", THREE, ways, few=few, version=NEWER, **OPTION)
    for host in set(FIVE) - set(THREE):
        changed.is_retired(host)


@only_in_all
def test_an_option_changes(changed):
    changed.begin(THREE, version=NEWER, **OPTION)
    ways = (power(CONFIGURED), minion(CONFIGURED), ABOUT_TO_ACT)
    few = (minion(CONFIGURED), Kill("master", delay=1.5))
    under_load(changed, "option", THREE, ways, few=few, version=NEWER)


@only_in_all
def test_the_data_directory_moves(changed):
    changed.begin(THREE, version=NEWER)
    before = ids(changed)
    ways = (power(UNIT), minion(STOPPED), power(STOPPED), minion(UNIT))
    under_load(changed, "moved", THREE, ways, version=NEWER, **PLACE)
    assert ids(changed) == before, "no member was replaced: each has kept its data"
    for host in THREE:
        gone = changed.lab.exec(host, "test", "-e", "/var/lib/etcd/member").code != 0
        assert gone, host


@only_in_all
def test_the_ports_change(changed):
    changed.begin(THREE, version=NEWER, **PLACE)
    ways = (power(CONFIGURED), minion(STOPPED), power(STOPPED))
    under_load(changed, "ports", THREE, ways, version=NEWER, **PLACE, **PORTS)


@only_in_all
def test_tls_is_taken_off(changed):
    settings = {"version": NEWER, **PLACE, **PORTS}
    changed.begin(THREE, **settings)
    ways = (power(CONFIGURED), minion(CONFIGURED), minion(STOPPED))
    both = ("https", "http")
    under_load(changed, "plain", THREE, ways, schemes=both, **settings, **PLAIN)


@only_in_all
def test_tls_is_put_on(changed):
    settings = {"version": NEWER, **PLACE, **PORTS}
    changed.begin(THREE, **settings, **PLAIN)
    ways = (minion(CERTIFIED), power(CONFIGURED), minion(CONFIGURED))
    under_load(changed, "tls", THREE, ways, schemes=("http", "https"), **settings)


@only_in_all
def test_a_bootstrap(changed):
    """One step does all of it, so blank hosts are needed for each way to meet it."""
    obtained(changed, OLDER)
    power_at_start = power(FIRST_START, after="")
    in_prepare = Kill("master", delay=2.0, after=": prepare ")
    inside = minion(CERTIFIED, after=""), minion(FIRST_START, after=""), in_prepare, FIRST
    for way in (power_at_start, *inside) if ALL else (power_at_start,):
        changed.lab.become_blank()
        changed.lab.state = "dirty"
        changed.ask_for(THREE, version=OLDER)
        done = Interruptions(changed.lab).until_in_sync(these(way), 1)
        assert done.kills == [way], done.kills
        changed.lab.put("/begin", "kept", host="etcd1")
        whole(changed)


@only_in_all
def test_an_upgrade(changed):
    obtained(changed, OLDER, NEWER)
    changed.begin(THREE, version=OLDER)
    ways = (minion(SWITCHED), power(SWITCHED), ABOUT_TO_ACT)
    few = (Kill("orchestrate", after="etcd_ha_member.snapshot"), minion(SWITCHED, after=""))
    under_load(changed, "upgrade", THREE, ways, few=few, version=NEWER)
    assert changed.versions() == {NEWER}


@only_in_all
def test_a_downgrade(changed):
    changed.begin(THREE, version=NEWER)
    ways = (power(SWITCHED), minion(SWITCHED))
    under_load(changed, "downgrade", THREE, ways, version=OLDER)
    assert changed.versions() == {OLDER}


@only_in_all
def test_another_ca_signs(changed):
    changed.begin(THREE, version=OLDER)
    another = {"tls": {"ca": {"minion": f"etcd5.{DOMAIN}"}}, "version": OLDER}
    ways = (minion(TRUSTED), minion(CERTIFIED), power(STOPPED), power(TRUSTED))
    with changed.lab.another_ca("etcd5"):
        under_load(changed, "authority", THREE, ways, **another)
    bear_certificates_of(changed.lab, present_ca(changed.lab, "etcd5"))
    changed.lab.state = "dirty"


@only_in_all
def test_the_cluster_gets_another_name(changed):
    """Records, the CA and the balancers' certificates move to it, and nobody is restarted."""
    changed.begin(THREE, version=OLDER)
    before = ids(changed)
    copy = f"rm -rf {KEPT_PKI}; cp -a {PKI} {KEPT_PKI}"
    changed.lab.exec("lb", "sh", "-c", copy).ok()
    other = {"name": "prod", "renamed_from": "main", "version": OLDER}
    ways = (minion(RENAMED), power(RENAMED), ABOUT_TO_ACT, power(0.1))
    under_load(changed, "rename", THREE, ways, pki=KEPT_PKI, **other)
    assert ids(changed) == before
    left = changed.lab.exec("ca", "sh", "-c", "ls /etc/pki/etcd_ha").ok().out.split()
    assert left == ["prod"], left
