"""A step's reason is the true one: one, and no other."""

import dataclasses

import etcd_ha_host
import etcd_ha_mark
import etcd_ha_observed
import etcd_ha_planner
import pytest
import told_changes
from etcd_ha_observed import Observed
from faces import load
from test_planner import change, healthy, wanted
from told_changes import cluster_of, edited, planned

FORMULA = {"source": "s", "modules": "m"}
APPLIED = {**FORMULA, "settings": "p"}
ETCD2, LB = "etcd2.example.com", "lb.example.com"


def known(cluster, settings="p", **formula):
    return dataclasses.replace(
        wanted(cluster),
        digests=dict.fromkeys(cluster.hosts, "new"),
        settings=dict.fromkeys(cluster.hosts, settings),
        formula={**FORMULA, **formula},
    )


def reasons(cluster, minion, told=None, **values):
    """Why each step on one host is taken, where that host alone is otherwise."""
    hosts = {
        one: dataclasses.replace(host, digest="new", applied=APPLIED, balancer_of="main")
        for one, host in healthy(cluster).items()
    }
    plan = etcd_ha_planner.plan(cluster, change(hosts, minion, **values), told or known(cluster))
    assert not plan.refusal
    steps = [s for s in plan.steps if s.targets == (minion,) and s.kind == "state"]
    return [s.why for s in steps if "prepare" not in s.title]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"active": False, "healthy": False}, "it is not running"),
        ({"active": False, "healthy": False, "digest": "old"}, "it is not running"),
        ({"healthy": False}, "it runs, but is not healthy"),
        ({"version": "3.6.13"}, "the pillar has version 3.6.14"),
        ({"pending": ("unit",)}, "its unit changed after it was started"),
        (
            {"pending": ("program", "trust")},
            "its program and CA file changed after it was started",
        ),
        ({"changed_files": ("/etc/default/etcd",)}, "/etc/default/etcd changed on the host"),
        ({"days_left": 3}, "a certificate expires in 3 days"),
        ({"digest": ""}, "no run has finished on this host yet"),
        (
            {"digest": "old", "applied": {**APPLIED, "settings": "old"}},
            "the pillar changed",
        ),
        ({"digest": "old", "applied": {**APPLIED, "source": "old"}}, "the formula changed"),
        ({"digest": "old", "applied": {**APPLIED, "modules": "old"}}, "the formula changed"),
        ({"digest": "old"}, "the last run did not finish on this host"),
        (
            {"digest": "old", "applied": {**APPLIED, "source": ""}},
            "only a highstate has run on this host, no orchestrate yet",
        ),
        # A mark that an older formula wrote.
        ({"digest": "old", "applied": {"source": "s"}}, "the pillar changed"),
        ({"digest": "old", "applied": {"source": "old"}}, "the formula changed"),
    ],
)
def test_a_member_s_step_says_the_one_reason(cluster, values, why):
    assert reasons(cluster, ETCD2, **values) == [why]


def test_a_process_that_was_started_otherwise_is_told_by_the_name(cluster):
    running = {**healthy(cluster)[ETCD2].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
    assert reasons(cluster, ETCD2, running=running) == [
        "its process was started with another ETCD_HEARTBEAT_INTERVAL"
    ]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"balancer_healthy": False}, "clients cannot reach the cluster through it"),
        ({"balancer_healthy": False, "balancer_of": ""}, "it is not set up yet"),
        ({"digest": "old", "applied": {**APPLIED, "settings": "old"}}, "the pillar changed"),
        ({"changed_files": ("/etc/haproxy/haproxy.cfg",)}, "/etc/haproxy/haproxy.cfg changed on "),
    ],
)
def test_a_balancer_s_step_says_the_one_reason(cluster, values, why):
    (told,) = reasons(cluster, LB, **values)
    assert told.startswith(why)


def test_no_reason_of_the_page_has_two():
    plans = [plan for _, plan in told_changes.sections(told_changes.PAGE.read_text()).values()]
    told = [line for plan in plans for line in plan.splitlines() if "because:" in line]
    assert len(told) > 100 and not [line for line in told if " or " in line]


def test_a_member_that_joins_again_is_not_called_new():
    page = told_changes.PAGE.read_text()
    pillar = told_changes.base(page)
    edit = told_changes.sections(page)["Add members"][0]

    def known_before(hosts, before, after):
        """A run was interrupted before it could join: the master knows them already."""

    cluster, grown = cluster_of(pillar), cluster_of(edited(pillar, edit))
    assert "the pillar names a new member" in planned(cluster, grown, known_before)

    def out(hosts, before, after):
        for member in before.members:
            host = hosts[member.minion]
            kept = tuple(e for e in host.members if e["name"] != "etcd3")
            gone = told_changes.GONE if member.name == "etcd3" else {"members": kept}
            hosts[member.minion] = dataclasses.replace(host, **gone)

    assert "the cluster's member list does not have it" in planned(cluster, cluster, out)


def test_facts_and_mark_have_what_the_last_run_was_made_from(monkeypatch, tmp_path):
    written = {}
    monkeypatch.setattr(etcd_ha_mark, "read", lambda: {})
    salt = {"etcd_ha.wanted_digest": lambda: "p", "etcd_ha.modules_digest": lambda: "m"}
    states = load("_states/etcd_ha", opts={"test": False}, salt=salt)
    monkeypatch.setattr(
        states.etcd_ha_machine, "write_json", lambda path, mark: written.update(mark)
    )
    host = etcd_ha_host.describe("x", [], "amd64")
    assert states.applied("x", host, "s")["result"] is True
    assert etcd_ha_mark.is_sound(written) and etcd_ha_mark.made_from(written) == APPLIED
    told = Observed.of({"minion": "x", "applied": etcd_ha_mark.made_from(written)})
    assert told.applied == APPLIED


def test_a_mark_of_an_older_formula_is_read_and_an_odd_one_is_not():
    old = {"digest": "d", "source": "s", "files": {}}
    assert etcd_ha_mark.is_sound(old) and etcd_ha_mark.made_from(old) == {"source": "s"}
    assert not etcd_ha_mark.is_sound({**old, "settings": 5})


def test_the_master_wants_what_a_host_writes_down(cluster):
    """The same hash on both sides, or each plan would say that the pillar changed."""
    module = load("_runners/etcd_ha")
    assert etcd_ha_observed.Wanted({}).settings == {}
    for minion in cluster.hosts:
        described = etcd_ha_host.describe(minion, [cluster], "amd64")
        own = etcd_ha_host.pillar_digest(minion, [cluster], "amd64")
        assert module.etcd_ha_host.digest(described, "") == own
