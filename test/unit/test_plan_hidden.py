"""A member that runs on data which its path does not lead to: never replaced, never restarted."""

import dataclasses

import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_restore
import pytest
import test_planner
from test_planner import blank, change, healthy, wanted

ONE, TWO, THREE = (f"etcd{n}.example.com" for n in (1, 2, 3))
MOUNT = {"kind": "mount", "path": "/var/lib/etcd", "by": "/var/lib/etcd"}
DELETED = {"kind": "deleted", "path": "/var/lib/etcd", "by": ""}
KINDS = [MOUNT, DELETED, {**MOUNT, "kind": "moved", "by": "/x"}, {**DELETED, "kind": "unmounted"}]
CURE = "umount /var/lib/etcd"


def hidden(cluster, *minions, by=MOUNT, has_data=True):
    hosts = healthy(cluster)
    for minion in minions:
        hosts = change(hosts, minion, hidden=by, has_data=has_data)
    return hosts


def targets(plan):
    return {one for step in plan.steps if step.kind != "verify" for one in step.targets}


@pytest.mark.parametrize("has_data", [True, False])
@pytest.mark.parametrize("minions", [(TWO,), (ONE, TWO), (ONE, TWO, THREE)])
@pytest.mark.parametrize("found", KINDS, ids=lambda one: one["kind"])
def test_nothing_is_done_and_each_host_is_named_with_its_cure(cluster, found, minions, has_data):
    hosts = hidden(cluster, *minions, by=found, has_data=has_data)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and "its data is gone" not in plan.refusal
    for minion in minions:
        assert f"{minion}: " in plan.refusal
    assert plan.refusal.count("do not reboot the host") == len(minions)
    assert "not bootstrapped" not in plan.summary


def test_each_kind_names_its_own_cure(cluster):
    def said(found):
        hosts = hidden(cluster, TWO, by=found)
        return etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).refusal

    assert "hidden below the mount at /var/lib/etcd, which was made while etcd ran" in said(MOUNT)
    assert CURE in said(MOUNT)
    deleted = said(DELETED)
    assert "etcd_ha.orch.replace" in deleted and '"member": "etcd2"' in deleted
    assert "one member at a time" in deleted and "umount" not in deleted
    assert "but in /x." in said(KINDS[2])
    assert "mounted there again" in said(KINDS[3])


def test_a_healthy_member_that_old_modules_say_has_no_data_is_not_called_lost(cluster):
    hosts = healthy(cluster)
    for minion in (ONE, TWO, THREE):
        hosts = change(hosts, minion, has_data=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and plan.refusal.count("its data is not in") == 3
    assert "findmnt" in plan.refusal


def test_a_change_of_the_pillar_restarts_none_meanwhile(cluster):
    hosts = hidden(cluster, TWO)
    for minion in (ONE, TWO, THREE):
        hosts = change(hosts, minion, digest="old", pending=("unit",))
    for command in ("converge", "restart", "rotate_ca", "defrag", "recover_space"):
        plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command)
        assert plan.steps == () and CURE in plan.refusal, command


@pytest.mark.parametrize("found", [MOUNT, DELETED], ids=lambda one: one["kind"])
def test_who_is_down_is_started_and_all_else_waits(cluster, found):
    down = {"active": False, "healthy": False, "members": (), "leader": False, "version": ""}
    hosts = change(hidden(cluster, ONE, by=found), THREE, **down)
    hosts = change(hosts, TWO, digest="old", pending=("unit",))
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert targets(plan) == {THREE} and not plan.refusal
    (waits,) = plan.waits
    assert f"{ONE}: " in waits and "do not reboot" in waits


@pytest.mark.parametrize("found", [MOUNT, DELETED], ids=lambda one: one["kind"])
def test_one_that_is_not_healthy_is_not_restarted_either(cluster, found):
    hosts = change(hidden(cluster, TWO, by=found), TWO, healthy=False, members=())
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and f"{TWO}: " in plan.refusal


@pytest.mark.parametrize("found", [MOUNT, DELETED], ids=lambda one: one["kind"])
def test_without_a_quorum_the_others_are_started_and_it_stays(cluster, found):
    down = {"healthy": False, "members": (), "leader": False, "version": "", "cluster_id": ""}
    hosts = hidden(cluster, ONE, by=found, has_data=False)
    hosts = change(hosts, ONE, **down, pending=("trust",), digest="old")
    for minion in (TWO, THREE):
        hosts = change(hosts, minion, **down, active=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert targets(plan) == {TWO, THREE} and any("do not reboot" in one for one in plan.warnings)


def test_with_the_others_gone_it_is_not_restarted_for_its_settings(cluster):
    down = {"healthy": False, "members": (), "leader": False, "version": "", "cluster_id": ""}
    hosts = healthy(cluster)
    for minion in (ONE, TWO, THREE):
        running = {**hosts[minion].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
        hosts = change(hosts, minion, **down, running=running, hidden=MOUNT, has_data=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and "has no quorum" in plan.refusal
    assert sum("do not reboot" in one for one in plan.warnings) == 3
    votes = {
        minion: dataclasses.replace(hosts[minion], voting=True) for minion in (ONE, TWO, THREE)
    }
    plan = etcd_ha_planner.plan(cluster, {**hosts, **votes}, wanted(cluster))
    assert plan.steps == () and plan.refusal


def test_files_that_were_deleted_are_had_again_by_a_replacement_one_at_a_time(cluster):
    hosts = hidden(cluster, ONE, TWO, THREE, by=DELETED, has_data=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), "replace", member="etcd2")
    assert not plan.refusal and targets(plan) == {TWO}
    assert any("do not reboot" in one for one in plan.warnings)


def test_data_below_a_mount_is_no_reason_for_a_replacement(cluster):
    hosts = hidden(cluster, TWO)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), "replace", member="etcd2")
    assert plan.steps == () and CURE in plan.refusal
    other = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), "replace", member="etcd3")
    assert targets(other) == {THREE}


@pytest.mark.parametrize("found", [MOUNT, DELETED], ids=lambda one: one["kind"])
def test_what_exchanges_all_data_waits_for_what_can_be_brought_back(cluster, found):
    hosts = hidden(cluster, TWO, by=found)
    removed = etcd_ha_planner.plan(cluster, hosts, wanted(cluster), "remove_cluster")
    looks = {minion: etcd_ha_restore.Look() for minion in (ONE, TWO, THREE)}
    restored = etcd_ha_restore.plan(cluster, hosts, wanted(cluster), looks, "salt://x.db", "now")
    for plan in (removed, restored):
        assert bool(plan.steps) is (found is DELETED), plan.refusal
        assert (CURE in plan.refusal) is (found is MOUNT)


def test_nobody_is_forced_while_the_data_of_another_is_only_hidden(cluster):
    down = {"healthy": False, "members": (), "leader": False, "active": False}
    hosts = change(change(hidden(cluster, ONE), TWO, **down), THREE, **down)
    plan = etcd_ha_recover.plan(cluster, hosts, wanted(cluster), {})
    assert plan.steps == () and CURE in plan.refusal


def test_beside_a_host_that_does_not_answer_it_is_said_too(cluster):
    hosts = hidden(cluster, TWO)
    del hosts[THREE]
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and THREE in plan.refusal
    assert any(CURE in one for one in plan.warnings)


def test_members_that_all_have_to_come_back_are_a_refusal(cluster):
    """As contradicting hosts may tell it: healthy, and without data of any worth."""
    hosts = healthy(cluster)
    for minion in (ONE, TWO, THREE):
        hosts = change(hosts, minion, corrupt="it differs")
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps == () and plan.refusal


def test_records_are_given_up_only_after_a_look_at_the_mounts(cluster):
    hosts = blank(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, record=test_planner.record(cluster, member))
    refusal = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).refusal
    mounts, records = refusal.index("findmnt"), refusal.index("remove the records")
    assert mounts < records and "Only if the data is gone for good" in refusal
