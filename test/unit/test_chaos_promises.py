"""What the campaign saw of the formula's steps is judged by the planner's promises."""

import json
import pathlib
import sys
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from chaos import observed
from chaos.checkers.promises import Deed, Sample, Trouble, check

ALL = frozenset(("etcd1", "etcd2", "etcd3"))


def seen(*healthy, at=range(20), voters=ALL, clusters=("a",)):
    return [Sample(float(n), voters, frozenset(healthy), frozenset(clusters)) for n in at]


def rules(samples, deeds, troubles=(), cuts=()):
    return [one.rule for one in check(samples, deeds, troubles, cuts).violations]


def test_a_rolling_restart_of_healthy_members_is_right():
    deeds = [Deed(5, 6, "restart", "etcd1"), Deed(7, 8, "restart", "etcd2")]
    found = check(seen(*ALL), deeds)
    assert (found.violations, found.judged, found.unjudged) == ([], 2, 0)


@pytest.mark.parametrize("kind", ["restart", "remove"])
def test_a_step_that_costs_the_quorum_is_found(kind):
    healthy = ("etcd1", "etcd2") if kind == "restart" else ("etcd1",)
    assert rules(seen(*healthy), [Deed(10, 11, kind, "etcd1")]) == ["a step costs the quorum"]


@pytest.mark.parametrize("kind", ["restart", "remove"])
def test_the_same_step_on_who_is_down_costs_nothing(kind):
    assert rules(seen("etcd1", "etcd2"), [Deed(10, 11, kind, "etcd3")]) == []


def test_a_replacement_without_a_quorum_of_the_others_gives_up_the_last_copy():
    assert rules(seen("etcd2"), [Deed(10, 11, "join", "etcd3")]) == ["a step costs the quorum"]


def test_one_good_moment_before_the_step_is_enough():
    samples = [*seen("etcd1", "etcd2", at=range(8)), *seen(*ALL, at=(9,))]
    assert rules(samples, [Deed(10, 11, "restart", "etcd1")]) == []


def test_a_good_moment_before_its_effect_is_enough_and_one_after_it_is_none():
    """The gate looks when the step comes to it, which is some time after its job has begun."""
    before = seen("etcd1", "etcd2", at=range(12))
    gate = seen(*ALL, at=(12,))
    deed = Deed(10, 15, "restart", "etcd1")
    after = seen("etcd2", "etcd3", at=(13, 14))
    assert rules([*before, *gate, *after], [deed]) == []
    assert rules([*before, *after], [deed]) == ["a step costs the quorum"]
    lonely = seen("etcd1", at=range(13))
    out = seen("etcd1", at=(13, 14), voters=ALL - {"etcd2"})
    removal = Deed(10, 15, "remove", "etcd2")
    assert rules([*lonely, *out], [removal]) == ["a step costs the quorum"]


def test_a_step_of_unknown_effect_is_judged_where_no_fault_was_near():
    samples = seen("etcd1", "etcd2")
    deed = Deed(10, None, "restart", "etcd1", changed=None)
    assert rules(samples, [deed]) == ["a step costs the quorum"]
    found = check(samples, [deed], [Trouble(1, 30, "etcd3")])
    assert (found.violations, found.unjudged) == ([], 1)


def test_returns_that_waited_for_the_master_are_no_overlap():
    two = [Deed(5, 9, "restart", "etcd1", job="1"), Deed(7, 10, "restart", "etcd2", job="2")]
    assert rules(seen(*ALL), two, [Trouble(5.5, 6.5, "master")]) == []


def test_a_step_is_not_judged_where_a_fault_came_just_before_it():
    samples = seen("etcd1", "etcd2")
    deed, fault = Deed(10, 11, "restart", "etcd1"), Trouble(8, 15, "etcd3")
    found = check(samples, [deed], [fault])
    assert (found.violations, found.unjudged) == ([], 1)
    # One of long before was there to be seen.
    assert rules(samples, [deed], [Trouble(2, 15, "etcd3")]) == ["a step costs the quorum"]


def test_a_refused_step_did_nothing():
    deed = Deed(10, 11, "restart", "etcd1", changed=False)
    assert rules(seen("etcd1", "etcd2"), [deed]) == []


def test_two_members_at_once_are_found_and_one_job_on_two_is_one_step():
    two = [Deed(5, 9, "restart", "etcd1", job="1"), Deed(7, 10, "restart", "etcd2", job="2")]
    assert rules(seen(*ALL), two) == ["two members at once"]
    one = [Deed(5, 9, "restart", name, job="1") for name in ("etcd1", "etcd2")]
    assert rules(seen(), one) == []


def test_a_voter_is_never_stopped_for_good():
    deed = Deed(10, 11, "retire", "etcd3")
    assert rules(seen(*ALL), [deed]) == ["a voter is stopped for good"]
    assert rules(seen("etcd1", "etcd2", voters=ALL - {"etcd3"}), [deed]) == []


def test_a_second_bootstrap_is_found_and_one_after_a_restore_onto_new_hosts_is_not():
    samples = [*seen(*ALL, at=range(5)), *seen(at=range(5, 30))]
    deed = Deed(15, 16, "bootstrap", "etcd1")
    assert rules(samples, [deed]) == ["a second bootstrap"]
    assert rules(samples, [deed], cuts=[10]) == []


def test_another_cluster_id_is_found_unless_a_restore_was_asked_for():
    samples = [*seen(*ALL, at=range(5)), *seen(*ALL, at=range(5, 9), clusters=("b",))]
    assert rules(samples, []) == ["another cluster"]
    assert rules(samples, [], cuts=[4]) == []
    back = [*samples, *seen(*ALL, at=range(9, 12), clusters=("a",))]
    assert rules(back, [], cuts=[4]) == ["another cluster"]


# From lines to what is judged


def returned(function, answer, code=0):
    listener = load_listener()
    return listener.changed({"fun": function, "return": answer, "retcode": code})


def load_listener():
    """Without Salt: the master's own is not needed to read a return."""
    source = pathlib.Path(observed.__file__).with_name("listener.py").read_text()
    lines = [line for line in source.splitlines() if not line.startswith("import salt")]
    module = types.ModuleType("listener")
    exec("\n".join(lines), module.__dict__)
    return module


def state(changes, result=True, comment=""):
    name = "etcd_ha_|-etcd runs_|-etcd_|-running"
    return {name: {"changes": changes, "result": result, "comment": comment}, "file_|-x": {}}


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        (state({}), False),
        (state({"enabled": {}}), False),
        (state({"unit": {}}), True),
        (state({"options": {}}, False, "etcd was not restarted: etcd3 is down"), False),
        (state({"options": {}}, False, "etcd did not become healthy"), None),
        ({"file_|-x": {}}, False),
        ("The minion function caused an exception", None),
    ],
)
def test_a_return_tells_whether_a_member_was_touched(answer, changed):
    assert returned("state.sls", answer) is changed


def test_a_function_that_failed_does_not_tell():
    assert returned("etcd_ha_member.remove", True) is True
    assert returned("etcd_ha_member.remove", "ERROR: no quorum", 1) is None


def line(**row):
    return json.dumps(row)


def sample(at, host, healthy=True, leader=False, cluster="a", members=ALL):
    listed = [{"name": name, "learner": name == "etcd4"} for name in sorted(members)]
    row = {"at": at, "host": host, "healthy": healthy, "leader": leader, "cluster": cluster}
    return line(**row, members=listed if healthy else [])


def test_samples_know_who_is_healthy_by_what_was_told_last():
    lines = [
        sample(1.0, "etcd1", leader=True),
        sample(1.1, "etcd2", members={*ALL, "etcd4"}),
        sample(2.0, "etcd2", healthy=False),
        sample(9.0, "etcd3", healthy=False),
        '{"at": 9.1, "ho',
    ]
    found = observed.samples(lines)
    assert [sorted(one.healthy) for one in found] == [["etcd1"], ["etcd1", "etcd2"], ["etcd1"], []]
    # A learner has no vote; where nobody tells, the voters are those of before.
    assert [one.voters for one in found] == [ALL] * 4
    assert observed.leader(lines) == "etcd1"


def test_deeds_are_read_from_the_bus():
    job = {"what": "job", "fun": "state.sls", "hosts": ["etcd2"], "member": ""}
    lines = [
        line(at=1, jid="1", action="restart", **job),
        line(at=2, what="return", jid="1", host="etcd2", changed=False),
        line(at=3, jid="2", action="none", **job),
        line(at=4, jid="3", action="join", **job),
        line(at=5, what="job", jid="4", fun="etcd_ha_member.remove", hosts=["etcd1"], action="",
             member="etcd3"),
        line(at=6, what="return", jid="4", host="etcd1", changed=True),
        line(at=7, what="job", jid="5", fun="etcd_ha.facts", hosts=["etcd1"], action="", member=""),
    ]  # fmt: skip
    assert observed.deeds(lines) == [
        Deed(1, 2, "restart", "etcd2", False, "1"),
        Deed(4, None, "join", "etcd2", None, "3"),
        Deed(5, 6, "remove", "etcd3", True, "4"),
    ]
