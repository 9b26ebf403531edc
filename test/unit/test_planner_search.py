"""Every small cluster, in every combination of conditions, towards every small desired change.

Each plan is run in a simulated etcd (simulated_etcd.py), first undisturbed, then with one fault
before each of its steps; after a fault the rest of the plan is tried as the orchestrate would, and
then planned anew until nothing is left to do. The promises are checked at every step; see
``Violation``.
"""

import contextlib
import dataclasses
import itertools
import os
import time

import etcd_ha_planner
import etcd_ha_topology
import pytest
from simulated_etcd import NEW_DIGEST, Entry, Host, Stopped, World

CONDITIONS = (
    *("healthy", "drifted", "older", "down", "wiped", "corrupt"),
    *("learner", "unstarted", "absent", "removed", "unreachable"),
)
ROUNDS = 6


def make_cluster(names, defaults, version="3.6.14", tls=False):
    members = {f"{name}.x": {"address": f"10.0.0.{int(name[1:]) + 1}"} for name in names}
    settings = {"members": members, "version": version, "tls": {"enabled": tls}}
    if tls:
        files = {"ca": {"certificate": "/a"}}
        files |= {n: {"certificate": "/a", "key": "/b"} for n in ("server", "peer", "client")}
        settings["tls"] = {"source": "files", "files": files}
    return etcd_ha_topology.read({"clusters": {"main": settings}}, defaults)["main"]


CHANGES = {
    "none": lambda names: {"names": names},
    "one more": lambda names: {"names": (*names, "e8")},
    "two more": lambda names: {"names": (*names, "e8", "e9")},
    "first leaves": lambda names: {"names": names[1:]},
    "two leave": lambda names: {"names": names[2:]},
    "first replaced": lambda names: {"names": (*names[1:], "e8")},
    "minor upgrade": lambda names: {"names": names, "version": "3.7.1"},
    "downgrade": lambda names: {"names": names, "version": "3.5.33"},
    "too far down": lambda names: {"names": names, "version": "3.4.23"},
    "to tls": lambda names: {"names": names, "tls": True},
    "all at once": lambda names: {"names": (*names[1:], "e8"), "version": "3.7.1", "tls": True},
}


def make_world(cluster, conditions, leading):
    """A cluster whose members are in these conditions, as it was converged once before."""
    names = [member.name for member in cluster.members]
    hosts, entries, managed = {}, {}, {}
    for number, (member, condition) in enumerate(zip(cluster.members, conditions, strict=True)):
        one = f"m{number}"
        host = Host(member.minion, member.name, member.address, one, True, record=True)
        host.version, host.digest = "3.6.14", NEW_DIGEST
        entry = Entry(one, member.name, cluster.peer_url(member))
        entries[one] = entry
        managed[member.minion] = {"name": member.name, "peer_url": cluster.peer_url(member)}
        CONDITION[condition](host, entry, entries)
        hosts[member.minion] = host
    for name in ("e8", "e9"):
        if name not in names:
            hosts[f"{name}.x"] = Host(f"{name}.x", name, f"10.0.0.{int(name[1:]) + 1}")
    world = World(hosts, entries, True, True, managed)
    working = world.working
    world.leader = working[min(leading, len(working) - 1)] if world.has_quorum else ""
    return world


def _down(host, entry, entries):
    host.running = False


def _drifted(host, entry, entries):
    host.digest = "old"


def _older(host, entry, entries):
    host.version, host.digest = "3.5.33", "old"


def _wiped(host, entry, entries):
    host.member, host.running = "", False


def _corrupt(host, entry, entries):
    host.corrupt, host.running = True, False


def _learner(host, entry, entries):
    entry.learner = True


def _unstarted(host, entry, entries):
    entry.learner, entry.started = True, False
    host.member, host.running, host.record = "", False, False


def _absent(host, entry, entries):
    del entries[entry.id]
    host.member, host.running, host.record = "", False, False


def _removed(host, entry, entries):
    """Taken out of the list, while its data lies there still."""
    del entries[entry.id]
    host.running = False


def _unreachable(host, entry, entries):
    host.reachable = False


CONDITION = {
    "healthy": lambda host, entry, entries: None,
    "drifted": _drifted,
    "older": _older,
    "down": _down,
    "wiped": _wiped,
    "corrupt": _corrupt,
    "learner": _learner,
    "unstarted": _unstarted,
    "absent": _absent,
    "removed": _removed,
    "unreachable": _unreachable,
}


class Search:
    """Runs plans and counts what it saw."""

    def __init__(self, planner=etcd_ha_planner):
        self.planner = planner
        self.states = self.transitions = self.plans = self.refusals = self.faults = 0

    def plan(self, cluster, world):
        self.plans += 1
        made = self.planner.plan(cluster, world.observe(cluster), world.wanted(cluster))
        assert not (made.refusal and made.steps)
        check_order(made, world)
        self.refusals += bool(made.refusal)
        return made

    def run(self, cluster, world, plan, until=None):
        """Take the steps, as the orchestrate does: it stops at the first that fails."""
        world.remember(cluster, complete=False)
        for step in plan.steps[:until]:
            if step.kind == "again":
                return
            self.transitions += 1
            world.take(cluster, step)
        if until is None:
            world.remember(cluster, complete=True)

    def converge(self, cluster, world):
        """Plan and run until nothing is left, or a refusal; returns the refusal."""
        for _ in range(ROUNDS):
            plan = self.plan(cluster, world)
            if plan.refusal or not plan.steps:
                return plan.refusal
            with contextlib.suppress(Stopped):
                self.run(cluster, world, plan)
        raise AssertionError(f"no end in sight: {[step.title for step in plan.steps]}")


def check_order(plan, world):
    """The leader is the last to be restarted, in the first pass that restarts it.

    With members of several releases each pass restarts other ones; there it is not looked at.
    """
    leading = world.host_of(world.leader)
    if len({host.version for host in world.hosts.values() if host.member}) > 1:
        return
    restarts = [s for s in plan.steps if s.action == "restart" and s.disruptive]
    passes = itertools.groupby(restarts, key=lambda step: sorted(step.stage.items()))
    for _, steps in passes:
        order = [step.targets[0] for step in steps]
        if leading is not None and leading.minion in order:
            assert order.index(leading.minion) == len(order) - 1, "the leader is not the last"
            return


def check_end(cluster, world):
    """The cluster is as the pillar says."""
    listed = {entry.name for entry in world.entries.values() if not entry.learner}
    assert listed == {member.name for member in cluster.members}
    assert len(world.entries) == len(cluster.members), "a learner is left over"
    for member in cluster.members:
        host = world.hosts[member.minion]
        assert world.works(host.member), f"{member.name} does not work"
        assert (host.version, host.transport) == (cluster.version, cluster.scheme)
        assert host.digest == NEW_DIGEST
    for minion, host in world.hosts.items():
        if cluster.member(minion) is None and host.reachable:
            assert not host.running, f"{minion} runs though it left"
            assert not host.member, f"{minion} keeps its data in place though it left"


def may_refuse(cluster, world, refusal):
    """Whether this is a state in which to refuse is right."""
    silent = any(
        m.minion in world.hosts and not world.hosts[m.minion].reachable for m in cluster.members
    )
    if silent:
        return "did not answer" in refusal
    intact = [one for one in world.voters if (h := world.host_of(one)) and h.intact]
    if len(intact) <= len(world.voters) // 2:
        return "quorum" in refusal or "no member holds data" in refusal
    if not world.has_quorum:
        return "quorum" in refusal or "no member holds data" in refusal
    staying = [
        m
        for m in cluster.members
        if world.works(world.hosts[m.minion].member)
        and world.hosts[m.minion].member in world.voters
    ]
    if not staying or not world.has_quorum:
        return any(words in refusal for words in ("none of the pillar's members", "quorum"))
    if cluster.version == "3.4.23":
        return "cannot be taken down" in refusal
    versions = {host.version for host in world.hosts.values() if host.member}
    if cluster.version == "3.5.33" and "3.7.1" in versions:
        return "cannot be taken down" in refusal
    if not world.has_quorum:
        return "quorum" in refusal
    # Members that leave but did not answer count as dead: without them it may be no quorum.
    dark = [h for h in world.hosts.values() if not h.reachable and h.member in world.entries]
    return bool(dark) and any(
        words in refusal
        for words in ("cannot be taken out", "quorum", "cannot be restarted", "cannot join")
    )


def possible(conditions):
    """etcd allows one learner; a cluster has at least one member that is or was a full one."""
    learners = sum(one in ("learner", "unstarted") for one in conditions)
    full = [one for one in conditions if one not in ("learner", "unstarted", "absent", "removed")]
    return learners <= 1 and bool(full)


def space(size):
    """All orders up to three members; beyond, the order counts for ties alone."""
    if size <= 3:
        found = itertools.product(CONDITIONS, repeat=size)
    else:
        found = itertools.combinations_with_replacement(CONDITIONS, size)
    return [conditions for conditions in found if possible(conditions)]


def targets(names, defaults):
    """Every desired change that this cluster can have, as (title, cluster)."""
    for title, change in CHANGES.items():
        wanted = change(names)
        if wanted["names"]:
            yield title, make_cluster(wanted.pop("names"), defaults, **wanted)


def disturb(world, kind, minion):
    host = world.hosts[minion]
    world.faulty = True
    if kind == "killed":
        host.running = False
    elif kind == "wiped":
        host.member, host.running = "", False
    elif kind == "unreachable":
        host.reachable = False


def heal(world):
    for host in world.hosts.values():
        host.reachable = True


FAULTS = ("interrupted", "killed", "wiped", "unreachable")


def with_faults(search, cluster, start, plan):
    """One fault before each step: the rest of the plan meets it, then all is planned anew."""
    for number in range(len(plan.steps) + 1):
        for kind in FAULTS:
            minions = [m for m, h in start.hosts.items() if h.member] or [""]
            for minion in minions if kind != "interrupted" else [""]:
                search.faults += 1
                world = start.copy()
                with contextlib.suppress(Stopped):
                    search.run(cluster, world, plan, until=number)
                had_quorum = world.has_quorum
                if minion:
                    disturb(world, kind, minion)
                    try:
                        rest = dataclasses.replace(plan, steps=plan.steps[number:])
                        search.run(cluster, world, rest)
                    except Stopped:
                        pass
                heal(world)
                world.faulty = False
                refusal = search.converge(cluster, world)
                if refusal:
                    assert may_refuse(cluster, world, refusal) or not had_quorum, refusal
                else:
                    check_end(cluster, world)


def search_all(sizes, defaults, faults_up_to, planner=etcd_ha_planner):
    search = Search(planner)
    for size in sizes:
        names = tuple(f"e{n}" for n in range(size))
        clusters = list(targets(names, defaults))
        old = make_cluster(names, defaults)
        search_strange(search, old)
        for conditions in space(size):
            for leading in {0, size - 1}:
                start = make_world(old, conditions, leading)
                for title, cluster in clusters:
                    search.states += 1
                    told = f"{conditions}, leader {leading}, {title}"
                    try:
                        check(search, cluster, start, size <= faults_up_to and leading == 0)
                    except AssertionError as err:
                        raise AssertionError(f"{told}: {err}") from err
    return search


# What must stop every plan, and what must be bootstrapped


def _record_of_another(world):
    next(iter(world.hosts.values())).owner = "other"


def _another_cluster_id(world):
    next(iter(world.hosts.values())).cluster_id = "d"


def _unknown_member(world):
    world.entries["x"] = Entry("x", "x", "http://10.0.9.9:2380")
    world.hosts["x.x"] = Host("x.x", "x", "10.0.9.9", "x", True, reachable=False)


def _never_seen_with_data(world):
    world.recorded, world.managed = False, {}
    for host in world.hosts.values():
        host.record, host.running = False, False
        world.entries.clear()


def _removed_stranger(world):
    host = list(world.hosts.values())[2]
    del world.entries[host.member]
    host.running, host.record = False, False


STRANGE = {
    "is in": (_another_cluster_id, 2),
    "holds a member of the cluster other": (_record_of_another, 1),
    "neither the pillar nor the last converge": (_unknown_member, 2),
    "already holds etcd data that": (_never_seen_with_data, 1),
    "already holds etcd data": (_removed_stranger, 3),
}


def search_strange(search, cluster):
    size = len(cluster.members)
    for words, (make_strange, least) in STRANGE.items():
        if size < least:
            continue
        world = make_world(cluster, ["healthy"] * size, 0)
        make_strange(world)
        refusal = search.plan(cluster, world).refusal
        assert words in refusal, f"{words!r} is not in {refusal!r}"
        search.states += 1
    search_blank(search, cluster)


def search_blank(search, cluster):
    """Blank hosts are bootstrapped, once; any mark of an earlier time forbids it."""
    for recorded in (False, True):
        for marked in (None, *[m.minion for m in cluster.members]):
            world = make_world(cluster, ["absent"] * len(cluster.members), 0)
            world.recorded, world.managed = recorded, {}
            world.bootstrapped = recorded or marked is not None
            if marked:
                world.hosts[marked].record = True
            refusal = search.converge(cluster, world)
            search.states += 1
            assert ("bootstrapped once" in refusal) == world.bootstrapped or not refusal
            if not refusal:
                check_end(cluster, world)


def check(search, cluster, start, faults):
    first = search.plan(cluster, start.copy())
    world = start.copy()
    refusal = search.converge(cluster, world)
    if refusal:
        assert may_refuse(cluster, world, refusal), f"refused without need: {refusal}"
    else:
        check_end(cluster, world)
    if faults and first.steps:
        with_faults(search, cluster, start, first)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_every_plan_keeps_its_promises(size, defaults):
    began = time.monotonic()
    search = search_all([size], defaults, faults_up_to=int(os.environ.get("ETCD_HA_FAULTS", 2)))
    print(
        f"{size} members: {search.states} states, {search.plans} plans, "
        f"{search.transitions} steps, {search.faults} faults, {search.refusals} refusals "
        f"in {time.monotonic() - began:.1f} s"
    )
    assert search.states and search.refusals
