"""What the master asks of the disks before a restore or a recovery."""

import importlib.util
import pathlib

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from test_planner import healthy, wanted

RUNNER = pathlib.Path(__file__).parents[2] / "_runners" / "etcd_ha.py"
E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
KNOWN = {"path": "/var/backups/etcd_ha/one.db", "size": 99, "sha256": "ab", "verified": True}


@pytest.fixture
def runner(monkeypatch):
    spec = importlib.util.spec_from_file_location("etcd_ha_runner", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.asked, module.refreshed = [], []

    def ask(minions, function, kwarg):
        if function == "saltutil.refresh_pillar":
            assert kwarg["wait"] and not module.asked
            module.refreshed.append(sorted(minions))
            return {}
        module.asked.append((sorted(minions), function, kwarg["path"]))
        fault = {"fault": "its own hash is wrong"} if kwarg["path"] and module.broken else {}
        own = [{**KNOWN, **fault}]
        return {m: {"ret": {"free": 1 << 40, "backups": own if m == E2 else []}} for m in minions}

    module.broken = False
    monkeypatch.setattr(module, "_ask", ask)
    monkeypatch.setattr(module, "__opts__", {}, raising=False)
    return module


def plan(runner, cluster, command, **asked):
    return runner._from_data(cluster, healthy(cluster), wanted(cluster), command, asked)


@pytest.mark.parametrize("backup", ["", "one"])
def test_a_backup_that_is_known_by_its_sidecar_is_read_whole_before_it_is_taken(
    runner, cluster, backup
):
    made = plan(runner, cluster, "restore", backup=backup)
    assert not made.refusal
    assert [(minions, path) for minions, _, path in runner.asked] == [
        ([E1, E2, E3], ""),
        ([E2], KNOWN["path"]),
    ]


@pytest.mark.parametrize("command", ["restore", "recover"])
def test_members_know_the_pillar_of_now_before_functions_act_by_it(runner, cluster, command):
    plan(runner, cluster, command)
    assert runner.refreshed == [[E1, E2, E3]]


def test_and_refused_where_it_is_corrupt(runner, cluster):
    runner.broken = True
    assert "its own hash is wrong" in plan(runner, cluster, "restore", backup="one").refusal


def test_a_path_is_looked_for_on_all_at_once(runner, cluster):
    plan(runner, cluster, "restore", backup=KNOWN["path"])
    assert [(minions, path) for minions, _, path in runner.asked] == [([E1, E2, E3], KNOWN["path"])]


def test_a_member_that_cannot_tell_stops_it(runner, cluster, monkeypatch):
    monkeypatch.setattr(runner, "_ask", lambda *_, **__: {E1: {"ret": "Traceback"}})
    with pytest.raises(CommandExecutionError, match="could not tell what its disk holds"):
        plan(runner, cluster, "restore")


def test_one_lost_host_may_be_named_without_a_list(runner, cluster):
    made = plan(runner, cluster, "recover", lost="x.example.com")
    # With a quorum that is the first thing to say.
    assert "has a quorum" in made.refusal


@pytest.mark.parametrize("command", ["remove_cluster", "restore", "recover"])
def test_what_cannot_be_undone_asks_for_the_cluster_s_name(runner, monkeypatch, command):
    monkeypatch.setattr(runner, "_clusters", lambda name=None: {"main": 1})
    told = runner.steps(command=command)
    assert told["steps"] == [] and '"confirm": "main"' in told["refusals"][0]["why"]
    with pytest.raises(SaltInvocationError, match="its name is asked for"):
        runner._confirmed("main", "another", command)


@pytest.fixture
def planned(runner, cluster, monkeypatch):
    """Whose plan is made, with two of three members lost and a mirror that nobody may ask."""
    made = runner.etcd_ha_steps.Plan("main", "x")
    monkeypatch.setattr(runner, "_check_own_modules", lambda: None)
    monkeypatch.setattr(runner, "_check_peer", lambda _: None)
    monkeypatch.setattr(runner, "_clusters", lambda *_: {"main": cluster})
    monkeypatch.setattr(runner, "_record", lambda _: {})
    monkeypatch.setattr(runner, "_facts", lambda _: {E1: {"minion": E1}})
    monkeypatch.setattr(runner, "_wanted", lambda _: {"digests": {}, "policies": {}})
    monkeypatch.setattr(runner, "_from_data", lambda *_: made)
    monkeypatch.setattr(runner, "_with_workers", lambda _, made: made)
    monkeypatch.setattr(runner, "_with_release", lambda *_: pytest.fail("the mirror was asked"))
    return runner


def test_a_recovery_needs_no_mirror(planned):
    (made,) = planned._plans("main", "recover")
    assert not made.refusal
