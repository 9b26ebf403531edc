"""Hosts without facts: what needs them waits, and all else goes on."""

import copy
import dataclasses
import pathlib

import etcd_ha_environment
import etcd_ha_host
import etcd_ha_host_in_force
import etcd_ha_mark
import etcd_ha_planner
import etcd_ha_report
import etcd_ha_rows
import etcd_ha_topology
import pytest
from etcd_ha_observed import Observed, Wanted
from faces import load
from test_planner import change, healthy, wanted, with_port

CA, LB = "ca.example.com", "lb.example.com"
ETCD1, ETCD2, ETCD3 = (f"etcd{number}.example.com" for number in (1, 2, 3))


def without(hosts, *minions):
    return {minion: host for minion, host in hosts.items() if minion not in minions}


def down(hosts, *minions):
    for minion in minions:
        hosts = change(hosts, minion, active=False, healthy=False, leader=False)
    return hosts


def plan(cluster, hosts, *silent, command="converge", known=None):
    cause = dict.fromkeys(silent, "is off. On")
    known = known or dataclasses.replace(wanted(cluster), silent=cause)
    return etcd_ha_planner.plan(cluster, without(hosts, *silent), known, command)


def targets(made):
    return [step.targets for step in made.steps if step.action == "restart"]


@pytest.mark.parametrize("silent", [(CA,), (LB,), (CA, LB)])
def test_a_silent_helper_does_not_stop_a_member_from_being_started(cluster, silent):
    made = plan(cluster, down(healthy(cluster), ETCD2), *silent)
    assert not made.refusal and targets(made) == [(ETCD2,)]
    assert all(not set(silent) & set(step.targets) for step in made.steps)
    assert not made.sound and all("is off" in what for what in made.waits)
    for minion in silent:
        assert any(minion in what for what in made.waits)
    assert not any("recover" in what for what in made.waits)


def test_under_a_silent_ca_certificates_are_held(cluster):
    hosts = change(down(healthy(cluster), ETCD2), ETCD1, days_left=3)
    made = plan(cluster, hosts, CA)
    (start,) = [step for step in made.steps if step.action == "restart"]
    assert start.stage["trust"] == "held" and start.why == "it is not running"
    assert any(w.startswith("renew the certificates of etcd1: needs ca.exa") for w in made.waits)


def test_an_option_changes_under_a_silent_helper(cluster):
    hosts = healthy(cluster)
    for minion in (ETCD1, ETCD2, ETCD3):
        running = {**hosts[minion].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
        hosts = change(hosts, minion, running=running)
    for silent in (CA, LB):
        made = plan(cluster, hosts, silent)
        assert targets(made) == [(ETCD2,), (ETCD3,), (ETCD1,)] and made.waits


@pytest.mark.parametrize(("silent", "hint"), [((CA,), False), ((LB,), False), ((ETCD3,), False)])
def test_with_nothing_else_to_do_it_is_refused_without_a_way_that_loses_data(cluster, silent, hint):
    made = plan(cluster, healthy(cluster), *silent)
    assert made.steps == () and f"{silent[0]} is off. On. Then run again" in made.refusal
    assert "etcd_ha.orch.recover" not in made.refusal


def test_where_known_data_is_no_quorum_the_way_out_is_named(cluster):
    made = plan(cluster, down(healthy(cluster), ETCD1), ETCD2, ETCD3)
    assert made.steps == ()
    assert "Only where etcd2, etcd3 will never come back" in made.refusal
    assert "etcd_ha.orch.recover" in made.refusal


def test_beside_a_silent_member_others_are_started_and_no_more(cluster):
    hosts = change(down(healthy(cluster), ETCD2), ETCD1, digest="old")
    made = plan(cluster, hosts, ETCD3)
    # Two of three: not even a quorum runs before.
    assert not made.refusal and targets(made) == [(ETCD2,)]
    assert made.waits == (f"all else: needs {ETCD3}, which is off",)


def test_a_quorum_is_regained_beside_a_silent_member(cluster):
    hosts = down(healthy(cluster), ETCD1, ETCD2)
    made = plan(cluster, hosts, ETCD3)
    assert not made.refusal and targets(made) == [(ETCD1, ETCD2)]


def test_the_pillar_s_silent_member_is_not_called_unknown_nor_taken_out(cluster):
    known = dataclasses.replace(wanted(cluster, recorded=True), managed={})
    made = plan(cluster, down(healthy(cluster), ETCD2), ETCD3, known=known)
    assert targets(made) == [(ETCD2,)]
    assert not any("remove" in step.function for step in made.steps)


def test_members_do_not_move_away_from_a_silent_balancer(cluster):
    hosts = healthy(cluster)
    urls = {m.name: [cluster.client_url(m)] for m in cluster.members}
    listed = tuple({**e, "client_urls": urls[e["name"]]} for e in hosts[ETCD1].members)
    for minion in (ETCD1, ETCD2, ETCD3):
        hosts = change(hosts, minion, members=listed)
    made = plan(with_port(cluster, 3379), hosts, LB)
    assert made.steps == ()
    assert any("lead it to the members' new endpoints: needs lb" in w for w in made.waits)


def test_nobody_joins_or_leaves_while_a_balancer_is_silent(cluster):
    third, hosts = cluster.members[2], healthy(cluster)
    fourth = dataclasses.replace(
        third, minion="etcd4.example.com", name="etcd4", address="192.168.200.64"
    )
    hosts["etcd4.example.com"] = Observed("etcd4.example.com")
    new = dataclasses.replace(cluster, members=(*cluster.members[:2], fourth))
    known = dataclasses.replace(wanted(new), managed=wanted(cluster).managed)
    for silent in (CA, LB):
        made = plan(new, down(hosts, ETCD2), silent, known=known)
        assert targets(made) == [(ETCD2,)]
        assert not any(step.action == "join" or step.function for step in made.steps)
        assert any(f"needs {silent}" in what for what in made.waits)


def test_a_member_without_data_waits_for_the_ca_that_must_sign_for_it(cluster):
    hosts = change(healthy(cluster), ETCD2, has_data=False, active=False, healthy=False)
    made = plan(cluster, hosts, CA)
    assert not any(step.action == "join" for step in made.steps)
    assert any(what.startswith("replace etcd2: needs ca") for what in made.waits)
    made = plan(cluster, hosts, LB)
    assert any(step.action == "join" for step in made.steps) and not made.refusal


def test_to_plain_and_to_tls_wait_for_whoever_must_change_too(cluster, pillar, defaults):
    hosts = {
        minion: dataclasses.replace(
            host, running=etcd_ha_environment.variables(cluster, cluster.member(minion), "http")
        )
        if cluster.member(minion)
        else host
        for minion, host in healthy(cluster).items()
    }
    for silent in (CA, LB):
        made = plan(cluster, hosts, silent)
        assert made.steps == () and any("speak https" in what for what in made.waits)


@pytest.mark.parametrize("command", ["restart", "rotate_ca", "remove_cluster"])
def test_what_is_asked_for_once_needs_all(cluster, command):
    for silent in (CA, LB, ETCD3):
        assert (
            f"{silent} is off" in plan(cluster, healthy(cluster), silent, command=command).refusal
        )


def test_less_space_needs_members_alone(cluster):
    for silent in (CA, LB):
        assert not plan(cluster, healthy(cluster), silent, command="defrag").refusal
    assert "is off" in plan(cluster, healthy(cluster), ETCD3, command="defrag").refusal


def test_a_blank_cluster_is_begun_by_all_or_by_nobody(cluster):
    blank = {minion: Observed(minion) for minion in cluster.hosts}
    for silent in cluster.hosts:
        made = plan(cluster, blank, silent, known=Wanted({}))
        assert f"{silent} did not answer" in made.refusal and not made.steps
    assert "not bootstrapped" not in plan(cluster, blank, ETCD1, known=Wanted({})).summary


def test_it_is_verified_through_those_that_answered(cluster):
    made = plan(cluster, down(healthy(cluster), ETCD2), LB, ETCD1)
    verify = made.steps[-1]
    assert verify.targets != (ETCD1,) and "no balancer answered" in verify.title
    (row,) = etcd_ha_rows.rows(cluster, [verify], "s")
    urls = row["arguments"]["endpoints"]
    assert urls == [cluster.client_url(m) for m in cluster.members if m.minion != ETCD1]
    assert etcd_ha_report.verified_urls(cluster) == [
        cluster.balancer_url(b) for b in cluster.balancers
    ]


def test_who_left_and_is_silent_is_told(cluster):
    smaller = dataclasses.replace(cluster, members=cluster.members[:2])
    known = dataclasses.replace(wanted(smaller), managed=wanted(cluster).managed)
    made = plan(smaller, without(healthy(cluster), ETCD3), known=known)
    assert any(f"{ETCD3} did not answer: what the pillar" in note for note in made.warnings)


def test_a_host_whose_certificates_were_held_is_looked_at_again(monkeypatch):
    old = {"digest": "old", "source": "s", "settings": "p", "modules": "m"}
    old["files"] = {"/p/ca.crt": "1", "/p/server.key": "2", "/e": "3"}
    salt = {"etcd_ha.wanted_digest": lambda: "new", "etcd_ha.modules_digest": lambda: "new"}
    written = {}
    monkeypatch.setattr(etcd_ha_mark, "read", lambda: old)
    states = load("_states/etcd_ha", opts={"test": False}, salt=salt)
    machine = states.etcd_ha_machine
    monkeypatch.setattr(machine, "write_json", lambda path, mark: written.update(mark))
    monkeypatch.setattr(machine, "sha256_file", lambda path: "now")
    host = etcd_ha_host.describe("x", [], "amd64", {"stage": {"trust": "held"}})
    files = ["/p/ca.crt", "/p/server.key", "/p/new.crt", "/e"]
    assert states.applied("x", host, "s2", files)["result"] is True
    assert written["digest"] == "old" and written["source"] == "s"
    assert written["files"] == {"/p/ca.crt": "1", "/p/server.key": "2", "/e": "now"}


def test_a_held_ca_asks_nobody(tmp_path, monkeypatch):
    states = load("_states/etcd_ha_ca", opts={"test": False}, salt={})
    path = str(tmp_path / "ca.crt")
    told = states.trusted("x", path, "held", "ca.example.com", "policy")
    assert told["result"] is False and "Bring it back first" in told["comment"]
    pathlib.Path(path).write_text("PEM")
    pathlib.Path(path).chmod(0o644)
    monkeypatch.setattr(states, "_text", lambda path: "PEM")
    told = states.trusted("x", path, "held", "ca.example.com", "policy")
    assert told["result"] is True and told["changes"] == {}
    assert told["comment"].endswith("no answer of the CA")


def test_a_member_that_serves_no_client_gets_its_settings_beside_a_silent_one(pillar, defaults):
    members = {f"etcd{n}.example.com": {"address": f"192.168.200.6{n}"} for n in range(1, 6)}
    pillar["clusters"]["main"]["members"] = members
    five = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = healthy(five)
    for member in five.members:
        running = {**hosts[member.minion].running, "ETCD_LISTEN_CLIENT_URLS": "http://[::1]:1"}
        deaf = {"healthy": False, "leader": False, "members": (), "voting": True}
        hosts = change(hosts, member.minion, running=running, **deaf)
    made = plan(five, hosts, "etcd5.example.com")
    assert not made.refusal and targets(made) == [(ETCD1,)]
    # With two of them silent each vote that is known is needed.
    made = plan(five, hosts, "etcd4.example.com", "etcd5.example.com")
    assert not made.steps and "etcd4.example.com, etcd5.example.com is off" in made.refusal


def test_a_balancer_is_not_asked_for_a_member_of_which_nobody_knows(cluster):
    made = plan(cluster, down(healthy(cluster), ETCD2), ETCD3)
    (row,) = etcd_ha_rows.rows(cluster, [made.steps[-1]], "s")
    assert row["arguments"]["minions"] == [ETCD1, ETCD2]
    assert row["arguments"]["balancers"] == [LB]
    made = plan(cluster, down(healthy(cluster), ETCD2), CA)
    (row,) = etcd_ha_rows.rows(cluster, [made.steps[-1]], "s")
    # All of them: that is what it looks at by itself.
    assert "minions" not in row["arguments"]


def test_less_space_is_verified_through_those_that_answered(cluster):
    hosts = healthy(cluster)
    for minion in (ETCD1, ETCD2, ETCD3):
        hosts = change(hosts, minion, db_size=2**31, db_in_use=2**20)
    (row,) = etcd_ha_rows.rows(cluster, [plan(cluster, hosts, LB, command="defrag").steps[-1]], "s")
    assert row["kind"] == "verify" and row["arguments"]["balancers"] == []


@pytest.fixture
def held(pillar, defaults):
    """A host as a step describes it while its CA is silent."""
    clusters = etcd_ha_topology.read(pillar, defaults).values()
    return etcd_ha_host.describe(ETCD1, clusters, "amd64", {"stage": {"trust": "held"}})


def test_where_the_ca_is_silent_no_certificate_is_issued(held):
    assert held["issuing"] == [] and held["phase"] == "held"


def test_certificates_that_were_held_are_in_force_as_before(held):
    old = copy.deepcopy({part: held[part] for part in etcd_ha_host_in_force.PARTS})
    old["member"]["pki"]["leaves"][0]["days_valid"] = 5
    found = etcd_ha_host_in_force.recorded(old, held)
    assert found["member"]["pki"] == old["member"]["pki"] != held["member"]["pki"]
    assert found["member"]["environment"] == held["member"]["environment"]
    assert etcd_ha_host_in_force.recorded(old, {**held, "phase": ""})["member"] == held["member"]


@pytest.mark.parametrize(("record", "trust"), [({"trust": "both"}, "both"), (None, "kept")])
def test_a_balancer_keeps_what_it_looks_at_while_the_ca_is_silent(held, monkeypatch, record, trust):
    """Whether HAProxy looks at names goes by what is in force, not by a CA of which none knows."""
    module = load("_modules/etcd_ha", pillar={"etcd_ha_step": {"stage": {"trust": "held"}}})
    monkeypatch.setattr(module.etcd_ha_client, "configured", dict)
    monkeypatch.setattr(module, "_described", lambda step: held)
    monkeypatch.setattr(module, "_present_stage", lambda: {"trust": "kept"})
    monkeypatch.setattr(module.etcd_ha_host_in_force, "read", lambda: record)
    found = module.wanted_host()
    assert (found["trust"], found["phase"], found["issuing"]) == (trust, "held", [])


LOST = (
    {"authorities": {}, "changed_files": ("/etc/pki/etcd_ha/main/ca.crt",)},
    {"changed_files": ("/etc/pki/etcd_ha/main/ca.key",)},
)


@pytest.mark.parametrize("lost", LOST)
def test_beside_a_ca_that_is_gone_a_stopped_member_is_started(cluster, lost):
    hosts = change(healthy(cluster), cluster.ca_minion, **lost)
    hosts = change(hosts, "etcd2.example.com", active=False, healthy=False, members=())
    made = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert not made.refusal, made.refusal
    started = [step for step in made.steps if step.action == "restart"]
    assert [step.targets for step in started] == [("etcd2.example.com",)]
    assert all(cluster.ca_minion not in step.targets for step in made.steps)
    (left,) = made.waits
    assert f"{cluster.ca_minion}, which cannot issue certificates" in left
    assert any("from a backup" in warning for warning in made.warnings)


@pytest.mark.parametrize("lost", LOST)
def test_where_nothing_else_is_to_do_a_ca_that_is_gone_says_what_helps(cluster, lost):
    hosts = change(healthy(cluster), cluster.ca_minion, **lost)
    made = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert not made.steps and "from a backup" in made.refusal
    assert f"{cluster.ca_minion} cannot issue certificates" in made.refusal


@pytest.mark.parametrize("lost", LOST)
def test_a_ca_that_is_gone_from_a_member_stops_the_plan_as_before(cluster, lost):
    one = cluster.members[0].minion
    settings = copy.deepcopy(cluster.settings)
    settings["tls"]["ca"]["minion"] = one
    shared = dataclasses.replace(cluster, settings=settings)
    hosts = healthy(cluster)
    hosts = change(hosts, one, authorities=hosts.pop(CA).authorities, ca=one)
    made = etcd_ha_planner.plan(shared, change(hosts, one, **lost), wanted(shared))
    assert not made.steps and "from a backup" in made.refusal


def test_who_joins_in_a_later_run_is_not_looked_for_by_balancers(pillar, defaults, cluster):
    """Found by faults: the cluster is to grow, a member is silent, another one is started."""
    members = {f"etcd{n}.example.com": {"address": f"192.168.200.6{n}"} for n in range(1, 6)}
    pillar["clusters"]["main"]["members"] = members
    five = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = down(healthy(cluster), ETCD2)
    blank = [f"etcd{n}.example.com" for n in (4, 5)]
    hosts |= {minion: Observed(minion) for minion in blank}
    made = plan(five, hosts, ETCD3)
    assert targets(made) == [(ETCD2,)] and made.waits
    (row,) = etcd_ha_rows.rows(five, [made.steps[-1]], "s")
    assert row["kind"] == "verify" and row["arguments"]["minions"] == [ETCD1, ETCD2]
    # In a run that brings them in, they are.
    made = plan(five, healthy(cluster) | {minion: Observed(minion) for minion in blank})
    (row,) = etcd_ha_rows.rows(five, [made.steps[-1]], "s")
    assert "minions" not in row["arguments"] and not made.waits
