"""Members that are stopped on purpose: when a pause ends, and what plans make of it."""

import dataclasses
import json
from datetime import datetime, timezone

import etcd_ha_convergence
import etcd_ha_environment
import etcd_ha_host_paused
import etcd_ha_planner
import etcd_ha_report
import etcd_ha_rows
import etcd_ha_topology
import pytest
from etcd_ha_host_paused import PauseError, end, has_ended, in_effect, read
from etcd_ha_observed import Trust
from test_planner import change, healthy, wanted

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=timezone.utc)
PAUSE = {
    "cluster": "main",
    "member": "etcd2",
    "reason": "disk swap",
    "since": "2026-11-30T10:00:00Z",
    "until": "2026-11-30T16:00:00Z",
}

ENDS = [
    ("2026-12-01 06:00", 0, "2026-12-01T06:00:00Z"),
    ("2026-12-01 06:00+01:00", 0, "2026-12-01T05:00:00Z"),
    ("2026-12-01T06:00:30Z", 0, "2026-12-01T06:00:30Z"),
    ("", 4, "2026-11-30T16:00:00Z"),
    ("", 0.5, "2026-11-30T12:30:00Z"),
]
WRONG = [
    ("", 0, "say until when"),
    ("2026-12-01 06:00", 4, "say until when"),
    ("2026-11-30 11:59", 0, "has passed already"),
    ("2027-06-01 06:00", 0, "90 days at most"),
    ("tomorrow", 0, "give a time such as"),
    ("", float("nan"), "give more than 0"),
    ("", -1, "give more than 0"),
    ("", 1e9, "2160 at most"),
]


@pytest.mark.parametrize(("until", "hours", "wanted"), ENDS)
def test_the_end_of_a_pause(until, hours, wanted):
    assert end(until, hours, NOW) == wanted


@pytest.mark.parametrize(("until", "hours", "words"), WRONG)
def test_a_wrong_end_is_refused_with_what_helps(until, hours, words):
    with pytest.raises(PauseError, match=words):
        end(until, hours, NOW)


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_paused, "FILE", str(tmp_path / "paused" / "member.json"))
    monkeypatch.setattr(etcd_ha_host_paused, "UNITS", str(tmp_path / "units"))
    return tmp_path


def test_a_pause_keeps_the_unit_from_starting_and_ends_by_a_timer(host):
    assert read() == {} and in_effect(NOW) == ""
    etcd_ha_host_paused.keep(PAUSE)
    assert read() == PAUSE
    assert in_effect(NOW) == "paused until 2026-11-30T16:00:00Z (disk swap)"
    units = host / "units"
    drop_in = (units / "etcd.service.d" / "etcd_ha-paused.conf").read_text()
    assert f"AssertPathExists=!{etcd_ha_host_paused.FILE}\n" in drop_in
    timer = (units / "etcd_ha-resume.timer").read_text()
    assert "OnCalendar=2026-11-30 16:00:00 UTC\n" in timer and "Persistent=true" in timer
    service = (units / "etcd_ha-resume.service").read_text()
    deeds = [line.split() for line in service.splitlines() if line.startswith("ExecStart=")]
    # systemd stops after a reload in a unit whose file is gone: its own go last.
    assert [words[0].partition("=")[2] for words in deeds] == ["rm", "systemctl", "systemctl", "rm"]
    assert not [path for path in deeds[0][2:] if "etcd_ha-resume" in path]
    removed = deeds[0][2:] + deeds[3][2:]
    wants = units / "timers.target.wants"
    wants.mkdir()
    (wants / "etcd_ha-resume.timer").symlink_to(units / "etcd_ha-resume.timer")
    lifted = etcd_ha_host_paused.lift()
    assert set(removed) == set(lifted) and len(lifted) == 5
    assert [p for p in host.rglob("*") if p.is_file() or p.is_symlink()] == []
    assert etcd_ha_host_paused.lift() == []


def test_a_pause_whose_end_has_passed_is_none(host):
    etcd_ha_host_paused.keep(PAUSE)
    later = NOW.replace(hour=16)
    assert has_ended(PAUSE, later) and in_effect(later) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({**PAUSE, "until": "soon"})])
def test_a_pause_that_cannot_be_read_holds_the_member(host, text):
    etcd_ha_host_paused.keep(PAUSE)
    with open(etcd_ha_host_paused.FILE, "w") as file:
        file.write(text)
    told = in_effect(NOW.replace(year=2030))
    assert told.startswith("paused (") and "etcd_ha.resume" in told


# Plans


WORDS = "paused until 2026-11-30T16:00:00Z (disk swap)"
ONE, TWO, THREE = (f"etcd{n}.example.com" for n in (1, 2, 3))


@pytest.fixture
def five(pillar, defaults):
    members = {f"etcd{n}.example.com": {"address": f"192.168.200.6{n}"} for n in range(1, 6)}
    pillar["clusters"]["main"]["members"] = members
    return etcd_ha_topology.read(pillar, defaults)["main"]


def paused(hosts, *minions):
    for minion in minions or (TWO,):
        down = {"active": False, "healthy": False, "leader": False, "members": ()}
        hosts = change(hosts, minion, paused=WORDS, **down)
    return hosts


def planned(cluster, hosts, command="converge"):
    return etcd_ha_planner.plan(cluster, hosts, wanted(cluster), command)


def targets(plan):
    return {minion for step in plan.steps for minion in step.targets}


def test_a_paused_member_is_left_alone_and_the_plan_says_so(cluster):
    plan = planned(cluster, paused(healthy(cluster)))
    assert (plan.refusal, plan.steps) == ("", ())
    (note,) = plan.warnings
    assert "etcd2 is paused until 2026-11-30T16:00:00Z (disk swap)" in note
    assert "salt-run etcd_ha.resume cluster=main member=etcd2" in note
    assert "2 healthy" in plan.summary


def test_whatever_differs_on_a_paused_member_waits(cluster):
    worse = {"digest": "old", "changed_files": ("/etc/default/etcd",), "pending": ("unit",)}
    for also in ({}, {"has_data": False}, {"corrupt": "etcd says so"}, {"days_left": 1}):
        hosts = change(paused(healthy(cluster)), TWO, **{**worse, **also})
        plan = planned(cluster, hosts)
        assert (plan.refusal, plan.steps) == ("", ()), also


def drifted(cluster, hosts):
    for member in cluster.members:
        running = {**hosts[member.minion].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
        hosts = change(hosts, member.minion, running=running, digest="old")
    return hosts


def test_the_rest_is_done_where_the_others_can_spare_one_more(five):
    plan = planned(five, paused(drifted(five, healthy(five)), TWO))
    assert not plan.refusal
    rolled = [step.targets[0] for step in plan.steps if step.disruptive]
    assert sorted(rolled) == [ONE, THREE, "etcd4.example.com", "etcd5.example.com"]
    assert TWO not in targets(plan)


def test_the_rest_is_refused_where_it_would_cost_the_quorum(cluster):
    plan = planned(cluster, paused(drifted(cluster, healthy(cluster))))
    assert "cannot be restarted" in plan.refusal
    assert "etcd2 is paused" in plan.refusal and "etcd_ha.resume" in plan.refusal


def test_another_member_that_is_down_is_started_all_the_same(five):
    hosts = change(paused(healthy(five), TWO), THREE, active=False, healthy=False)
    plan = planned(five, hosts)
    assert THREE in targets(plan) and TWO not in targets(plan)


STAGED = {
    "the change to etcd 3.7": ({"version": "3.7.1"}, {}),
    "turning TLS off": ({"tls": {"enabled": False}}, {}),
    "another CA": ({}, {"trust": Trust(frozenset({"other"}), frozenset({"other"}))}),
}


@pytest.mark.parametrize("what", STAGED)
def test_a_change_in_stages_waits_for_every_member(pillar, defaults, what):
    before = etcd_ha_topology.read(pillar, defaults)["main"]
    settings, facts = STAGED[what]
    pillar["clusters"]["main"].update(settings)
    after = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = paused(healthy(before))
    for member in before.members:
        hosts = change(hosts, member.minion, **facts)
    plan = planned(after, hosts)
    assert what in plan.refusal and "needs every member" in plan.refusal, plan.refusal
    assert "etcd_ha.resume cluster=main member=etcd2" in plan.refusal


def test_what_is_down_is_started_before_a_change_that_waits(pillar, defaults):
    members = {f"etcd{n}.example.com": {"address": f"192.168.200.6{n}"} for n in range(1, 6)}
    pillar["clusters"]["main"]["members"] = members
    before = etcd_ha_topology.read(pillar, defaults)["main"]
    pillar["clusters"]["main"]["version"] = "3.7.1"
    after = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts = change(paused(healthy(before)), THREE, active=False, healthy=False)
    plan = planned(after, hosts)
    assert not plan.refusal
    assert targets(plan) - set(after.hosts[-1:]) <= {ONE, THREE} | set(after.hosts)
    assert [s.targets for s in plan.steps if s.action == "restart"] == [(THREE,)]
    # The run is not done: it says what is left, for whom it waits, and how that ends.
    (waits,) = plan.waits
    assert waits.startswith("the change to etcd 3.7: needs every member. etcd2 is paused until")
    assert "etcd_ha.resume cluster=main member=etcd2" in waits and not plan.sound
    (row,) = etcd_ha_rows.rows(after, [plan.steps[-1]], "s")
    # Nobody asks a balancer whether it sees the paused one.
    assert TWO not in row["arguments"]["minions"] and len(row["arguments"]["minions"]) == 4


def test_a_silent_ca_is_no_change_that_waits_for_a_paused_member(five):
    hosts = change(paused(healthy(five)), THREE, active=False, healthy=False)
    del hosts["ca.example.com"]
    plan = planned(five, hosts)
    assert [s.targets for s in plan.steps if s.action == "restart"] == [(THREE,)]
    assert plan.waits and all("needs ca.example.com" in one for one in plan.waits)


def test_without_balancers_a_paused_member_is_not_verified(five):
    alone = dataclasses.replace(five, balancers=())
    hosts = paused(drifted(alone, healthy(alone)), TWO)
    (row,) = etcd_ha_rows.rows(alone, [planned(alone, hosts).steps[-1]], "s")
    others = [alone.client_url(m) for m in alone.members if m.minion != TWO]
    assert row["kind"] == "verify" and row["arguments"]["endpoints"] == others


def test_a_paused_member_that_left_the_pillar_is_neither_taken_out_nor_retired(pillar, defaults):
    before = etcd_ha_topology.read(pillar, defaults)["main"]
    known = wanted(before)
    del pillar["clusters"]["main"]["members"][TWO]
    after = etcd_ha_topology.read(pillar, defaults)["main"]
    plan = etcd_ha_planner.plan(after, paused(healthy(before)), known)
    assert TWO not in targets(plan)
    assert not [step for step in plan.steps if "remove" in step.function]


@pytest.mark.parametrize("command", ["restart", "defrag"])
def test_commands_on_each_member_leave_it_out(five, command):
    hosts = paused(healthy(five), TWO)
    for minion in hosts:
        if five.member(minion):
            hosts = change(hosts, minion, db_size=2**31, db_in_use=2**20)
    plan = planned(five, hosts, command)
    assert not plan.refusal and plan.steps
    assert TWO not in targets(plan)


def test_a_new_ca_needs_every_member(cluster):
    assert "needs every member" in planned(cluster, paused(healthy(cluster)), "rotate_ca").refusal


def test_without_a_quorum_a_paused_member_is_not_started(cluster):
    hosts = paused(healthy(cluster))
    for minion in (ONE, THREE):
        hosts = change(hosts, minion, active=False, healthy=False, leader=False, members=())
    plan = planned(cluster, hosts)
    assert not plan.refusal and TWO not in targets(plan)
    both = planned(cluster, paused(hosts, TWO, THREE))
    assert "a quorum needs every member" in both.refusal and "etcd_ha.resume" in both.refusal


def test_the_status_shows_who_is_paused(cluster):
    facts = {TWO: {"paused": WORDS, "etcd": {"active": False}}}
    (row,) = [r for r in etcd_ha_report.status(cluster, facts).text.splitlines() if "etcd2" in r]
    assert "paused" in row


def test_the_course_of_a_plan_without_a_pause_is_what_it_was(cluster):
    hosts, known = healthy(cluster), wanted(cluster)
    listed = hosts[ONE].members
    course = etcd_ha_convergence.Convergence(cluster, hosts, known, listed)
    assert course.paused == [] and list(course.members) == [ONE, TWO, THREE]
    assert etcd_ha_environment.variables(cluster, cluster.members[0])
