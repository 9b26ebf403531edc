"""Every small cluster in every combination of conditions: the planner's promises hold in each.

The simulation knows only what etcd's documentation says of quorum: a cluster of N voters works
while more than half of them do.
"""

import itertools

import etcd_ha_environment
import etcd_ha_planner
import etcd_ha_topology
import pytest
from etcd_ha_planner import Observed, Wanted

CONDITIONS = ("healthy", "drifted", "stale", "down", "sick", "wiped", "blank")


def make_cluster(size, defaults):
    members = {f"e{n}.x": {"address": f"10.0.0.{n + 1}"} for n in range(size)}
    pillar = {"clusters": {"main": {"members": members, "tls": {"enabled": False}}}}
    return etcd_ha_topology.read(pillar, defaults)["main"]


def observe(cluster, conditions, leader):
    listed = tuple({"peer_urls": [cluster.peer_url(m)]} for m in cluster.members)
    hosts = {}
    for number, (member, condition) in enumerate(zip(cluster.members, conditions, strict=True)):
        alive = condition in ("healthy", "drifted", "stale")
        running = dict(etcd_ha_environment.variables(cluster, member))
        if condition == "drifted":
            running["ETCD_HEARTBEAT_INTERVAL"] = "90"
        record = {"cluster": "main", "state": "bootstrapped"} if condition != "blank" else {}
        hosts[member.minion] = Observed(
            minion=member.minion,
            digest="d" if condition not in ("stale", "blank") else "",
            active=alive or condition == "sick",
            healthy=alive,
            has_data=condition not in ("wiped", "blank"),
            record=record,
            running=running if alive or condition == "sick" else {},
            leader=alive and number == leader,
            members=listed if alive else (),
        )
    return hosts


def simulate(cluster, hosts, plan):
    """Walk the steps and fail at the first moment at which one of ours takes quorum away."""
    up = {minion for minion, host in hosts.items() if host.healthy}
    voters = len(cluster.members)
    for step in plan.steps:
        for minion in step.targets if step.action == "restart" else ():
            assert hosts[minion].has_data, "a member without data was started outside a bootstrap"
            if hosts[minion].active and len(step.targets) > 1:
                raise AssertionError("two members were disrupted in one step")
            if minion in up and step.disruptive and voters >= 3:
                left = len(up - {minion})
                assert left >= voters // 2 + 1, "a restart would have cost the quorum"
            up.add(minion)
    return up


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_no_plan_gives_quorum_or_data_away(size, defaults, record_property):
    cluster = make_cluster(size, defaults)
    digests = {member.minion: "d" for member in cluster.members}
    states = bootstraps = refusals = 0
    # From 4 members on the order of the conditions matters only for ties: combinations will do.
    space = (
        itertools.product(CONDITIONS, repeat=size)
        if size < 4
        else itertools.combinations_with_replacement(CONDITIONS, size)
    )
    for conditions in space:
        for leader, recorded in itertools.product(range(size), (False, True)):
            states += 1
            hosts = observe(cluster, conditions, leader)
            plan = etcd_ha_planner.plan(cluster, hosts, Wanted(digests, {}, recorded))
            assert not (plan.refusal and plan.steps)
            known = recorded or any(
                host.record.get("state") == "bootstrapped" for host in hosts.values()
            )
            if any(step.action == "bootstrap" for step in plan.steps):
                bootstraps += 1
                assert not known, f"a second bootstrap was planned for {conditions}"
                assert not any(host.has_data for host in hosts.values())
                continue
            refusals += bool(plan.refusal)
            alive = simulate(cluster, hosts, plan)
            if not plan.refusal:
                assert alive == set(hosts), f"{conditions} did not end healthy: {plan.steps}"
    record_property("states", states)
    print(f"{size} members: {states} states, {bootstraps} bootstraps, {refusals} refusals")
    assert bootstraps and refusals


@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_is_in_sync_is_left_alone(size, defaults):
    cluster = make_cluster(size, defaults)
    hosts = observe(cluster, ["healthy"] * size, 0)
    digests = {member.minion: "d" for member in cluster.members}
    assert etcd_ha_planner.plan(cluster, hosts, Wanted(digests, {}, True)).steps == ()
