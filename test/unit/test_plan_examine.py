"""A member that does not start: examined before anything is decided, and never judged by a log."""

import dataclasses

import etcd_ha_planner
import pytest
import test_planner
from test_planner import blank, change, wanted

E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
FAILED = "it ended by itself with exit code 2 (panic: page 3 already freed)"
STOPPED = {"active": False, "healthy": False, "leader": False, "members": ()}
FAILING = {**STOPPED, "failing": FAILED}
READABLE = {"verdict": "readable", "words": "", "index": 9, "revision": 7, "tried": False}
DAMAGED = "etcd cannot use its data: panic: page 3 already freed"


def healthy(cluster, leader="etcd1"):
    """A cluster in sync, whose list says where its members serve clients."""
    hosts = test_planner.healthy(cluster, leader)
    urls = {member.name: [cluster.client_url(member)] for member in cluster.members}
    for member in cluster.members:
        listed = hosts[member.minion].members
        told = tuple({**one, "client_urls": urls[one["name"]]} for one in listed)
        hosts = change(hosts, member.minion, members=told)
    return hosts


def planned(cluster, hosts, command="converge", **more):
    return etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command, **more)


def down(cluster, **values):
    """No member runs; each of those named is so."""
    hosts = healthy(cluster)
    for member in cluster.members:
        own = values.get(member.name, {})
        hosts = change(hosts, member.minion, **{**STOPPED, "version": "", **own})
    return hosts


def what(made):
    return [step.function.partition(".")[2] or step.action or step.kind for step in made.steps]


def test_a_member_that_was_stopped_is_started_whatever_its_log_says(cluster):
    """One corruption that was mended, log-level error, systemctl stop: its data is sound."""
    made = planned(cluster, change(healthy(cluster), E2, **STOPPED))
    assert "start it" in made.steps[1].title and made.steps[1].why == "it is not running"
    assert not any("replace" in step.title or "examine" in step.title for step in made.steps)


def test_two_that_were_stopped_are_both_started_and_recover_is_not_named(cluster):
    hosts = change(down(cluster), E1, active=True, healthy=False)
    made = planned(cluster, hosts)
    assert not made.refusal
    assert [s.targets for s in made.steps if s.action == "restart"] == [(E2, E3)]


def test_a_member_that_ended_by_itself_is_examined_and_it_is_planned_again(cluster):
    made = planned(cluster, change(healthy(cluster), E2, **FAILING))
    assert [step.kind for step in made.steps] == ["function", "again"]
    examined = made.steps[0]
    assert examined.function == "etcd_ha_member.examine" and examined.targets == (E2,)
    assert "https://192.168.200.52:2379" in examined.arguments["endpoints"]
    assert examined.arguments["cluster"] == "main"


def test_damaged_data_is_replaced_from_a_quorum(cluster):
    hosts = change(healthy(cluster), E2, **FAILING, corrupt=DAMAGED)
    made = planned(cluster, hosts)
    (join,) = [step for step in made.steps if step.action == "join"]
    assert "replace etcd2" in join.title and join.why == DAMAGED


def test_damaged_data_stays_so_after_a_reboot(cluster):
    """No start of this boot has failed, but the data is the one that was examined."""
    made = planned(cluster, change(healthy(cluster), E2, **STOPPED, corrupt=DAMAGED))
    assert any("replace etcd2" in step.title for step in made.steps)


def test_readable_data_is_started_from_for_the_cause_is_elsewhere_and_then_compared(cluster):
    hosts = change(healthy(cluster), E2, **FAILING, examined=READABLE)
    made = planned(cluster, hosts)
    assert what(made) == ["none", "restart", "compare", "none"], made.steps
    assert "etcd can read its data" in made.steps[1].why and FAILED in made.steps[1].why
    assert made.steps[2].targets == (E2,)


def test_several_are_examined_at_once(cluster):
    hosts = down(cluster, etcd1=FAILING, etcd2=FAILING, etcd3=FAILING)
    made = planned(cluster, hosts)
    assert [step.targets for step in made.steps] == [(E1, E2, E3), ()]
    assert made.steps[0].arguments["endpoints"] == ""


def test_without_a_quorum_those_that_were_stopped_come_first_if_they_are_one(cluster):
    made = planned(cluster, down(cluster, etcd3=FAILING))
    assert [s.targets for s in made.steps if s.action == "restart"] == [(E1, E2)]
    assert made.steps[-1].kind == "again"
    assert not any("examine" in step.title for step in made.steps)


def test_without_a_quorum_all_that_can_be_read_is_started_and_nothing_is_lost(cluster):
    """A faulty option had ended all three; the pillar has a good one by now."""
    of = {**FAILING, "examined": READABLE}
    made = planned(cluster, down(cluster, etcd1=of, etcd2=of, etcd3=of))
    assert [s.targets for s in made.steps if s.action == "restart"] == [(E1, E2, E3)]


def test_what_fails_again_and_again_is_refused_with_its_cause_and_not_recovered(cluster):
    of = {**FAILING, "examined": {**READABLE, "tried": True}}
    hosts = down(cluster, etcd1=of, etcd2=of, etcd3=of)
    made = planned(cluster, hosts)
    assert "etcd can read the data of" in made.refusal and FAILED in made.refusal
    assert "systemctl start etcd" in made.refusal and "recover" not in made.refusal
    hosts = {m: dataclasses.replace(host, digest="old") for m, host in hosts.items()}
    assert not planned(cluster, hosts).refusal, "with another configuration it is tried again"


def test_only_proven_damage_leads_to_a_recovery(cluster):
    of = {**FAILING, "corrupt": DAMAGED}
    made = planned(cluster, down(cluster, etcd2=of, etcd3=of))
    assert "etcd_ha.orch.recover" in made.refusal
    made = planned(cluster, down(cluster, etcd2=of, etcd3=FAILING))
    assert "recover" not in made.refusal and made.steps


# One member, on an operator's word


@pytest.mark.parametrize("member", ["etcd2", E2])
@pytest.mark.parametrize("state", [{}, STOPPED, FAILING, {**STOPPED, "has_data": False}])
def test_a_member_is_rebuilt_from_a_quorum_sound_or_not(cluster, member, state):
    made = planned(cluster, change(healthy(cluster), E2, **state), "replace", member=member)
    assert what(made) == ["none", "mark_for_replacement", "join", "none"], made.refusal
    assert all(step.targets == (E2,) for step in made.steps[:3])
    join = made.steps[2]
    assert "replace etcd2" in join.title and E2 not in join.endpoints
    assert "192.168.200.62" not in join.endpoints


def test_a_leader_that_is_rebuilt_hands_leadership_over_first(cluster):
    made = planned(cluster, healthy(cluster, leader="etcd2"), "replace", member="etcd2")
    assert "move leadership to etcd1, stop it" in made.steps[1].title


@pytest.mark.parametrize("state", [STOPPED, {"healthy": False}])
def test_without_a_quorum_of_the_others_it_stays(cluster, state):
    made = planned(cluster, change(healthy(cluster), E3, **state), "replace", member="etcd2")
    assert made.steps == () and "2 of 3 are needed for a quorum without it" in made.refusal


def test_two_members_have_none_to_spare(cluster, pillar, defaults):
    import etcd_ha_topology

    del pillar["clusters"]["main"]["members"][E3]
    two = etcd_ha_topology.read(pillar, defaults)["main"]
    made = planned(two, healthy(two), "replace", member="etcd2")
    assert "1 of the other members are healthy, and 2 of 2" in made.refusal


@pytest.mark.parametrize("command", ["replace", "restart"])
def test_a_member_that_there_is_not_is_named_with_those_that_there_are(cluster, command):
    made = planned(cluster, healthy(cluster), command, member="etcd9")
    assert "etcd9 is no member of main" in made.refusal and "etcd1, etcd2, etcd3" in made.refusal


def test_nobody_is_rebuilt_unasked_or_without_a_cluster(cluster):
    assert "no member is named" in planned(cluster, healthy(cluster), "replace").refusal
    assert "has no quorum" in planned(cluster, down(cluster), "replace", member="etcd2").refusal
    assert planned(cluster, blank(cluster), "replace", member="etcd2").refusal


def test_one_member_alone_is_restarted(cluster):
    made = planned(cluster, healthy(cluster), "restart", now=99, member="etcd1")
    assert [s.targets for s in made.steps if s.restart_before] == [(E1,)]
    assert "move leadership to" in made.steps[0].title
    every = planned(cluster, healthy(cluster), "restart", now=99).steps
    assert sorted(s.targets for s in every if s.restart_before) == [(E1,), (E2,), (E3,)]


def test_what_is_readable_and_fails_again_names_the_way_out(cluster):
    """Data that etcd reads alone, and that ends it beside a leader which remembers more."""
    tried = {**READABLE, "tried": True}
    first = planned(cluster, change(healthy(cluster), E2, **FAILING, examined=READABLE))
    again = planned(cluster, change(healthy(cluster), E2, **FAILING, examined=tried))
    (before,) = [step.why for step in first.steps if step.action == "restart"]
    (now,) = [step.why for step in again.steps if step.action == "restart"]
    assert "another reason" in before and "orch.replace" not in before
    assert f"""etcd_ha.orch.replace pillar='{{"confirm": "main", "member": "{E2}"}}'""" in now
