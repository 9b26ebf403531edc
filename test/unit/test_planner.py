"""The planner by example: bootstrap, in sync, drift, and what it refuses."""

import dataclasses

import etcd_ha_convergence
import etcd_ha_environment
import etcd_ha_planner
import etcd_ha_rows
import etcd_ha_stages
import etcd_ha_steps
import pytest
from etcd_ha_observed import Observed, Trust, Wanted
from etcd_ha_pem import Bundle

DIGEST = "d"
NEWEST_3_5 = etcd_ha_stages.NEWEST["3.5"]
CA_FILE = "/etc/pki/etcd_ha/main/ca.crt"
CA = Bundle(frozenset({"crt"}), frozenset({"ca"}), 3000)
OURS = Trust(CA.certificates, CA.authorities)


def record(cluster, member):
    """What a host keeps of a member whose id is its name."""
    own = {"cluster": cluster.name, "state": "bootstrapped", "data_dir": "/var/lib/etcd"}
    return {**own, "wal_dir": "", "cluster_id": "c1", "member_id": member.name}


def healthy(cluster, leader="etcd1"):
    """What a cluster in sync looks like."""
    listed = tuple(
        {"id": m.name, "name": m.name, "peer_urls": [cluster.peer_url(m)], "learner": False}
        for m in cluster.members
    )
    hosts = {
        member.minion: Observed(
            minion=member.minion,
            digest=DIGEST,
            active=True,
            healthy=True,
            has_data=True,
            record=record(cluster, member),
            running=etcd_ha_environment.variables(cluster, member),
            version=cluster.version,
            cluster_id="c1",
            member_id=member.name,
            leader=member.name == leader,
            revision=7,
            members=listed,
            ca=cluster.authority,
            trust=OURS,
        )
        for member in cluster.members
    }
    for balancer in cluster.balancers:
        hosts[balancer.minion] = Observed(
            balancer.minion, DIGEST, balancer_healthy=True, balancer_trust=OURS
        )
    hosts[cluster.ca_minion] = Observed(
        cluster.ca_minion, DIGEST, policies="p", authorities={CA_FILE: CA}
    )
    return hosts


def blank(cluster):
    return {minion: Observed(minion) for minion in cluster.hosts}


def wanted(cluster, recorded=True):
    managed = {
        m.minion: {"name": m.name, "peer_url": cluster.peer_url(m)}
        for m in (cluster.members if recorded else ())
    }
    digests = dict.fromkeys(cluster.hosts, DIGEST)
    return Wanted(digests, {cluster.ca_minion: "p"}, recorded, managed)


def change(hosts, minion, **values):
    return {**hosts, minion: dataclasses.replace(hosts[minion], **values)}


def test_blank_hosts_are_bootstrapped_together_once(cluster):
    plan = etcd_ha_planner.plan(cluster, blank(cluster), wanted(cluster, recorded=False))
    assert not plan.refusal
    assert [step.action for step in plan.steps] == ["none", "bootstrap", "none"]
    # A balancer's packages come beside the members' start.
    assert set(plan.steps[0].targets) == set(cluster.hosts) - {"lb.example.com"}
    assert set(plan.steps[1].targets) == set(cluster.hosts) - {"ca.example.com"}


def test_a_cluster_in_sync_needs_no_step(cluster):
    plan = etcd_ha_planner.plan(cluster, healthy(cluster), wanted(cluster))
    assert (plan.refusal, plan.steps) == ("", ())
    assert plan.summary == "3 members, leader etcd1, healthy, revision 7"


@pytest.fixture
def half_bootstrapped(cluster):
    """A bootstrap in which the last member failed, so that no run came to the balancer."""
    hosts = change(healthy(cluster), "lb.example.com", balancer_healthy=False, digest="")
    blank = {"active": False, "healthy": False, "has_data": False, "running": {}, "members": ()}
    failed = {**hosts["etcd3.example.com"].record, "state": "bootstrapping"}
    return change(hosts, "etcd3.example.com", **blank, record=failed)


def test_clients_are_served_before_a_member_that_failed_is_tried_again(cluster, half_bootstrapped):
    plan = etcd_ha_planner.plan(cluster, half_bootstrapped, wanted(cluster))
    told = [step.title for step in plan.steps if step.action != "none" or "balancer" in step.title]
    at = next(i for i, title in enumerate(told) if "configure the balancer lb" in title)
    assert "replace etcd3" in told[at + 1] and not plan.refusal
    assert sum("configure the balancer" in title for title in told) == 1
    (why,) = {step.why for step in plan.steps if "replace etcd3" in step.title}
    assert why == "it holds no data: its first start failed"


def test_a_balancer_that_was_set_up_once_has_its_turn_after_the_members(cluster, half_bootstrapped):
    """It may be the members that it cannot reach."""
    hosts = change(half_bootstrapped, "lb.example.com", balancer_of="main")
    told = [step.title for step in etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps]
    at = [next(i for i, t in enumerate(told) if w in t) for w in ("replace", "configure the bal")]
    assert at == sorted(at), told


@pytest.mark.parametrize(
    ("values", "title"),
    [
        # A replacement that failed halfway: etcd3 holds data, and has not told its name yet.
        ({"active": False, "healthy": False}, "main: promote etcd3 once caught up"),
        (
            {"active": False, "healthy": False, "has_data": False, "record": {}},
            "main: start etcd3 and let it catch up",
        ),
    ],
)
def test_a_learner_that_has_not_started_has_a_name_in_the_plan(cluster, values, title):
    hosts = healthy(cluster)
    third = {"id": "etcd3", "name": "", "learner": True, "started": False}
    listed = hosts["etcd1.example.com"].members
    listed = (*listed[:2], {**third, "peer_urls": listed[2]["peer_urls"]})
    for member in cluster.members:
        hosts = change(hosts, member.minion, members=listed)
    hosts = change(hosts, "etcd3.example.com", **values, learner=True)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert title in [step.title for step in plan.steps], plan


def test_many_changed_settings_are_counted_in_the_title_and_shown_below_it(cluster):
    changed = {"ETCD_HEARTBEAT_INTERVAL": "90", "ETCD_ELECTION_TIMEOUT": "900"}
    hosts = healthy(cluster)
    running = {**hosts["etcd2.example.com"].running, **changed}
    hosts = change(hosts, "etcd2.example.com", running=running, digest="old")
    (step,) = (
        s for s in etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps if s.disruptive
    )
    assert step.title == "main: etcd2: apply 2 settings, restart (follower), then wait"
    assert step.details == [f"{name} {value} -> unset" for name, value in sorted(changed.items())]


def test_drift_rolls_one_by_one_the_leader_last(cluster):
    hosts = healthy(cluster, leader="etcd1")
    for member in cluster.members:
        running = {**hosts[member.minion].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
        hosts = change(hosts, member.minion, running=running, digest="old")
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    rolled = [step for step in plan.steps if step.disruptive]
    assert [step.targets[0].split(".")[0] for step in rolled] == ["etcd2", "etcd3", "etcd1"]
    assert "move leadership to etcd2" in rolled[-1].title
    assert "ETCD_HEARTBEAT_INTERVAL 90 -> unset" in rolled[0].title


def test_only_the_members_that_differ_are_touched(cluster):
    hosts = change(healthy(cluster), "etcd3.example.com", changed_files=("/etc/default/etcd",))
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert {t for step in plan.steps[:-1] for t in step.targets} == {"etcd3.example.com"}


def test_the_unhealthy_go_first(cluster):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, digest="old")
    hosts = change(hosts, "etcd3.example.com", healthy=False, active=False)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps[1].targets == ("etcd3.example.com",)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("all data lost", "not bootstrapped again"),
        ("two of three wiped", "have no quorum"),
        ("a host is silent", "did not answer"),
        ("foreign record", "of the cluster other"),
        ("two cluster ids", "different clusters"),
        ("no quorum", "has no quorum"),
        ("unknown member", "remove_unknown"),
        ("an older version", "cannot be taken down"),
        ("the CA is gone", "have a new CA made"),
        ("the CA's host was made anew", "have a new CA made"),
        ("the CA's file is broken", "ca.crt holds no certificate (x) on ca.example.com"),
        ("the CA's file is broken, and was never marked", "ca.crt holds no certificate (x) on"),
        ("two minors down", "cannot be taken down"),
        ("two silent ones shall leave at once", "cannot be taken out"),
        ("the CA's key is gone", "put the key back from a backup"),
    ],
)
def test_what_would_cost_data_or_quorum_is_refused(cluster, what, says):
    hosts, known = healthy(cluster), wanted(cluster)
    one, two, three = (member.minion for member in cluster.members)
    gone = {"has_data": False, "active": False, "healthy": False, "members": (), "cluster_id": ""}
    if what == "all data lost":
        for minion in (one, two, three):
            hosts = change(hosts, minion, record={}, **gone)
    elif what == "two of three wiped":
        hosts = change(change(hosts, one, **gone), two, **gone)
        hosts = change(hosts, three, healthy=False)
    elif what == "a host is silent":
        del hosts[two]
    elif what == "foreign record":
        hosts = change(hosts, one, record={"cluster": "other", "state": "bootstrapped"})
    elif what == "two cluster ids":
        hosts = change(hosts, one, cluster_id="c2")
    elif what == "no quorum":
        hosts = change(change(hosts, one, healthy=False), two, healthy=False)
    elif what == "unknown member":
        stranger = {"id": "x", "name": "x", "peer_urls": ["https://10.0.0.9:2380"]}
        hosts = change(hosts, one, members=(*hosts[one].members, stranger))
    elif what.startswith("the CA is gone"):
        lost = tuple(f"/etc/pki/etcd_ha/main/ca.{end}" for end in ("crt", "key"))
        hosts = change(hosts, cluster.ca_minion, changed_files=lost, authorities={})
    elif what.startswith("the CA's file is broken"):
        path = "/etc/pki/etcd_ha/main/ca.crt"
        broken = {path: f"{path} holds no certificate (x)"}
        marked = () if "never" in what else (path,)
        hosts = change(
            hosts,
            cluster.ca_minion,
            changed_files=marked,
            authorities={},
            broken_authorities=broken,
        )
    elif what == "the CA's host was made anew":
        hosts[cluster.ca_minion] = Observed(cluster.ca_minion)
    elif what == "an older version":
        cluster = dataclasses.replace(cluster, version="3.4.23")
        hosts = change(hosts, one, version="3.5.33")
    elif what == "two minors down":
        cluster = dataclasses.replace(cluster, version="3.5.33")
        hosts = change(hosts, one, version="3.7.1")
    elif what == "two silent ones shall leave at once":
        cluster = dataclasses.replace(cluster, members=cluster.members[:1])
        del hosts[two], hosts[three]
    elif what == "the CA's key is gone":
        lost = ("/etc/pki/etcd_ha/main/ca.key",)
        hosts = change(hosts, cluster.ca_minion, changed_files=lost)
    plan = etcd_ha_planner.plan(cluster, hosts, known)
    assert says in plan.refusal
    assert plan.steps == ()


def test_a_restart_that_would_break_quorum_is_refused(cluster):
    hosts = change(healthy(cluster), "etcd1.example.com", healthy=False)
    for minion in ("etcd2.example.com", "etcd3.example.com"):
        running = {**hosts[minion].running, "ETCD_HEARTBEAT_INTERVAL": "90"}
        hosts = change(hosts, minion, running=running)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    # The unhealthy one is healed first; only after it the others may follow.
    assert plan.steps[1].targets == ("etcd1.example.com",)


def test_every_step_has_a_title_of_its_own(cluster):
    """An exchanged member and a newer release need the balancers twice."""
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, version="3.6.14")
    for balancer in cluster.balancers:
        hosts = change(hosts, balancer.minion, digest="old")
    hosts["etcd4.example.com"] = Observed("etcd4.example.com")
    known = wanted(cluster)
    fourth = dataclasses.replace(
        cluster.members[2], minion="etcd4.example.com", name="etcd4", address="10.0.0.14"
    )
    members = (*cluster.members[:2], fourth)
    cluster = dataclasses.replace(cluster, version="3.7.1", members=members)
    plan = etcd_ha_planner.plan(cluster, hosts, known)
    titles = [step.title for step in plan.steps]
    assert sum("configure the balancer" in title for title in titles) == 2, titles
    assert len(set(titles)) == len(titles), titles


def moving(cluster, port=3379):
    """A cluster in sync, and its pillar with another client port; the balancer is to be changed."""
    hosts = change(healthy(cluster), "lb.example.com", digest="old")
    listed = hosts["etcd1.example.com"].members
    urls = {m.name: [cluster.client_url(m)] for m in cluster.members}
    listed = tuple({**entry, "client_urls": urls[entry["name"]]} for entry in listed)
    for member in cluster.members:
        hosts = change(hosts, member.minion, members=listed)
    return hosts, with_port(cluster, port)


def with_port(cluster, port):
    members = [
        dataclasses.replace(
            m, settings={**m.settings, "ports": {**m.settings["ports"], "client": port}}
        )
        for m in cluster.members
    ]
    return dataclasses.replace(cluster, members=tuple(members))


def test_balancers_know_both_endpoints_while_members_move(cluster):
    hosts, cluster = moving(cluster)
    steps = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps
    ahead, last = steps[1], steps[-2]
    assert ahead.targets == last.targets == ("lb.example.com",)
    assert dict(ahead.leads_to) == {
        "etcd1.example.com": ["192.168.200.52:2379"],
        "etcd2.example.com": ["192.168.200.62:2379"],
        "etcd3.example.com": ["192.168.200.63:2379"],
    }
    assert [step.action for step in steps[2:-2] if step.kind == "state"] == ["restart"] * 3
    assert not last.leads_to and "configure the balancer" in last.title


def test_a_sick_members_endpoint_is_not_kept(cluster):
    hosts, cluster = moving(cluster)
    hosts = change(hosts, "etcd3.example.com", healthy=False, members=())
    steps = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps
    # It is healed first, at its new endpoint.
    assert steps[1].targets == ("etcd3.example.com",)
    (ahead,) = [step for step in steps if step.leads_to]
    assert ahead.leads_to["etcd3.example.com"] == ["192.168.200.63:3379"]


def test_balancers_are_changed_once_where_no_endpoint_changes(cluster):
    hosts, _ = moving(cluster)
    steps = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps
    assert [step.leads_to for step in steps if step.targets == ("lb.example.com",)] == [{}, {}]


def test_between_http_and_https_balancers_change_over_once(cluster):
    """A check speaks one of the two, and members at their new endpoints both."""
    hosts, cluster = moving(cluster)
    plain = {**cluster.settings, "tls": {**cluster.settings["tls"], "enabled": False}}
    cluster = dataclasses.replace(cluster, settings=plain)
    steps = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps
    assert not any(step.leads_to for step in steps)


def test_strange_data_is_never_bootstrapped_over(cluster):
    hosts = change(blank(cluster), "etcd2.example.com", has_data=True)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster, recorded=False))
    assert "already holds etcd data" in plan.refusal


def test_an_interrupted_bootstrap_goes_on(cluster):
    hosts = change(
        blank(cluster),
        "etcd2.example.com",
        has_data=True,
        record={"cluster": "main", "state": "bootstrapping"},
    )
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster, recorded=False))
    assert plan.steps[1].action == "bootstrap"


def test_all_stopped_members_start_together(cluster):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(
            hosts, member.minion, active=False, healthy=False, leader=False, running={}, members=()
        )
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert not plan.refusal
    assert set(plan.steps[1].targets) == {m.minion for m in cluster.members}
    assert plan.steps[1].action == "restart"


def test_the_text_says_what_and_why(cluster):
    plan = etcd_ha_planner.plan(cluster, blank(cluster), wanted(cluster, recorded=False))
    told = etcd_ha_steps.text([plan])
    assert "main: 3 members, not bootstrapped" in told
    assert "  1. prepare etcd1, etcd2, etcd3, ca" in told


def test_a_certificate_inside_its_window_is_renewed_on_its_host_alone(cluster):
    hosts = change(healthy(cluster), "etcd2.example.com", days_left=89)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert plan.steps[1].targets == ("etcd2.example.com",)
    assert "expires in 89 days" in plan.steps[1].why
    hosts = change(healthy(cluster), "etcd2.example.com", days_left=91)
    assert etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps == ()


def test_what_waits_on_disk_is_told_as_a_restart(cluster):
    hosts = change(healthy(cluster), "etcd2.example.com", pending=("unit",), digest="old")
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert "restart it for its new unit" in plan.steps[1].title and plan.steps[1].disruptive


def but_looks(plan):
    """The titles without what the balancers are asked between two members."""
    return [title for title in titles(plan) if not title.startswith("see that lb finds")]


def titles(plan):
    assert not plan.refusal
    return [step.title.partition(": ")[2] for step in plan.steps]


def test_a_wiped_member_is_taken_out_and_joins_again(cluster):
    hosts = change(
        healthy(cluster),
        "etcd2.example.com",
        has_data=False,
        active=False,
        healthy=False,
        members=(),
        cluster_id="",
        member_id="",
    )
    assert titles(etcd_ha_planner.plan(cluster, hosts, wanted(cluster)))[1:-1] == [
        "replace etcd2: out of the list, in again as a learner"
    ]


def test_new_members_join_one_by_one_before_the_balancer_gets_them(cluster):
    hosts, known = healthy(cluster), wanted(cluster)
    new = [
        dataclasses.replace(cluster.members[0], minion=f"etcd{n}.example.com", name=f"etcd{n}")
        for n in (4, 5)
    ]
    new = [dataclasses.replace(m, address=f"192.168.200.7{m.name[-1]}") for m in new]
    cluster = dataclasses.replace(cluster, members=(*cluster.members, *new))
    for member in new:
        hosts[member.minion] = Observed(member.minion)
    hosts = change(hosts, "lb.example.com", digest="old")
    assert titles(etcd_ha_planner.plan(cluster, hosts, known))[1:-1] == [
        "add etcd4 as a learner, promote it once caught up",
        "add etcd5 as a learner, promote it once caught up",
        "configure the balancer lb",
    ]


def test_a_leaving_leader_is_drained_hands_over_and_is_set_aside(cluster):
    hosts, known = healthy(cluster, leader="etcd3"), wanted(cluster)
    cluster = dataclasses.replace(cluster, members=cluster.members[:2])
    hosts = change(hosts, "lb.example.com", digest="old")
    assert titles(etcd_ha_planner.plan(cluster, hosts, known))[1:-1] == [
        "configure the balancer lb",
        "move leadership away, take etcd3 out of the member list",
        "stop etcd3 and set its data aside on etcd3.example.com",
    ]


def test_a_dead_host_that_the_pillar_dropped_leaves_before_the_new_one_joins(cluster):
    hosts, known = healthy(cluster), wanted(cluster)
    new = dataclasses.replace(
        cluster.members[2], minion="etcd4.example.com", name="etcd4", address="192.168.200.74"
    )
    cluster = dataclasses.replace(cluster, members=(*cluster.members[:2], new))
    del hosts["etcd3.example.com"]
    hosts["etcd4.example.com"] = Observed("etcd4.example.com")
    assert titles(etcd_ha_planner.plan(cluster, hosts, known))[1:-1] == [
        "take etcd3 out of the member list",
        "add etcd4 as a learner, promote it once caught up",
    ]


def test_an_upgrade_goes_minor_by_minor_after_a_snapshot(cluster):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, version="3.4.23", digest="old")
    found = but_looks(etcd_ha_planner.plan(cluster, hosts, wanted(cluster)))
    assert found[1:5] == [
        "take a snapshot of 3.4.23 and verify it",
        f"etcd2: upgrade 3.4.23 -> {NEWEST_3_5} (follower), then wait until it has caught up",
        f"etcd3: upgrade 3.4.23 -> {NEWEST_3_5} (follower), then wait until it has caught up",
        f"etcd1: move leadership to etcd2, upgrade 3.4.23 -> {NEWEST_3_5} (leader), "
        "then wait until it has caught up",
    ]
    assert found[5] == "see that 3.6 can read the log of etcd1, etcd2, etcd3"
    assert [title.partition(":")[0] for title in found[6:9]] == ["etcd1", "etcd3", "etcd2"]
    assert all(f"{NEWEST_3_5} -> 3.6.14" in title for title in found[6:9])


def test_an_interrupted_upgrade_goes_on_where_it_stopped(cluster):
    hosts = healthy(cluster)
    hosts = change(hosts, "etcd2.example.com", version=NEWEST_3_5, digest="old")
    hosts = change(hosts, "etcd3.example.com", version="3.4.23", digest="old")
    found = [t for t in titles(etcd_ha_planner.plan(cluster, hosts, wanted(cluster))) if "->" in t]
    assert [(t.partition(":")[0], t.partition("upgrade ")[2][:16]) for t in found] == [
        ("etcd3", f"3.4.23 -> {NEWEST_3_5}"),
        ("etcd2", f"{NEWEST_3_5} -> 3.6.14"),
        ("etcd3", f"{NEWEST_3_5} -> 3.6.14"),
    ]


def test_from_plain_to_tls_goes_by_way_of_both(cluster):
    plain = dataclasses.replace(
        cluster, settings={**cluster.settings, "tls": {**cluster.settings["tls"], "enabled": False}}
    )
    hosts = healthy(cluster)
    for member in cluster.members:
        running = etcd_ha_environment.variables(plain, member)
        listed = tuple(
            {"id": m.name, "name": m.name, "peer_urls": [plain.peer_url(m)], "learner": False}
            for m in cluster.members
        )
        hosts = change(hosts, member.minion, running=running, digest="old", members=listed)
    found = but_looks(etcd_ha_planner.plan(cluster, hosts, wanted(cluster)))
    assert [t.partition(" speak ")[2].partition(",")[0] for t in found[1:-1]] == [
        *["http -> http and https"] * 3,
        *["http and https -> https"] * 3,
    ]


# Gates that healing and the order of the steps leave nothing to do for: each is looked at alone.


def membership(voters, healthy, learners=0):
    from etcd_ha_membership import Membership

    entries = {f"m{n}": {"id": f"m{n}"} for n in range(voters)}
    entries |= {f"l{n}": {"id": f"l{n}", "learner": True} for n in range(learners)}
    return Membership(entries, {f"m{n}" for n in range(healthy)})


@pytest.mark.parametrize(
    ("voters", "healthy", "one", "spare", "remove", "promote"),
    [
        (3, 3, "m0", True, True, True),
        (3, 2, "m0", False, False, True),
        (3, 2, "m2", True, True, True),
        (3, 1, "m2", False, False, False),
        (2, 2, "m0", False, True, True),
        (1, 1, "m0", False, False, True),
        (5, 3, "m0", False, False, True),
        (5, 3, "m4", True, True, True),
        (4, 3, "m0", False, True, True),
    ],
)
def test_what_a_cluster_can_spare(voters, healthy, one, spare, remove, promote):
    cluster = membership(voters, healthy, learners=1)
    assert cluster.can_spare(one) is spare
    assert cluster.can_remove(one) is remove
    assert cluster.can_promote() is promote


def test_no_restart_without_a_quorum_of_the_others(cluster):
    hosts = healthy(cluster)
    listed = hosts["etcd1.example.com"].members
    found = etcd_ha_convergence.Convergence(cluster, hosts, wanted(cluster), listed)
    found.gate("etcd1.example.com")
    found.membership.healthy.discard("etcd2")
    with pytest.raises(etcd_ha_steps.Refused, match="cannot be restarted"):
        found.gate("etcd1.example.com")


def test_an_interrupted_removal_is_finished(cluster):
    hosts, known = healthy(cluster), wanted(cluster)
    cluster = dataclasses.replace(cluster, members=cluster.members[:2])
    for minion in ("etcd1.example.com", "etcd2.example.com"):
        left = tuple(m for m in hosts[minion].members if m["name"] != "etcd3")
        hosts = change(hosts, minion, members=left)
    hosts = change(
        hosts, "etcd3.example.com", active=False, healthy=False, members=(), member_id=""
    )
    # Also where it ended behind the data, before the record.
    for left in (hosts, change(hosts, "etcd3.example.com", has_data=False)):
        # Nobody whom the pillar names is touched: nothing is to be prepared, on no host.
        assert titles(etcd_ha_planner.plan(cluster, left, known)) == [
            "stop etcd3 and set its data aside on etcd3.example.com",
            "verify a put and a get through every balancer",
        ]


def test_who_joins_is_told_where_the_others_serve_by_then(cluster, pillar, defaults):
    import etcd_ha_topology

    hosts, known = healthy(cluster), wanted(cluster)
    pillar["clusters"]["main"]["ports"] = {"client": 2479, "peer": 2480}
    pillar["clusters"]["main"]["members"]["etcd4.example.com"] = {"address": "192.168.200.64"}
    moved = etcd_ha_topology.read(pillar, defaults)["main"]
    hosts["etcd4.example.com"] = Observed("etcd4.example.com")
    (joins,) = (s for s in etcd_ha_planner.plan(moved, hosts, known).steps if s.action == "join")
    assert len(joins.endpoints.split(",")) == 3
    assert all(url.endswith(":2479") for url in joins.endpoints.split(","))


# What a setting breaks it breaks at one member


def rolling(cluster, **balancer):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, digest="old")
    hosts = change(hosts, "lb.example.com", **balancer) if balancer else hosts
    return etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps


def test_the_balancers_see_a_member_up_before_the_next_one(cluster):
    steps = [s for s in rolling(cluster) if s.kind == "seen" or s.action == "restart"]
    assert [step.kind for step in steps] == ["state", "seen", "state", "seen", "state"]
    for before, look in zip(steps[::2], steps[1::2], strict=False):
        assert look.targets == ("lb.example.com",)
        assert look.arguments == {"minions": list(before.targets)}


def test_a_balancer_that_is_not_well_itself_is_not_asked(cluster):
    assert not [s for s in rolling(cluster, balancer_healthy=False) if s.kind == "seen"]


def test_a_look_and_the_end_reach_the_balancers(cluster):
    rows = [etcd_ha_rows._row(cluster, step, "source") for step in rolling(cluster)]
    looks = [row for row in rows if row["kind"] == "verify"]
    assert len(looks) == 3
    assert looks[0]["arguments"] == {
        "former": "",
        "balancers": ["lb.example.com"],
        "minions": ["etcd2.example.com"],
    }
    assert looks[-1]["arguments"]["balancers"] == ["lb.example.com"]
    assert looks[-1]["arguments"]["speaker"] == "etcd1.example.com"
    assert looks[-1]["arguments"]["endpoints"] == ["https://192.168.200.56:2379"]
    renamed = dataclasses.replace(cluster, former="main")
    last = etcd_ha_rows._row(renamed, rolling(cluster)[-1], "source")
    assert last["arguments"]["former"] == "main"


def test_a_check_from_before_counts_in_a_bootstrap_alone(cluster):
    """No etcd was there before, whose answer it could have been."""
    last = etcd_ha_planner.plan(cluster, blank(cluster), wanted(cluster, recorded=False)).steps[-1]
    assert last.kind == "verify" and last.arguments == {"fresh": False}
    assert etcd_ha_rows._row(cluster, last, "source")["arguments"]["fresh"] is False
    looks = [s for s in rolling(cluster) if s.kind in ("verify", "seen")]
    assert looks and all("fresh" not in step.arguments for step in looks)
    assert all("fresh" not in etcd_ha_rows._row(cluster, s, "source")["arguments"] for s in looks)


def without_clients(cluster, *some, **values):
    """These members run with a setting that is gone from the pillar, and serve no client."""
    hosts = healthy(cluster)
    for minion in some:
        running = {**hosts[minion].running, "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME": "x"}
        silent = {"healthy": False, "leader": False, "members": (), "version": "", "voting": True}
        hosts = change(hosts, minion, running=running, cluster_id="", **{**silent, **values})
    return hosts


def test_members_that_vote_but_serve_no_client_get_their_settings_one_by_one(cluster):
    everyone = [member.minion for member in cluster.members]
    hosts = without_clients(cluster, *everyone)
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    assert not plan.refusal and [step.kind for step in plan.steps] == ["state", "state", "again"]
    assert plan.steps[1].targets == (everyone[0],)
    assert "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME x -> unset" in plan.steps[1].title
    hosts = without_clients(cluster, *everyone[1:])
    plan = etcd_ha_planner.plan(cluster, hosts, wanted(cluster))
    restarts = [step.targets[0] for step in plan.steps if step.action == "restart"]
    assert not plan.refusal and restarts[:2] == everyone[1:]


def test_a_vote_that_is_needed_is_not_taken_away(cluster):
    one, two, three = (member.minion for member in cluster.members)
    hosts = without_clients(cluster, one, two)
    hosts = change(hosts, three, healthy=False, leader=False, members=(), has_data=False)
    assert "its vote is needed" in etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).refusal


def test_members_that_hear_nobody_for_a_setting_are_restarted_together(cluster):
    everyone = [member.minion for member in cluster.members]
    hosts = without_clients(cluster, *everyone, voting=False)
    steps = etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).steps
    assert steps[1].targets == tuple(everyone) and "start or restart" in steps[1].title


def test_members_that_run_as_the_pillar_says_are_not_restarted_without_a_quorum(cluster):
    hosts = healthy(cluster)
    for member in cluster.members:
        hosts = change(hosts, member.minion, healthy=False, leader=False, members=())
    assert "nothing is restarted" in etcd_ha_planner.plan(cluster, hosts, wanted(cluster)).refusal
