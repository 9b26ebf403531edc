"""Users' own certificates in a plan: good ones come in turn, bad ones are named, and it heals."""

import dataclasses
import itertools

import etcd_ha_environment
import etcd_ha_plan_own_certificates as own
import etcd_ha_planner
import pytest
from etcd_ha_observed import Pair, Trust
from test_exchange import NEW
from test_planner import OURS, change, healthy, wanted

FILE = "/root/pki/ca.crt"
CA = dataclasses.replace(NEW, certificates=OURS.certificates, authorities=OURS.signers)
EXPIRED = "/root/pki/server.crt has expired: it ended on 2026-01-01 00:00:00 UTC"
LIVE = "/etc/etcd/pki/server.crt has expired: it ended on 2026-01-01 00:00:00 UTC"


def pair(purpose="server", **more):
    given = {"source": f"/root/pki/{purpose}.crt", "fingerprint": "1", **more}
    return Pair(purpose, f"/etc/etcd/pki/{purpose}.crt", **given)


@pytest.fixture
def owner(cluster):
    """The cluster with certificates of the user's in files, and its hosts in sync."""
    tls = {**cluster.settings["tls"], "source": "files", "files": {"ca": {"certificate": FILE}}}
    hosts = healthy(cluster)
    ours = dataclasses.replace(cluster, settings={**cluster.settings, "tls": tls})
    for minion in ours.hosts:
        running = {k: v for k, v in hosts[minion].running.items() if "ALLOWED_HOSTNAME" not in k}
        hosts = change(hosts, minion, authorities={FILE: CA}, pairs=(pair(),), running=running)
    return ours, hosts


def planned(cluster, hosts):
    return etcd_ha_planner.plan(cluster, hosts, wanted(cluster))


def waits(hosts, *minions, **more):
    """For these hosts another pair waits than the one in use."""
    for minion in minions:
        hosts = change(hosts, minion, pairs=(pair(same=False, **more),))
    return hosts


def members(cluster):
    return [member.minion for member in cluster.members]


def test_certificates_that_are_in_use_need_no_step(owner):
    plan = planned(*owner)
    assert (plan.refusal, plan.steps, plan.warnings) == ("", (), ())


def test_new_ones_come_one_member_after_the_other_each_seen_by_others(owner):
    cluster, hosts = owner
    plan = planned(cluster, waits(hosts, *cluster.hosts))
    assert plan.refusal == ""
    steps = [s for s in plan.steps if s.sls == ("etcd_ha",) or "handshakes" in s.function]
    assert [(s.targets[0].split(".")[0], s.kind) for s in steps] == [
        *(("etcd2", "state"), ("etcd2", "function")),
        *(("etcd3", "state"), ("etcd3", "function")),
        *(("etcd1", "state"), ("etcd1", "function")),
        ("lb", "state"),
    ]
    assert "put its new server certificates in use (follower)" in steps[0].title
    assert steps[0].why == "another certificate than the one in use is in /root/pki/server.crt"
    seen = steps[1]
    assert seen.targets == ("etcd2.example.com", "etcd1.example.com", "lb.example.com")
    assert seen.arguments == {
        "client_urls": ["https://192.168.200.62:2379"],
        "peer_urls": ["https://192.168.200.62:2380"],
    }


def test_on_the_way_from_http_they_are_seen_once_peers_speak_tls(owner):
    cluster, hosts = owner
    plain = {**cluster.settings, "tls": {**cluster.settings["tls"], "enabled": False}}
    before = dataclasses.replace(cluster, settings=plain)
    for member in before.members:
        running = etcd_ha_environment.variables(before, member)
        hosts = change(hosts, member.minion, running=running, trust=None)
    hosts = waits(change(hosts, "lb.example.com", balancer_trust=None), *cluster.hosts)
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    kinds = [
        "seen" if "handshakes" in step.function else step.stage.get("transport", "https")
        for step in plan.steps
        if set(step.targets) & set(members(cluster)) and (step.function or step.disruptive)
    ]
    assert kinds == ["both"] * 3 + ["https", "seen"] * 3


def test_a_bad_one_is_refused_with_its_host_and_file(owner):
    cluster, hosts = owner
    hosts = waits(hosts, "etcd2.example.com", faults=(EXPIRED,))
    plan = planned(cluster, waits(hosts, "etcd1.example.com", "lb.example.com"))
    assert plan.steps == ()
    assert f"etcd2: {EXPIRED}" in plan.refusal
    assert "Nothing was changed, and the certificates in use stay" in plan.refusal


def test_a_bad_one_refuses_a_bootstrap(owner):
    cluster, hosts = owner
    for minion in cluster.hosts:
        hosts = change(hosts, minion, has_data=False, healthy=False, active=False, record={})
        hosts = change(hosts, minion, members=(), cluster_id="", trust=None, running={})
    hosts = waits(hosts, "etcd3.example.com", placed=False, faults=(EXPIRED,))
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster, recorded=False))
    assert f"etcd3: {EXPIRED}" in plan.refusal
    hosts = waits(hosts, *cluster.hosts, placed=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster, recorded=False))
    assert plan.refusal == "" and plan.steps[1].action == "bootstrap"


def test_a_bad_one_does_not_stop_the_healing_of_another_member(owner):
    """One failing part stops only what depends on it: the rest is refused once all are up."""
    cluster, hosts = owner
    hosts = waits(hosts, "etcd2.example.com", faults=(EXPIRED,))
    hosts = change(hosts, "etcd3.example.com", active=False, healthy=False)
    plan = own.keeping(planned(cluster, hosts), hosts)
    assert [step.kind for step in plan.steps] == ["state", "state", "again"]
    assert plan.steps[1].targets == ("etcd3.example.com",)
    assert not plan.steps[1].keeps_pairs
    hosts = waits(hosts, "etcd3.example.com", faults=(EXPIRED,))
    plan = own.keeping(planned(cluster, hosts), hosts)
    assert plan.steps[1].keeps_pairs, "it starts with the pair that it has"


def test_an_expired_pair_in_use_is_a_note_while_all_answer(owner):
    cluster, hosts = owner
    hosts = change(hosts, "etcd2.example.com", pairs=(pair(live_faults=(LIVE,)),))
    plan = planned(cluster, hosts)
    assert (plan.refusal, plan.steps) == ("", ())
    assert plan.warnings == (f"etcd2: in use, and not as it should be: {LIVE}",)


def cut(hosts, *minions, **more):
    """Members that run, but whom nobody reaches."""
    for minion in minions:
        hosts = change(hosts, minion, healthy=False, leader=False, members=(), **more)
    return hosts


def test_good_files_heal_members_that_are_cut_off_one_after_the_other(owner):
    cluster, hosts = owner
    hosts = waits(cut(hosts, *members(cluster)), *members(cluster), live_faults=(LIVE,))
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    assert [s.sls or s.function or s.kind for s in plan.steps] == [
        *[("etcd_ha.certificates",), "etcd_ha_member.handshakes"] * 3,
        "again",
    ]
    assert plan.steps[0].why == LIVE
    assert not any(step.disruptive for step in plan.steps)


def test_two_of_three_cut_off_are_healed_and_not_called_a_lost_quorum(owner):
    cluster, hosts = owner
    two = members(cluster)[1:]
    hosts = waits(cut(hosts, *two), *two, live_faults=(LIVE,))
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    assert [s.targets[0].split(".")[0] for s in plan.steps[:-1:2]] == ["etcd2", "etcd3"]


def test_without_good_files_the_cause_is_named_and_no_recovery(owner):
    cluster, hosts = owner
    hosts = cut(hosts, *members(cluster))
    for minion in members(cluster):
        hosts = change(hosts, minion, pairs=(pair(live_faults=(LIVE,)),))
    plan = planned(cluster, hosts)
    assert "their certificates cut them off" in plan.refusal and LIVE in plan.refusal
    assert "no quorum" not in plan.refusal and "orch.recover" not in plan.refusal
    hosts = waits(hosts, *members(cluster), live_faults=(LIVE,), faults=(EXPIRED,))
    assert EXPIRED in planned(cluster, hosts).refusal


def test_a_lost_quorum_that_certificates_do_not_explain_is_one(owner):
    cluster, hosts = owner
    assert "has no quorum" in planned(cluster, cut(hosts, *members(cluster))).refusal


def test_expired_certificates_of_the_cluster_s_own_ca_are_renewed(cluster):
    hosts = cut(healthy(cluster), *members(cluster))
    for minion in members(cluster):
        expired = Pair("server", "/x", live_faults=(LIVE,), live_kinds=("time",))
        hosts = change(hosts, minion, pairs=(expired,))
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    assert plan.steps[0].sls == ("etcd_ha.prepare",) and cluster.ca_minion in plan.steps[0].targets
    assert [s.sls for s in plan.steps[1:-1]] == [("etcd_ha.certificates",)] * 3
    assert plan.steps[-1].kind == "again"


def test_what_a_renewal_would_not_mend_is_no_reason_for_one(cluster):
    """Otherwise it would be planned again and again."""
    hosts = cut(healthy(cluster), *members(cluster))
    for minion in members(cluster):
        hosts = change(hosts, minion, pairs=(Pair("server", "/x", live_faults=("is lax",)),))
    assert "has no quorum" in planned(cluster, hosts).refusal


def test_members_that_do_not_know_the_ca_on_disk_start_together(owner):
    cluster, hosts = owner
    hosts = cut(hosts, *members(cluster), pending=("trust",))
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    (step, again) = plan.steps
    assert "restart etcd1, etcd2, etcd3 together" in step.title and again.kind == "again"


def test_with_another_ca_own_certificates_come_one_by_one(owner):
    cluster, hosts = owner
    for minion in cluster.hosts:
        hosts = change(hosts, minion, authorities={FILE: NEW})
    plan = planned(cluster, waits(hosts, *cluster.hosts))
    assert plan.refusal == ""
    issued = [s for s in plan.steps if s.stage.get("trust") == "issued" and s.sls]
    assert [len(step.targets) for step in issued] == [1, 1, 1, 1]
    order = [step.title for step in plan.steps]
    for one, following in itertools.pairwise(issued[:3]):
        between = plan.steps[order.index(one.title) + 1 : order.index(following.title)]
        assert [step.function for step in between] == ["etcd_ha_member.handshakes"]


def test_both_cas_in_the_file_are_trusted_before_any_certificate_changes(owner):
    """A bundle of old and new, with certificates of the old one still: one round of restarts."""
    cluster, hosts = owner
    both = dataclasses.replace(
        NEW,
        certificates=NEW.certificates | OURS.certificates,
        authorities=NEW.authorities | OURS.signers,
    )
    for minion in cluster.hosts:
        hosts = change(hosts, minion, authorities={FILE: both})
    plan = planned(cluster, hosts)
    assert plan.refusal == ""
    assert sum(step.disruptive for step in plan.steps) == 3
    assert not [step for step in plan.steps if step.stage.get("trust")]
    trust = Trust(both.certificates, OURS.signers)
    for minion in members(cluster):
        hosts = change(hosts, minion, trust=trust)
    hosts = change(hosts, "lb.example.com", balancer_trust=trust)
    assert planned(cluster, hosts).steps == ()


# Clocks


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        ({"etcd1": (-0.4, 0.1), "etcd2": (-0.2, 0.2)}, ""),
        (
            {"etcd1": (4.1, 4.6), "etcd2": (-0.2, 0.2)},
            "clock of etcd1 is 4.1 s or more ahead of the",
        ),
        ({"etcd2": (-9.0, -3.5)}, "clock of etcd2 is 3.5 s or more behind the master's"),
        # An answer that took long proves nothing.
        ({"etcd2": (-6.0, 1.0), "etcd1": (-1.0, 6.0)}, ""),
        (
            {"etcd1": (1.4, 1.6), "etcd3": (-1.5, -1.2)},
            "etcd1 is 2.6 s or more ahead of that of etcd3",
        ),
    ],
)
def test_clocks_are_named_only_where_they_are_sure_to_differ(owner, ahead, says):
    cluster, hosts = owner
    for name, clock in ahead.items():
        hosts = change(hosts, f"{name}.example.com", clock=clock)
    plan = planned(cluster, hosts)
    assert plan.steps == () and plan.refusal == ""
    told = "".join(plan.warnings)
    assert says in told and bool(told) == bool(says)
    assert not says or "timedatectl" in told
