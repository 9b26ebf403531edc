"""What is asked for once: a name for what cannot be undone, and no command that nobody knows."""

import etcd_ha_minions
import etcd_ha_planner
import etcd_ha_steps
import pytest
from etcd_ha_master import Master
from faces import load
from salt.exceptions import SaltInvocationError

MASTER = Master({}, {})


@pytest.fixture
def runner(monkeypatch):
    found = {"main": 1, "other": 2}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: (found, {}))
    monkeypatch.setattr(etcd_ha_minions, "refresh", lambda *_: None)
    monkeypatch.setattr(etcd_ha_minions, "accepted", lambda *_: [])
    return load("_runners/etcd_ha")


@pytest.mark.parametrize(
    ("cluster", "confirm", "found"),
    [(None, "main", "main"), ("main", "main", "main"), (None, "other", "other")],
)
def test_a_cluster_is_removed_by_its_name(runner, cluster, confirm, found):
    assert runner._confirmed(MASTER, cluster, confirm) == found


@pytest.mark.parametrize(
    ("cluster", "confirm"), [(None, None), ("main", None), ("main", "other"), (None, "third")]
)
def test_and_by_nothing_else(runner, cluster, confirm):
    with pytest.raises(SaltInvocationError, match="its name is asked for"):
        runner._confirmed(MASTER, cluster, confirm)


def test_the_error_is_the_command_to_give(runner):
    with pytest.raises(SaltInvocationError, match=r"pillar=.*confirm.*main"):
        runner._confirmed(MASTER, "main", None)


def test_an_unknown_command_is_told_with_those_that_are_known(runner):
    with pytest.raises(SaltInvocationError) as told:
        runner._plans(MASTER, None, "reboot", {})
    assert all(known in str(told.value) for known in etcd_ha_planner.COMMANDS)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("steps", [1, 0])
def test_a_cluster_that_is_removed_is_not_remembered(runner, cluster, monkeypatch, recorded, steps):
    """Also where the master had no record of it, or nothing is left to do: it would begin anew."""
    step = etcd_ha_steps.Step("main: stop etcd1 for good", "function", ("etcd1.example.com",))
    made = etcd_ha_steps.Plan("main", "x", (step,) * steps, nothing="nothing is left")
    monkeypatch.setattr(runner, "_plans", lambda *_: [made])
    monkeypatch.setattr(
        Master, "clusters_and_faults", lambda self, name=None: ({"main": cluster}, {})
    )
    monkeypatch.setattr(Master, "source_digest", lambda self: "hash")
    record = {"cluster": "main", "members": {"old": {}}} if recorded else {}
    monkeypatch.setattr(Master, "record", lambda self, cluster: record)
    found = runner.steps(command="remove_cluster", confirm="main")
    assert [row["kind"] for row in found["steps"]] == ["function"] * steps


@pytest.mark.parametrize(("command", "remembers"), [("restart", True), ("defrag", False)])
def test_who_is_a_member_is_not_remembered_by_an_upkeep(
    runner, cluster, monkeypatch, command, remembers
):
    """The pillar may have other members by then, which have not joined."""
    step = etcd_ha_steps.Step("main: one step", "function", ("etcd1.example.com",))
    made = etcd_ha_steps.Plan("main", "3 members", (step,))
    monkeypatch.setattr(runner, "_plans", lambda *_: [made])
    found = {"main": cluster}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: (found, {}))
    monkeypatch.setattr(Master, "source_digest", lambda self: "hash")
    record = {"cluster": "main", "members": {"old": {}}}
    monkeypatch.setattr(Master, "record", lambda self, cluster: record)
    kinds = [row["kind"] for row in runner.steps(command=command)["steps"]]
    assert ("remember" in kinds) is remembers and "function" in kinds


def test_who_left_while_silent_is_remembered_as_long_as_it_may_come_back(
    runner, cluster, monkeypatch
):
    monkeypatch.setattr(
        etcd_ha_minions, "accepted", lambda _, wanted: [m for m in wanted if m != "c"]
    )
    members = {minion: {} for minion in ("etcd1.example.com", "a", "b", "c")}
    record = {"members": members, "balancers": ["d"]}
    facts = {"etcd1.example.com": {}, "a": {}}
    assert runner._unseen(None, cluster, record, facts) == ["b", "d"]


@pytest.mark.parametrize("known", ["now", "before", ""])
def test_who_runs_a_function_knows_the_pillar_of_the_plan(runner, monkeypatch, known):
    etcd1, etcd2, gone = "etcd1.example.com", "etcd2.example.com", "gone.example.com"
    master = Master({}, {"etcd_ha_settings": {etcd1: "now", etcd2: "now"}})
    steps = [
        etcd_ha_steps.Step("one", "function", (etcd1, gone)),
        etcd_ha_steps.Step("two", "state", (etcd2,)),
    ]
    plans = [etcd_ha_steps.Plan("main", "x", tuple(steps))]
    plans.append(etcd_ha_steps.Plan("other", "x", (steps[0],), refusal="no"))
    asked, refreshed = [], []

    def ask(master, minions, function):
        asked.append((minions, function))
        return {minion: {"ret": known} for minion in minions if known}

    monkeypatch.setattr(etcd_ha_minions, "ask", ask)
    monkeypatch.setattr(etcd_ha_minions, "refresh", lambda _, minions: refreshed.append(minions))
    runner._inform(master, plans)
    assert asked == [([etcd1], "etcd_ha.wanted_digest")]
    # What whoever leaves should know is in no plan.
    assert refreshed == ([[gone]] if known == "now" else [[etcd1, gone]])
    runner._inform(master, [etcd_ha_steps.Plan("main", "x", (steps[1],))])
    assert len(asked) == 1


@pytest.fixture
def planned(runner, cluster, monkeypatch):
    """The answer of ``steps`` for plans that are given."""
    found = {"main": cluster, "other": cluster}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: (found, {}))
    monkeypatch.setattr(Master, "source_digest", lambda self: "hash")

    def told(*plans):
        monkeypatch.setattr(runner, "_plans", lambda *_: list(plans))
        return runner.steps(command="defrag")

    return told


def test_a_cluster_with_nothing_to_do_says_so_beside_one_that_has(planned):
    step = etcd_ha_steps.Step("main: one step", "function", ("etcd1.example.com",))
    made = etcd_ha_steps.Plan("main", "x", (step,), nothing="not told")
    told = planned(made, etcd_ha_steps.Plan("other", "x", nothing="nothing to defragment: small"))
    assert [row["id"] for row in told["steps"]] == ["main: one step"]
    assert told["idle"] == [{"id": "other: nothing is done", "why": "nothing to defragment: small"}]


def test_a_refusal_stops_its_own_cluster_alone(planned):
    refused = etcd_ha_steps.Plan("main", "x", refusal="no quorum")
    told = planned(refused, etcd_ha_steps.Plan("other", "x", nothing="nothing to defragment"))
    assert [one["id"] for one in told["idle"]] == ["other: nothing is done"]
    assert told["steps"] == [] and len(told["refusals"]) == 1 and told["ends"] == []
