"""Hosts that lose power: the others serve on, and the host comes back with its data."""

import json
import time

import pytest
from cryptography import x509
from extent import only_in_all, only_in_all_case
from lab_command import HOSTS, MEMBERS

PKI = "/etc/etcd/main"


def fresh_connections(lab, count=20):
    """How requests over as many new connections through the balancer end."""
    wanted = {"ca": f"{PKI}/ca.crt", "certificate": f"{PKI}/check.crt", "key": f"{PKI}/check.key"}
    wanted |= {"host": lab.address("lb"), "port": 2379, "count": count}
    return lab.probe("lb", "connections", json.dumps(wanted))


@pytest.mark.parametrize("host", [MEMBERS[0], *map(only_in_all_case, MEMBERS[1:])])
def test_a_killed_member_comes_back_with_its_data(converged, host):
    other = next(name for name in MEMBERS if name != host)
    converged.put(f"/kill/{host}/before", "1", host=other)
    converged.fault(host, "kill")
    try:
        # Two checks of two seconds each, and an election, lie between the loss and all well.
        time.sleep(8)
        found = fresh_connections(converged)
        assert found == {"200": 20}, found
        converged.put(f"/kill/{host}/meanwhile", "2", host=other)
        gone = converged.etcdctl(other, "endpoint", "health", endpoint=converged.own(host))
        assert gone.code != 0, "the host should be dead by now"
    finally:
        converged.fault(host, "heal")
    converged.wait_healthy(host, seconds=90)
    for key, value in (("before", "1"), ("meanwhile", "2")):
        at = converged.own(host)
        assert converged.get(f"/kill/{host}/{key}", host=host, endpoint=at) == value
    converged.wait_for_minions(host)


def test_a_killed_balancer_serves_again(converged):
    converged.fault("lb", "kill")
    converged.fault("lb", "heal")
    converged.wait_for_minions("lb")
    converged.put("/kill/lb", "back")
    assert converged.get("/kill/lb", endpoint=converged.through_balancer()) == "back"


@only_in_all
def test_a_killed_ca_is_needed_by_nobody_and_signs_again(converged):
    converged.fault("ca", "kill")
    try:
        converged.put("/kill/ca", "without a CA")
    finally:
        converged.fault("ca", "heal")
    converged.wait_for_minions("ca")
    assert converged.orch().ok().changes == {}
    lost = certificate(converged, "lb", f"{PKI}/check.crt")
    # Without its copy in next/, from which it would be put in use again.
    converged.exec("lb", "rm", f"{PKI}/check.crt", f"{PKI}/next/check.crt").ok()
    converged.orch().ok()
    found = certificate(converged, "lb", f"{PKI}/check.crt")
    assert found.serial_number != lost.serial_number
    # It is the old CA that signs, not a new one: the members let the new certificate in.
    assert found.issuer == lost.issuer
    answers = fresh_connections(converged)
    assert answers == {"200": 20}, answers
    assert converged.orch().ok().changes == {}


def certificate(lab, host, path):
    return x509.load_pem_x509_certificate(lab.exec(host, "cat", path).ok().out.encode())


def test_a_restarted_member_keeps_its_data(converged):
    converged.put("/restart", "kept")
    for host in MEMBERS:
        converged.exec(host, "systemctl", "restart", "etcd").ok()
        converged.wait_healthy(host)
        assert converged.get("/restart", host=host, endpoint=converged.own(host)) == "kept"


def test_all_members_at_once_come_back_with_their_data(converged):
    converged.put("/blackout", "kept")
    for host in MEMBERS:
        converged.fault(host, "kill")
    for host in MEMBERS:
        converged.fault(host, "heal")
    for host in MEMBERS:
        converged.wait_healthy(host, seconds=90)
        assert converged.get("/blackout", host=host, endpoint=converged.own(host)) == "kept"
    converged.wait_for_minions(*HOSTS)


def test_a_dead_minion_is_named_and_nothing_is_planned(converged):
    converged.fault("etcd3", "kill")
    try:
        converged.orch().refused("etcd3", "did not answer")
    finally:
        converged.fault("etcd3", "heal")
    converged.wait_healthy("etcd3", seconds=90)
    converged.wait_for_minions("etcd3")


@pytest.mark.parametrize("record", [only_in_all_case("on the master"), "on the members"])
def test_a_cluster_that_lost_all_data_is_not_bootstrapped_again(sacrificed, record):
    """Either record alone is enough: it is not by luck that the other one is there."""
    for host in MEMBERS:
        script = "systemctl stop etcd; rm -rf /var/lib/etcd/member"
        if record == "on the master":
            script += "; rm /var/lib/etcd_ha/main.json"
        sacrificed.exec(host, "sh", "-c", script).ok()
    if record == "on the members":
        sacrificed.salt_run("etcd_ha.forget", "main").ok()
    run = sacrificed.orch().refused("bootstrapped once", "restore a backup", "etcd_ha.forget")
    assert run.changes == {}
    for host in MEMBERS:
        assert sacrificed.exec(host, "test", "-e", "/var/lib/etcd/member").code != 0
        assert sacrificed.exec(host, "systemctl", "is-active", "etcd").out.strip() != "active"


def test_a_highstate_starts_no_member_without_data(sacrificed):
    script = "systemctl stop etcd; rm -rf /var/lib/etcd/member"
    sacrificed.exec("etcd1", "sh", "-c", script).ok()
    done = sacrificed.salt("etcd1*", "state.apply", "etcd_ha")
    assert done.code != 0, done.text
    assert "holds no data and was not started" in done.text
    assert sacrificed.exec("etcd1", "test", "-e", "/var/lib/etcd/member").code != 0
