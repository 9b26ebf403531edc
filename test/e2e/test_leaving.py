"""Whoever leaves is stopped for good: also who was silent then, or had another pillar in mind."""

import copy
import json

from extent import only_in_all
from lab_command import DOMAIN

UNITS = ("etcd.service", "etcd_ha-backup.timer")
SCHEDULED = {"backup": {"schedule": "hourly"}}


def without(lab, *hosts, **more):
    """The shipped pillar without these hosts."""

    def leave(cluster):
        for host in hosts:
            for part in ("members", "load_balancers"):
                cluster[part].pop(f"{host}.{DOMAIN}", None)
        cluster.update(more)

    return lab.change_pillar(leave)


def assert_stopped(lab, host):
    """No unit of the formula runs or is enabled, its data is aside, and no secret is left."""
    for unit in UNITS:
        assert lab.exec(host, "systemctl", "is-active", unit).out.strip() != "active", unit
        assert lab.exec(host, "systemctl", "is-enabled", unit).out.strip() != "enabled", unit
    assert lab.exec(host, "sh", "-c", "ls -d /var/lib/etcd.removed-*").code == 0
    assert lab.exec(host, "sh", "-c", "ls /etc/etcd/backup.*").out == ""


def test_who_was_off_as_it_left_is_stopped_when_it_comes_back(sacrificed):
    lab = sacrificed
    lab.change_pillar(lambda cluster: cluster.update(SCHEDULED))
    lab.orch().ok()
    lab.fault("etcd3", "kill")
    without(lab, "etcd3", **SCHEDULED)
    run = lab.orch().ok()
    assert "salt-key -d etcd3" in run.text
    # It is not forgotten by runs in which it is away.
    assert lab.orch().ok().changes == {}
    lab.fault("etcd3", "heal")
    lab.wait_for_minions("etcd3")
    # A highstate in between neither waits for a start that cannot be, nor changes anything.
    told = lab.apply(f"etcd3.{DOMAIN}")[f"etcd3.{DOMAIN}"]
    assert not [one["comment"] for one in told.values() if one["result"] is False]
    lab.orch().ok()
    assert_stopped(lab, "etcd3")
    assert lab.orch().ok().changes == {}


@only_in_all
def test_a_pillar_that_was_wrong_as_the_minion_started_keeps_nobody(sacrificed):
    lab = sacrificed
    wrong = copy.deepcopy(lab.shipped)
    wrong["clusters"]["main"]["verson"] = "3.6.14"
    lab.write_pillar(wrong)
    lab.exec("etcd3", "systemctl", "restart", "salt-minion").ok()
    lab.wait_for_minions("etcd3")
    # The fault is one state of its highstate.
    told = lab.apply(f"etcd3.{DOMAIN}")[f"etcd3.{DOMAIN}"]
    assert len(told) == 1 and "did you mean 'version'" in next(iter(told.values()))["comment"]
    without(lab, "etcd3")
    lab.orch().ok()
    assert_stopped(lab, "etcd3")


def test_a_cluster_goes_with_those_that_the_pillar_no_longer_names(sacrificed):
    lab = sacrificed
    without(lab, "etcd3", "lb")
    confirmed = "pillar=" + json.dumps({"confirm": "main"})
    lab.orch(confirmed, command="remove_cluster").ok()
    for host in ("etcd1", "etcd2", "etcd3"):
        assert_stopped(lab, host)
    assert lab.exec("lb", "systemctl", "is-active", "haproxy").out.strip() != "active"
    again = lab.orch(confirmed, command="remove_cluster").ok()
    assert "nothing of main is left to remove" in again.text and again.changes == {}
    # The last cluster is gone: hosts have no part any more, and say so.
    lab.write_pillar({"clusters": {}})
    for states in lab.apply().values():
        failed = [one["comment"] for one in states.values() if one["result"] is False]
        assert not failed and not [one for one in states.values() if one["changes"]]
    assert "names no cluster" in lab.salt_run("etcd_ha.status").ok().text
    refused = lab.salt_run("etcd_ha.plan")
    assert refused.code == 1 and "there is nothing to plan" in refused.text
    assert "Traceback" not in refused.text
