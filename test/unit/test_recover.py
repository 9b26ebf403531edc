"""A lost quorum: when there is none, from whom the cluster goes on, and what is said to be lost."""

import dataclasses

import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_rows
import pytest
from etcd_ha_steps import Refused
from etcd_ha_survivor import Evidence
from test_planner import blank, change, healthy, wanted

E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
FREE = 10 << 30
OURS = {"has_data": True, "kept": 100, "commit": 100, "last": 100, "term": 2, "cluster_id": "c1"}


def disk(free=FREE, recovery=None, **evidence):
    return {"free": free, "recovery": recovery or {}, "evidence": {**OURS, **evidence}}


EMPTY = {"free": FREE, "recovery": {}, "evidence": {"has_data": False}}


def down(cluster, *lost):
    """No quorum: these lost their data, the others run and wait."""
    hosts = healthy(cluster)
    for member in cluster.members:
        gone = member.minion in lost
        hosts = change(
            hosts, member.minion, healthy=False, leader=False, has_data=not gone, active=not gone
        )
    return hosts


def plan(cluster, hosts, found, lost=(), survivor="", known=None):
    known = known or wanted(cluster)
    return etcd_ha_recover.plan(cluster, hosts, known, found, lost, survivor)


def calls(made):
    return [step.function.partition(".")[2] or step.action for step in made.steps]


def test_the_survivor_is_forced_and_the_others_join_it(cluster):
    made = plan(cluster, down(cluster, E2, E3), {E1: disk(), E2: EMPTY, E3: EMPTY})
    assert not made.refusal
    assert calls(made) == ["stop", "force", "join", "join", "none"]
    assert made.steps[0].targets == (E2, E3) and made.steps[1].targets == (E1,)
    assert {step.endpoints for step in made.steps[2:4]} == {"https://192.168.200.52:2379"}


def test_a_balancer_that_lacks_its_configuration_gets_it_before_it_is_verified(cluster):
    hosts = change(down(cluster, E2, E3), "lb.example.com", digest="")
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY, E3: EMPTY})
    titles = [step.title for step in made.steps]
    assert "prepare lb" in titles[0] and "configure the balancer lb" in titles[-2], titles
    assert "verify" in titles[-1]


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [
        ({"kept": 100}, {"kept": 101}, E2),
        # What is in a log, but not known to be committed, is dropped by a forced start.
        ({"kept": 101, "last": 101}, {"kept": 100, "last": 150, "term": 3}, E1),
        ({"term": 2}, {"term": 3}, E2),
        ({"last": 103}, {"last": 102}, E1),
    ],
)
def test_the_newest_data_is_what_a_forced_start_keeps(cluster, first, second, newest):
    proofs = {E1: Evidence.of({**OURS, **first}), E2: Evidence.of({**OURS, **second})}
    assert etcd_ha_recover.newest(cluster, proofs) == newest


def test_broken_data_is_no_survivor(cluster):
    proofs = {
        E1: Evidence.of({"has_data": True, "fault": "panic: page 3", "judged": "damaged"}),
        E2: Evidence.of({**OURS, "kept": 1}),
    }
    assert etcd_ha_recover.newest(cluster, proofs) == E2


@pytest.mark.parametrize("other", [{**OURS, "kept": 1}, {"has_data": False}])
def test_data_that_our_readers_alone_call_broken_is_not_passed_over(cluster, other):
    """It may be the newest, and etcd may well read it."""
    doubtful = {"has_data": True, "fault": "no database"}
    proofs = {E1: Evidence.of(doubtful), E2: Evidence.of(other)}
    with pytest.raises(Refused, match="is for etcd to say") as why:
        etcd_ha_recover.newest(cluster, proofs)
    assert f"salt -L '{E1}' etcd_ha_member.examine main" in str(why.value)
    if other["has_data"]:
        assert etcd_ha_recover.newest(cluster, proofs, survivor=E2) == E2


def test_the_plan_shows_the_evidence_and_what_may_be_lost(cluster):
    found = {E1: disk(kept=98, last=100), E2: EMPTY, E3: EMPTY}
    notes = "\n".join(plan(cluster, down(cluster, E2, E3), found).warnings)
    assert "KEEPS UP TO" in notes and "98" in notes
    assert "entries 99 to 100" in notes and "dropped" in notes
    assert "etcd2, etcd3 may have held entries after 98" in notes


def test_a_cluster_with_a_quorum_is_left_to_the_orchestrate(cluster):
    made = plan(cluster, healthy(cluster), dict.fromkeys((E1, E2, E3), disk()))
    assert "has a quorum" in made.refusal and "etcd_ha.orch" in made.refusal


def test_members_that_only_have_to_be_started_are_left_to_it_too(cluster):
    hosts = down(cluster, E3)
    hosts = change(hosts, E1, active=False)
    made = plan(cluster, hosts, {E1: disk(), E2: disk(), E3: EMPTY})
    assert "are a quorum once they run" in made.refusal and "etcd_ha.orch" in made.refusal


def test_and_members_that_do_not_find_each_other_are_not_forced(cluster):
    made = plan(cluster, down(cluster, E3), {E1: disk(), E2: disk(), E3: EMPTY})
    assert "do not find each other" in made.refusal and "journalctl" in made.refusal


def test_corrupt_members_are_no_quorum(cluster):
    hosts = change(change(down(cluster), E2, corrupt="crc mismatch"), E3, corrupt="crc mismatch")
    made = plan(cluster, hosts, {E1: disk(), E2: disk(kept=5), E3: disk(kept=5)})
    assert not made.refusal and made.steps[1].targets == (E1,)


def test_a_silent_member_may_be_alive(cluster):
    hosts = {m: host for m, host in down(cluster, E2).items() if m != E3}
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY})
    assert f"{E3} did not answer" in made.refusal and f'"lost": ["{E3}"]' in made.refusal


def test_unless_somebody_says_that_it_is_lost(cluster):
    hosts = {m: host for m, host in down(cluster, E2).items() if m != E3}
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY}, lost=[E3])
    assert calls(made) == ["stop", "force", "join", "none"]
    assert any(E3 in note and "stays out" in note for note in made.warnings)


def test_one_that_answers_is_not_lost(cluster):
    made = plan(cluster, down(cluster, E2, E3), {E1: disk(), E2: EMPTY, E3: EMPTY}, lost=[E3])
    assert "but answers" in made.refusal


def test_a_stranger_cannot_be_lost(cluster):
    made = plan(cluster, down(cluster, E2, E3), {E1: disk()}, lost=["x.example.com"])
    assert "is no member of main" in made.refusal


def test_without_any_data_a_backup_is_the_way(cluster):
    hosts = down(cluster, E1, E2, E3)
    made = plan(cluster, hosts, dict.fromkeys((E1, E2, E3), EMPTY))
    assert "etcd_ha.orch.restore" in made.refusal


def test_data_of_different_clusters_needs_a_word_of_people(cluster):
    found = {E1: disk(), E2: disk(cluster_id="c2"), E3: EMPTY}
    hosts = change(down(cluster, E3), E2, corrupt="x")
    assert "different clusters" in plan(cluster, hosts, found).refusal
    assert plan(cluster, hosts, found, survivor=E2).steps[1].targets == (E2,)


def test_a_survivor_by_name_must_hold_data(cluster):
    made = plan(cluster, down(cluster, E2, E3), {E1: disk(), E2: EMPTY, E3: EMPTY}, survivor=E2)
    assert f"{E2} holds no data" in made.refusal


def test_the_copy_needs_room(cluster):
    found = {E1: disk(free=1 << 20, size=1 << 30), E2: EMPTY, E3: EMPTY}
    assert "no room for a copy" in plan(cluster, down(cluster, E2, E3), found).refusal


def test_a_data_directory_on_a_host_that_never_saw_the_formula(cluster):
    """Its host is configured first; nothing starts by that."""
    hosts = change(blank(cluster), E1, has_data=True)
    known = wanted(cluster, recorded=False)
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY, E3: EMPTY}, known=known)
    assert calls(made)[:4] == ["none", "hold", "stop", "force"]


def test_what_was_begun_on_a_survivor_goes_on_there(cluster):
    """By then its data may be on its way: the evidence does not decide once more."""
    hosts = change(down(cluster, E2, E3), E1, restoring="recover")
    begun = {**EMPTY, "recovery": {"phase": "copied"}}
    made = plan(cluster, hosts, {E1: begun, E2: disk(), E3: EMPTY})
    assert made.steps[1].targets == (E1,)
    other = plan(cluster, hosts, {E1: begun, E2: disk(), E3: EMPTY}, survivor=E2)
    assert f"has begun on {E1}, so it does not go on from {E2}" in other.refusal


def test_a_restore_that_was_begun_comes_first(cluster):
    hosts = change(down(cluster, E2, E3), E2, restoring="restore")
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY, E3: EMPTY})
    assert "etcd_ha.orch.restore" in made.refusal


def test_a_lost_ca_does_not_keep_the_data_from_coming_back(cluster):
    hosts = {m: h for m, h in down(cluster, E2, E3).items() if m != "ca.example.com"}
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY, E3: EMPTY})
    assert "force" in calls(made)


def test_the_planner_s_refusals_name_the_commands(cluster):
    hosts = down(cluster, E2, E3)
    refusal = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).refusal
    assert "etcd_ha.orch.recover" in refusal and "etcd_ha.orch.restore" in refusal
    gone = {m: dataclasses.replace(h, has_data=False) for m, h in down(cluster, E1, E2, E3).items()}
    assert "etcd_ha.orch.restore" in etcd_ha_planner.plan(cluster, gone, wanted(cluster)).refusal


def test_it_is_verified_without_who_is_lost_and_without_a_silent_helper(cluster):
    hosts = down(cluster, E2, E3)
    for minion in (E3, "ca.example.com"):
        del hosts[minion]
    made = plan(cluster, hosts, {E1: disk(), E2: EMPTY}, lost=[E3])
    assert not made.refusal
    verify = made.steps[-1]
    assert verify.targets == (E1,) and E3 in verify.arguments["silent"]
    (row,) = etcd_ha_rows.rows(cluster, [verify], "s")
    assert row["arguments"]["minions"] == [E1, E2]
    # The CA cannot be asked: who joins does so with the certificates that it has.
    (join,) = [step for step in made.steps if step.action == "join"]
    assert join.stage["trust"] == "held"
