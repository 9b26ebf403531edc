"""An etcd that somebody else set up: every plan is refused; and lost records are written again."""

import dataclasses

import etcd_ha_host_etcds
import etcd_ha_planner
import etcd_ha_recover
import etcd_ha_restore
import pytest
import test_planner
from etcd_ha_observed import Observed

COMMANDS = (*etcd_ha_planner.COMMANDS, "restore", "recover")


def process(**values):
    given = {"kind": "process", "pid": 41, "program": "/usr/local/bin/etcd", "user": "root"}
    given |= {"unit": "etcd.service", "data_dir": "/data/etcd", "ports": [2379, 2380]}
    given |= {"holds_data": True, "cluster_id": "f1", "member_id": "f2"}
    return etcd_ha_host_etcds.row(**{**given, **values})


def ours(cluster, member):
    return process(
        data_dir="/var/lib/etcd", cluster_id="c1", member_id=member.name, by_formula=True
    )


def running(cluster):
    hosts = test_planner.healthy(cluster)
    for member in cluster.members:
        hosts = test_planner.change(hosts, member.minion, etcds=(ours(cluster, member),))
    return hosts


def planned(cluster, hosts, wanted, command="converge"):
    if command == "restore":
        looks = {m: etcd_ha_restore.Look(1 << 40) for m in hosts}
        return etcd_ha_restore.plan(cluster, hosts, wanted, looks)
    if command == "recover":
        return etcd_ha_recover.plan(cluster, hosts, wanted, {})
    return etcd_ha_planner.plan(cluster, hosts, wanted, command)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("start", [test_planner.blank, running], ids=["blank", "running"])
@pytest.mark.parametrize(
    "values",
    [{}, {"pid": 0, "kind": "unit"}, {"pid": 0, "kind": "data", "data_dir": "/var/lib/etcd"}],
)
def test_a_foreign_etcd_refuses_every_plan(cluster, command, start, values):
    hosts = start(cluster)
    first = cluster.members[0].minion
    hosts = test_planner.change(hosts, first, etcds=(process(**values),))
    known = test_planner.wanted(cluster, recorded=start is running)
    made = planned(cluster, hosts, known, command)
    assert made.steps == ()
    for word in (first, "did not set up", "Nothing was changed", "etcd_ha.orch.adopt"):
        assert word in made.refusal


def test_all_hosts_are_told_at_once(cluster):
    hosts = {
        m: dataclasses.replace(h, etcds=(process(),))
        for m, h in test_planner.blank(cluster).items()
    }
    made = planned(cluster, hosts, test_planner.wanted(cluster, recorded=False))
    assert all(member.minion in made.refusal for member in cluster.members)


def test_an_etcd_beside_it_is_noted(cluster):
    other = process(unit="o.service", data_dir="/o", ports=[1], program="/o/etcd", user="o")
    hosts = running(cluster)
    one = cluster.members[0]
    hosts = test_planner.change(hosts, one.minion, etcds=(ours(cluster, one), other))
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert (made.refusal, made.steps) == ("", ())
    assert any("left alone" in note and "/o/etcd" in note for note in made.warnings)


def test_a_unit_that_races_for_the_ports_at_boot(cluster):
    """Refused before a bootstrap; noted with the command where the member runs."""
    given = {"kind": "unit", "pid": 0, "holds_data": False, "enabled": True, "cluster_id": ""}
    other = process(unit="etcd-old.service", member_id="", **given)
    one = cluster.members[0]
    hosts = test_planner.change(running(cluster), one.minion, etcds=(ours(cluster, one), other))
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert (made.refusal, made.steps) == ("", ())
    (note,) = [one for one in made.warnings if "etcd-old.service" in one]
    assert "wants the ports 2379, 2380" in note and "systemctl disable etcd-old.service" in note
    hosts = test_planner.change(test_planner.blank(cluster), one.minion, etcds=(other,))
    made = planned(cluster, hosts, test_planner.wanted(cluster, recorded=False))
    assert made.steps == () and "systemctl disable etcd-old.service" in made.refusal


def test_a_host_of_many_containers_is_noted_in_few_lines(cluster):
    others = tuple(
        process(unit="", container="docker", data_dir=f"/proc/{n}/root/d", ports=[], pid=n)
        for n in range(40)
    )
    hosts = running(cluster)
    one = cluster.members[0]
    hosts = test_planner.change(hosts, one.minion, etcds=(ours(cluster, one), *others))
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    noted = [note for note in made.warnings if one.minion in note]
    assert (made.refusal, len(noted)) == ("", 4) and "37 more" in noted[-1]


@pytest.mark.parametrize("record", [{}, {"cluster": "main", "state": "bootstrapped"}])
def test_a_lost_record_is_written_again(cluster, record):
    """From what the master knows, or from what the others' cluster says."""
    lost = cluster.members[1]
    hosts = test_planner.change(running(cluster), lost.minion, record=record)
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert made.refusal == ""
    (step,) = made.steps
    assert (step.function, step.targets) == ("etcd_ha_member.write_record", (lost.minion,))
    assert step.arguments["member_id"] == lost.name
    assert step.arguments["data_dir"] == "/var/lib/etcd"


def remembering(cluster):
    """The master knows all ids."""
    known = test_planner.wanted(cluster)
    managed = {m: {**one, "member_id": one["name"]} for m, one in known.managed.items()}
    return dataclasses.replace(known, managed=managed, cluster_id="c1")


def stopped(host):
    etcds = tuple({**one, "pid": 0, "kind": "unit"} for one in host.etcds)
    return dataclasses.replace(
        host,
        active=False,
        healthy=False,
        leader=False,
        members=(),
        cluster_id="",
        member_id="",
        record={},
        etcds=etcds,
    )


def test_all_are_stopped_and_their_records_lost(cluster):
    hosts = running(cluster)
    hosts |= {m.minion: stopped(hosts[m.minion]) for m in cluster.members}
    made = planned(cluster, hosts, remembering(cluster))
    assert made.refusal == ""
    written = [s.targets[0] for s in made.steps if s.function == "etcd_ha_member.write_record"]
    assert written == [m.minion for m in cluster.members]
    assert [s.function for s in made.steps[:3]] == ["etcd_ha_member.write_record"] * 3


def test_without_any_record_the_way_back_is_named(cluster):
    hosts = running(cluster)
    hosts |= {m.minion: dataclasses.replace(hosts[m.minion], record={}) for m in cluster.members}
    made = planned(cluster, hosts, test_planner.wanted(cluster, recorded=False))
    assert "salt-run etcd_ha.claim cluster=main cluster_id=c1 confirm=main" in made.refusal


def test_the_master_s_record_alone_will_do(cluster):
    hosts = running(cluster)
    hosts |= {m.minion: dataclasses.replace(hosts[m.minion], record={}) for m in cluster.members}
    made = planned(cluster, hosts, remembering(cluster))
    assert made.refusal == "" and len(made.steps) == 3


def test_a_list_of_a_cluster_that_nobody_recorded_makes_nobody_ours(cluster):
    """A hand-made cluster is healthy too, and lists its members."""
    hosts = running(cluster)
    for member in cluster.members:
        alien = {**ours(cluster, member), "by_formula": False}
        hosts = test_planner.change(hosts, member.minion, record={}, etcds=(alien,))
    made = planned(cluster, hosts, test_planner.wanted(cluster, recorded=False))
    assert "did not set up" in made.refusal and "claim" not in made.refusal


def test_the_list_of_another_cluster_makes_nobody_ours(cluster):
    """Two clusters on one master: a member of the other one, whose host lost its record."""
    hosts = running(cluster)
    stray = cluster.members[0]
    alien = {**ours(cluster, stray), "cluster_id": "o1", "member_id": "o2"}
    hosts = test_planner.change(hosts, stray.minion, record={}, etcds=(alien,), cluster_id="o1")
    listed = ({"id": "o2", "name": "x", "peer_urls": [], "learner": False},)
    record = {"cluster": "other", "state": "bootstrapped", "cluster_id": "o1", "member_id": "o3"}
    hosts["o.example.com"] = dataclasses.replace(
        hosts[cluster.members[1].minion],
        minion="o.example.com",
        record=record,
        members=listed,
        cluster_id="o1",
        member_id="o3",
        etcds=(),
    )
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert stray.minion in made.refusal and "did not set up" in made.refusal


def test_a_copy_of_a_member_that_runs_elsewhere_is_not_this_host_s(cluster):
    """Data of etcd1 brought to etcd2 would be etcd1 once more, and could vote a second time."""
    hosts = running(cluster)
    first, second = cluster.members[:2]
    copied = {**ours(cluster, first), "pid": 0, "kind": "data", "by_formula": False}
    down = {"active": False, "healthy": False, "leader": False, "members": ()}
    hosts = test_planner.change(hosts, second.minion, etcds=(copied,), **down)
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert made.steps == () and second.minion in made.refusal
    assert "did not set up" in made.refusal
    # Where that member runs nowhere, it may have moved here.
    hosts = test_planner.change(hosts, first.minion, active=False, healthy=False, member_id="")
    made = planned(cluster, hosts, test_planner.wanted(cluster))
    assert "did not set up" not in made.refusal


def test_a_host_that_leaves_with_somebody_else_s_etcd_stops_the_plan(cluster):
    hosts = running(cluster)
    record = {"cluster": "main", "state": "bootstrapped", "data_dir": "/var/lib/etcd"}
    hosts["etcd9.example.com"] = Observed("etcd9.example.com", record=record, etcds=(process(),))
    known = test_planner.wanted(cluster)
    managed = {
        **known.managed,
        "etcd9.example.com": {"name": "etcd9", "peer_url": "https://x:2380"},
    }
    made = planned(cluster, hosts, dataclasses.replace(known, managed=managed))
    assert "etcd9.example.com" in made.refusal and "did not set up" in made.refusal


def test_a_bootstrap_that_was_cut_short_goes_on(cluster):
    """Nobody is written down as bootstrapped while not all have started."""
    hosts = test_planner.blank(cluster)
    one = cluster.members[0]
    record = {"cluster": "main", "state": "bootstrapping", "data_dir": "/var/lib/etcd"}
    row = ours(cluster, one)
    hosts = test_planner.change(
        hosts, one.minion, record=record, etcds=(row,), has_data=True, active=True
    )
    made = planned(cluster, hosts, test_planner.wanted(cluster, recorded=False))
    assert made.refusal == ""
    assert [step.action for step in made.steps if step.kind == "state"][1] == "bootstrap"
    assert not any(step.function == "etcd_ha_member.write_record" for step in made.steps)


def test_one_host_s_word_counts_for_nothing_against_the_master_s(cluster):
    """A record that names a hand-made cluster, on one of its hosts."""
    hosts = running(cluster)
    for member in cluster.members:
        alien = {**ours(cluster, member), "cluster_id": "f1", "by_formula": False}
        hosts = test_planner.change(
            hosts, member.minion, record={}, etcds=(alien,), cluster_id="f1"
        )
    liar = cluster.members[0]
    record = {**test_planner.record(cluster, liar), "cluster_id": "f1"}
    hosts = test_planner.change(hosts, liar.minion, record=record)
    made = planned(cluster, hosts, remembering(cluster))
    assert cluster.members[1].minion in made.refusal and "did not set up" in made.refusal


def test_a_member_that_leaves_gets_its_lost_record_too(cluster):
    """Without it, the host would keep its data in place, and etcd its unit."""
    hosts = running(cluster)
    left = cluster.members[2]
    hosts = test_planner.change(hosts, left.minion, record={})
    other = dataclasses.replace(cluster, members=cluster.members[:2])
    made = planned(other, hosts, remembering(cluster))
    (step,) = [s for s in made.steps if s.function == "etcd_ha_member.write_record"]
    assert step.targets == (left.minion,) and step is made.steps[0]
    assert step.arguments["data_dir"] == "/var/lib/etcd"
    # An etcd there that is not known as its is none of this cluster's business.
    alien = {**ours(cluster, left), "member_id": "x", "unit": "x.service", "ports": [1]}
    hosts = test_planner.change(hosts, left.minion, etcds=(alien,), member_id="x")
    made = planned(other, hosts, remembering(cluster))
    assert not any(s.function == "etcd_ha_member.write_record" for s in made.steps)
