"""What the master asks of the disks before a restore or a recovery."""

import dataclasses

import etcd_ha_host
import etcd_ha_minions
import etcd_ha_peers
import etcd_ha_steps
import etcd_ha_workers
import pytest
from etcd_ha_master import Master
from faces import load
from salt.exceptions import CommandExecutionError, SaltInvocationError
from test_planner import healthy, wanted

E1, E2, E3 = (f"etcd{number}.example.com" for number in (1, 2, 3))
MASTER = Master({}, {})
FACTS = {m: {"os_file": "etcd_ha/os/Debian.yaml", "arch": "amd64"} for m in (E1, E2, E3)}
KNOWN = {"path": "/var/backups/etcd_ha/one.db", "size": 99, "sha256": "ab", "verified": True}


@pytest.fixture
def runner(monkeypatch, cluster):
    module = load("_runners/etcd_ha", opts={})
    monkeypatch.setattr(Master, "clusters_on", lambda self, os_file: {"main": cluster})

    def known(minion):
        # A pillar of before has other settings.
        has = cluster
        if minion in module.unaware:
            has = dataclasses.replace(cluster, version="3.5.33")
        return etcd_ha_host.pillar_digest(minion, [has], "amd64")

    module.known = known
    module.asked, module.refreshed, module.unaware = [], [], ()

    def ask(master, minions, function, kwarg):
        if function == "saltutil.refresh_pillar":
            assert kwarg["wait"]
            module.refreshed += [sorted(minions)] if minions else []
            return {}
        module.asked.append((sorted(minions), function, kwarg["path"]))
        fault = {"fault": "its own hash is wrong"} if kwarg["path"] and module.broken else {}
        own = [{**KNOWN, **fault}]
        told = {m: {"free": 1 << 40, "backups": own if m == E2 else []} for m in minions}
        return {m: {"ret": one | {"wanted": module.known(m)}} for m, one in told.items()}

    module.broken = False
    monkeypatch.setattr(etcd_ha_minions, "ask", ask)
    return module


def plan(runner, cluster, command, **asked):
    known = (healthy(cluster), wanted(cluster))
    return runner._from_data(MASTER, cluster, FACTS, *known, command, asked)


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
@pytest.mark.parametrize("unaware", [[], [E2], [E1, E2, E3]])
def test_members_know_the_pillar_of_now_before_functions_act_by_it(
    runner, cluster, command, unaware
):
    runner.unaware = unaware
    plan(runner, cluster, command)
    assert runner.refreshed == ([unaware] if unaware else [])


def test_members_that_cannot_be_what_the_pillar_wants_are_no_less_told_of_it(runner, cluster):
    odd = {minion: {**one, "arch": "mips"} for minion, one in FACTS.items()}
    runner._from_data(MASTER, cluster, odd, healthy(cluster), wanted(cluster), "recover", {})
    assert runner.refreshed == [[E1, E2, E3]]


def test_and_refused_where_it_is_corrupt(runner, cluster):
    runner.broken = True
    assert "its own hash is wrong" in plan(runner, cluster, "restore", backup="one").refusal


def test_a_path_is_looked_for_on_all_at_once(runner, cluster):
    plan(runner, cluster, "restore", backup=KNOWN["path"])
    assert [(minions, path) for minions, _, path in runner.asked] == [([E1, E2, E3], KNOWN["path"])]


def test_a_member_that_cannot_tell_stops_it(runner, cluster, monkeypatch):
    monkeypatch.setattr(etcd_ha_minions, "ask", lambda *_, **__: {E1: {"ret": "Traceback"}})
    with pytest.raises(CommandExecutionError, match="could not tell what its disk holds"):
        plan(runner, cluster, "restore")


def test_one_lost_host_may_be_named_without_a_list(runner, cluster):
    made = plan(runner, cluster, "recover", lost="x.example.com")
    # With a quorum that is the first thing to say.
    assert "has a quorum" in made.refusal


@pytest.mark.parametrize("command", ["remove_cluster", "restore", "recover"])
def test_what_cannot_be_undone_asks_for_the_cluster_s_name(runner, monkeypatch, command):
    found = {"main": 1}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: (found, {}))
    told = runner.steps(command=command)
    assert told["steps"] == [] and '"confirm": "main"' in told["refusals"][0]["why"]
    with pytest.raises(SaltInvocationError, match="its name is asked for"):
        runner._confirmed(MASTER, "main", "another", command)


@pytest.fixture
def planned(runner, cluster, monkeypatch):
    """Whose plan is made, with two of three members lost and a mirror that nobody may ask."""
    made = etcd_ha_steps.Plan("main", "x")
    monkeypatch.setattr(Master, "check_own_modules", lambda self: None)
    monkeypatch.setattr(etcd_ha_peers, "refusal", lambda *_: "")
    monkeypatch.setattr(Master, "clusters_and_faults", lambda *_: ({"main": cluster}, {}))
    monkeypatch.setattr(Master, "record", lambda *_: {})
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: {E1: {"minion": E1}})
    known = {"digests": {}, "policies": {}, "settings": {}}
    monkeypatch.setattr(runner, "_wanted", lambda *_: (known, {}))
    monkeypatch.setattr(runner, "_from_data", lambda *_: made)
    monkeypatch.setattr(etcd_ha_workers, "checked", lambda _, made, *__: made)
    monkeypatch.setattr(runner, "_with_release", lambda *_: pytest.fail("the mirror was asked"))
    return runner


def test_a_recovery_needs_no_mirror(planned):
    (made,) = planned._plans(MASTER, "main", "recover", {})
    assert not made.refusal
