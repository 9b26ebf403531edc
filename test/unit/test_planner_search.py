"""Every small cluster, in every combination of conditions, towards every small desired change.

A graph search. A node is a simulated cluster (simulated_etcd.py); its edges are the steps of its
plan, and at each point between two steps every single fault: the rest of the plan meets it as the
orchestrate would, stops where a step fails, the fault passes, and it is planned anew until nothing
is left to do. Each world is planned once for a desired change, however many ways lead to it
(``World.settle`` says when two are the same). The promises are checked at every step; see
``Violation``.

What is covered:

- One to three members: every order of the conditions, every member that can lead, every fault.
  Here one may hang, too: with it, a step that starts the others may fail without a fault.
- Four and five: members that the change treats alike are taken in one order of their conditions,
  and of those in the same condition one leads. That order decides nothing but ties, and each tie
  is met both ways by three members. Every fault where at most two of four members, or one of
  five, are in another condition than healthy; the others are planned and run to their end without.

``ETCD_HA_SEARCH=wide`` has the faults with one more such member, for minutes more, and
``ETCD_HA_SEARCH=everything`` lifts these limits, and takes hours.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import time

import etcd_ha_planner
import etcd_ha_topology
import pytest
from simulated_etcd import NEW_DIGEST, Entry, Host, Stopped, World

CONDITIONS = (
    *("healthy", "drifted", "older", "lagging", "down", "wiped", "corrupt"),
    *("learner", "unstarted", "absent", "removed", "unreachable"),
    *("recordless", "rotten", "failing"),
)
# These are met by up to three members, with every fault: a lost record, damage that nobody has seen
# yet, and a start that failed for another reason than its data.
OF_FEW = ("recordless", "rotten", "failing")
OF_MANY = tuple(one for one in CONDITIONS if one not in OF_FEW)
# What a restart cures: one that hangs is met by up to three, the other two by up to two.
CURABLE = ("hung", "deaf", "mute")
SIZES = (1, 2, 3, 4, 5)
ALL_ORDERS_UP_TO = 3
# size -> how many members may be other than healthy where faults are injected
TROUBLED = {1: 1, 2: 2, 3: 3, 4: 2, 5: 1}
COUNTS = ("starts", "states", "plans", "transitions", "faults", "refusals")
# Plans until a cluster with a silent host stays as it is.
MOST_PLANS = 9
EXTENT = os.environ.get("ETCD_HA_SEARCH")
EVERYTHING = EXTENT == "everything"
if EXTENT == "wide":
    TROUBLED.update({4: 3, 5: 2})


def make_cluster(names, defaults, version="3.6.14", tls=False, name="main", helpers=False):
    members = {f"{name}.x": {"address": f"10.0.0.{int(name[1:]) + 1}"} for name in names}
    settings = {"members": members, "version": version, "tls": {"enabled": tls}}
    if tls:
        files = {"ca": {"certificate": "/a"}}
        files |= {n: {"certificate": "/a", "key": "/b"} for n in ("server", "peer", "client")}
        settings["tls"] = {"source": "files", "files": files}
    if helpers:
        settings["tls"] = {"ca": {"minion": "ca.x"}}
        settings["load_balancers"] = {"lb.x": {"address": "10.0.1.1"}}
    if name != "main":
        settings["renamed_from"] = "main"
    return etcd_ha_topology.read({"clusters": {name: settings}}, defaults)[name]


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
    "another name": lambda names: {"names": names, "name": "prod"},
    "another ca": lambda names: {"names": names, "tls": True},
    "another ca and more": lambda names: {
        **{"names": (*names[1:], "e8"), "version": "3.7.1", "tls": True, "name": "prod"}
    },
}
# Here the cluster has TLS before, and the pillar names another CA by now.
OF_ANOTHER_CA = ("another ca", "another ca and more")


# The members that stand alone in a change; all others are alike to it.
LEAVING = {
    **{"first leaves": 1, "two leave": 2, "first replaced": 1, "all at once": 1},
    "another ca and more": 1,
}


def make_world(cluster, conditions):
    """A cluster whose members are in these conditions, as it was converged once before."""
    names = [member.name for member in cluster.members]
    hosts, entries, managed = {}, {}, {}
    for number, (member, condition) in enumerate(zip(cluster.members, conditions, strict=True)):
        one = f"m{number}"
        host = Host(member.minion, member.name, member.address, one, True, record=True)
        host.version, host.digest, host.transport = "3.6.14", NEW_DIGEST, cluster.scheme
        if cluster.tls:
            host.signed_by, host.trusts, host.knows = "old", ("old",), ("old",)
        entry = Entry(one, member.name, cluster.peer_url(member))
        entries[one] = entry
        managed[member.minion] = {"name": member.name, "peer_url": cluster.peer_url(member)}
        CONDITION[condition](host, entry, entries)
        hosts[member.minion] = host
    for name in ("e8", "e9"):
        if name not in names:
            hosts[f"{name}.x"] = Host(f"{name}.x", name, f"10.0.0.{int(name[1:]) + 1}")
    return World(hosts, entries, True, True, managed)


def _lagging(host, entry, entries):
    host.lagging = True


def _hung(host, entry, entries):
    """It runs, but does not serve, as with a full or frozen disk; a restart cures it."""
    host.hung = True


def _deaf(host, entry, entries):
    """It runs with a setting that the pillar no longer has, and that no client gets past."""
    host.deaf, host.digest = True, "old"


def _mute(host, entry, entries):
    """That setting keeps its peers from it, too."""
    host.deaf, host.hung, host.digest = True, True, "old"


def _down(host, entry, entries):
    host.running = False


def _drifted(host, entry, entries):
    host.digest = "old"


def _older(host, entry, entries):
    host.version, host.digest = "3.5.33", "old"


def _wiped(host, entry, entries):
    host.member, host.running = "", False


def _corrupt(host, entry, entries):
    """etcd was started on damaged data, and has ended by itself."""
    host.corrupt, host.failing, host.running = True, True, False


def _rotten(host, entry, entries):
    """Its data was damaged while it was stopped."""
    host.corrupt, host.running = True, False


def _failing(host, entry, entries):
    """It has ended by itself for another reason, which is gone by now."""
    host.failing, host.running = True, False


def _learner(host, entry, entries):
    entry.learner = host.lagging = True


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


def _recordless(host, entry, entries):
    """Its host has lost the record of whose data this is, and it is down."""
    host.running = host.record = False


CONDITION = {
    "healthy": lambda host, entry, entries: None,
    "drifted": _drifted,
    "older": _older,
    "lagging": _lagging,
    "hung": _hung,
    "deaf": _deaf,
    "mute": _mute,
    "down": _down,
    "wiped": _wiped,
    "corrupt": _corrupt,
    "rotten": _rotten,
    "failing": _failing,
    "learner": _learner,
    "unstarted": _unstarted,
    "absent": _absent,
    "removed": _removed,
    "unreachable": _unreachable,
    "recordless": _recordless,
}


@dataclasses.dataclass
class End:
    """What planning and running again and again comes to: as wanted, or a refusal."""

    refusal: str = ""
    right: bool = True


class Search:
    """The worlds on the way to one desired change, and what was seen there."""

    def __init__(self, cluster, planner=etcd_ha_planner):
        self.cluster, self.planner = cluster, planner
        self.counts = dict.fromkeys(COUNTS, 0)
        self.numbers, self.rests = {}, {}
        self.planned, self.ends, self.lost = {}, {}, {}
        self.walked, self.disturbed = set(), set()

    # What a world comes to without a fault

    def plan(self, world, key):
        if key not in self.planned:
            self.counts["plans"] += 1
            observed = world.observe(self.cluster)
            made = self.planner.plan(self.cluster, observed, world.wanted(self.cluster))
            assert not (made.refusal and made.steps)
            check_order(made, world)
            self.counts["refusals"] += bool(made.refusal)
            self.planned[key] = made
        return self.planned[key]

    def end(self, world):
        """Plan and run until nothing is left, or a refusal; a world seen again is no end."""
        world.settle()
        key = world.key(self.numbers)
        if key not in self.ends:
            self.ends[key] = None
            plan = self.plan(world, key)
            if plan.steps:
                world = world.copy()
                self.run(world, plan)
                self.ends[key] = self.end(world)
            else:
                self.ends[key] = self.judge(world, plan.refusal)
        assert self.ends[key], "no end in sight: it comes back to where it was"
        return self.ends[key]

    def judge(self, world, refusal):
        if refusal:
            return End(refusal, may_refuse(self.cluster, world, refusal))
        check_end(self.cluster, world)
        return End()

    def run(self, world, plan):
        """Take the steps, as the orchestrate does: it stops at the first that fails."""
        world.remember(self.cluster, complete=False)
        for step in plan.steps:
            if step.kind == "again" or not self.take(world, step):
                return
        world.remember(self.cluster, complete=not plan.waits)

    def take(self, world, step):
        self.counts["transitions"] += 1
        try:
            world.take(self.cluster, step)
        except Stopped:
            return False
        return True

    # What it comes to with one fault

    def walk(self, world):
        """One fault at every point on the way from this world to its end."""
        world.settle()
        key = world.key(self.numbers)
        if key in self.walked:
            return
        self.walked.add(key)
        plan, now = self.plan(world, key), world.copy()
        if not plan.steps:
            return
        rests = self.rests_of(plan)
        now.remember(self.cluster, complete=False)
        for number, step in enumerate(plan.steps):
            if not self.disturb(now, plan.steps[number:], rests[number:], not plan.waits):
                return
            if step.kind == "again" or not self.take(now, step):
                break
        else:
            self.disturb(now, (), rests[-1:], not plan.waits)
            now.remember(self.cluster, complete=not plan.waits)
        self.walk(now)

    def rests_of(self, plan):
        """A number for what is left of the plan at each of its steps; equal ones have the same."""
        found = [0]
        for step in reversed(plan.steps):
            what = (step.action, step.kind, step.sls, step.function, step.targets, step.successor)
            said = (tuple(step.stage.items()), step.arguments.get("member_id"))
            told = (what, said, found[-1])
            found.append(self.rests.setdefault(told, len(self.rests) + 1))
        return found[::-1]

    def disturb(self, world, steps, rests, whole):
        """Every fault at this point; False where it was met before, with the same to come."""
        point = (world.key(self.numbers), (rests[0], whole))
        if point in self.disturbed:
            return False
        self.disturbed.add(point)
        for kind, minion in faults(world, steps):
            self.counts["faults"] += 1
            disturbed = world.copy()
            FAULT[kind](disturbed, minion)
            disturbed.faulty = True
            try:
                left = steps if kind != "interrupted" else ()
                end = self.lose(disturbed, left, rests, whole)
            except AssertionError as err:
                at = steps[0].title if steps else "the end"
                raise AssertionError(f"{minion} {kind} before {at}: {err}") from err
            assert end.right, f"{minion} {kind}: {end.refusal}"
        return True

    def lose(self, world, steps, rests, whole):
        """Go on with the plan under a fault; the fault passes, and it is planned anew."""
        point = (world.key(self.numbers), (rests[0], whole) if steps else -1)
        if point not in self.lost:
            if steps and steps[0].kind != "again" and self.take(world, steps[0]):
                if not steps[1:]:
                    world.remember(self.cluster, complete=whole)
                self.lost[point] = self.lose(world, steps[1:], rests[1:], whole)
            else:
                heal(world)
                self.lost[point] = self.end(world)
        return self.lost[point]

    def states(self):
        """How many worlds were seen: planned for, between two steps, or under a fault."""
        between = {key for key, _ in self.disturbed} | {key for key, _ in self.lost}
        return len(self.planned.keys() | between)

    def check_mute(self, world):
        """It comes to an end under a silent helper, and to the right one once that is back."""
        self.counts["starts"] += 1
        for _ in range(MOST_PLANS):
            world.settle()
            plan = self.plan(world, world.key(self.numbers))
            if not plan.steps:
                break
            before = world.key(self.numbers)
            self.run(world, plan)
            world.settle()
            if world.key(self.numbers) == before:
                break
        assert not plan.sound, "a silent host is not told of"
        assert plan.steps or may_refuse(self.cluster, world, plan.refusal), plan.refusal
        assert all_started(self.cluster, world), "a member was not started"
        world.mute = ""
        end = self.end(world)
        assert end.right, f"refused without need: {end.refusal}"

    def check(self, world, with_faults):
        self.counts["starts"] += 1
        end = self.end(world.copy())
        assert end.right, f"refused without need: {end.refusal}"
        if with_faults:
            self.walk(world)


FAULT = {
    "interrupted": lambda world, minion: None,
    "killed": lambda world, minion: vars(world.hosts[minion]).update(running=False),
    "wiped": lambda world, minion: vars(world.hosts[minion]).update(member="", running=False),
    "unreachable": lambda world, minion: vars(world).update(cut=minion),
    "slow": lambda world, minion: vars(world).update(slow=minion),
    "made leader": lambda world, minion: vars(world).update(
        leader=world.next_leader([world.hosts[minion].member])
    ),
}


def faults(world, steps):
    """Every fault that makes a difference here, as (kind, minion)."""
    yield "interrupted", ""
    targets = {minion for step in steps for minion in step.targets}
    for minion, host in world.hosts.items():
        if host.member and host.running:
            yield "killed", minion
        if host.member:
            yield "wiped", minion
        if host.reachable and minion in targets:
            yield "unreachable", minion
        if minion in targets:
            yield "slow", minion
    for one in world.working:
        if one != world.leader and world.has_quorum:
            yield "made leader", world.host_of(one).minion


def heal(world):
    world.faulty, world.slow, world.cut = False, "", ""


def check_order(plan, world):
    """The leader is the last to be restarted, in the first pass that restarts it.

    With members of several releases, transports or CAs each pass restarts other ones; there it is
    not looked at.
    """
    leading = world.host_of(world.leader)
    if leading is not None and leading.deaf:
        # Nobody is told that it leads; it is restarted as one that is sick.
        return
    members = [host for host in world.hosts.values() if host.member]
    if len({(h.version, h.transport, h.signed_by, h.trusts) for h in members}) > 1:
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
        assert world.works(host.member) and not host.deaf, f"{member.name} does not work"
        assert (host.version, host.transport) == (cluster.version, cluster.scheme)
        assert host.digest == NEW_DIGEST
        if cluster.tls:
            assert (host.signed_by, host.trusts) == (world.ca, (world.ca,)), "the CA is not alone"
            assert host.knows == host.trusts, f"{member.name} has not read its CA"
    for minion, host in world.hosts.items():
        if cluster.member(minion) is None and host.reachable:
            assert not host.running, f"{minion} runs though it left"
            assert not host.member, f"{minion} keeps its data in place though it left"


def may_refuse(cluster, world, refusal):
    """Whether this is a state in which to refuse is right."""
    silent = any(
        m.minion in world.hosts and not world.hosts[m.minion].reachable for m in cluster.members
    )
    if silent or (world.mute and "did not answer" in refusal):
        # A downgrade that etcd does not have stops all, and the silent host is told of first.
        started = all_started(cluster, world) or cluster.version == "3.4.23"
        return "did not answer" in refusal and started
    deaf = any(host.deaf and host.serves for host in world.hosts.values())
    if deaf and len(world.voters) > 2 and len(world.working) - 1 <= len(world.voters) // 2:
        # It has to be restarted, and no other one may be missing meanwhile.
        return "its vote is needed" in refusal or "quorum" in refusal
    heard = any(host.serves and not host.deaf for host in world.hosts.values())
    known = [world.hosts[minion] for minion in world.managed if minion in world.hosts]
    if deaf and not heard and not all(host.serves for host in known):
        # Nobody tells who the voters are, so all that are known count.
        return "quorum" in refusal
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


def all_started(cluster, world):
    """Whether what does not need a silent host was done: sound members run, where that helps."""
    members = [world.hosts[m.minion] for m in cluster.members]
    there = [host for host in members if world.answers(host) and host.member in world.voters]
    known = world.has_quorum and any(host.serves for host in there)
    return not known or all(host.running for host in there if host.intact)


def possible(conditions):
    """etcd allows one learner; a cluster has at least one member that is or was a full one."""
    learners = sum(one in ("learner", "unstarted") for one in conditions)
    full = [one for one in conditions if one not in ("learner", "unstarted", "absent", "removed")]
    return learners <= 1 and bool(full)


def space(size, title):
    """All orders for few members; beyond, one order of those that the change treats alike."""
    if size <= ALL_ORDERS_UP_TO or EVERYTHING:
        found = itertools.product((*CONDITIONS, *(CURABLE if size < 3 else ("hung",))), repeat=size)
    else:
        alone = LEAVING.get(title, 0)
        groups = [
            itertools.combinations_with_replacement(OF_MANY, number)
            for number in (alone, size - alone)
        ]
        found = (first + rest for first, rest in itertools.product(*groups))
    return [conditions for conditions in found if possible(conditions)]


def starts(size, title, defaults):
    """Every world that is searched for a change, with its conditions."""
    tls = title in OF_ANOTHER_CA
    old = make_cluster([f"e{n}" for n in range(size)], defaults, tls=tls)
    for conditions in space(size, title):
        world = make_world(old, conditions)
        world.ca = "new" if tls else "old"
        for member in leaders(world, conditions, LEAVING.get(title, 0)):
            start = world.copy()
            start.leader = member
            yield conditions, start


def leaders(world, conditions, alone):
    """Every member that can lead; where orders are merged, one of those that are alike.

    None where there is no quorum, and no world where all that work are behind: what is committed
    is on one of them.
    """
    if not world.has_quorum:
        return [""]
    able = {}
    for number, host in enumerate(world.hosts.values()):
        if host.member in world.working and not host.lagging:
            exact = len(conditions) <= ALL_ORDERS_UP_TO or EVERYTHING
            alike = number if exact else (conditions[number], number < alone)
            able.setdefault(alike, host.member)
    return able.values()


def search_for(size, title, defaults, planner=etcd_ha_planner):
    """All that is searched for one change of clusters of one size."""
    names = tuple(f"e{n}" for n in range(size))
    wanted = CHANGES[title](names)
    search = Search(make_cluster(wanted.pop("names"), defaults, **wanted), planner)
    for conditions, start in starts(size, title, defaults):
        troubled = size - conditions.count("healthy")
        told = f"{conditions}, leader {start.leader}, {title}"
        try:
            search.check(start, troubled <= TROUBLED[size] or EVERYTHING)
        except AssertionError as err:
            raise AssertionError(f"{told}: {err}") from err
    return search


# A CA or a balancer that does not answer, for as long as it takes

MUTE = ("ca.x", "lb.x")
# Of three members one order of each combination of conditions; four and five add nothing here.
MUTE_CHANGES = ("none", "one more", "first leaves", "first replaced", "minor upgrade", "another ca")


def search_mute(size, title, defaults, planner=etcd_ha_planner):
    """Every small cluster is planned and run while a helper is silent, and once it is back."""
    names = tuple(f"e{n}" for n in range(size))
    wanted = {**CHANGES[title](names), "helpers": True}
    wanted.pop("tls", None)
    search = Search(make_cluster(wanted.pop("names"), defaults, **wanted), planner)
    old = make_cluster(names, defaults, helpers=True)
    for conditions in itertools.combinations_with_replacement((*CONDITIONS, "hung"), size):
        if not possible(conditions):
            continue
        start = make_world(old, conditions)
        start.ca = "new" if title in OF_ANOTHER_CA else "old"
        start.balanced = title == "none"
        for mute in MUTE:
            muted = start.copy()
            muted.mute = mute
            try:
                search.check_mute(muted)
            except AssertionError as err:
                raise AssertionError(f"{conditions}, {title}, {mute} is silent: {err}") from err
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


def _blind(make_strange):
    """Nothing is told of the data but that there is some."""

    def make(world):
        make_strange(world)
        world.blind = True

    return make


STRANGE = {
    "is in": (_another_cluster_id, 2),
    "holds a member of the cluster other": (_record_of_another, 1),
    "neither the pillar nor the last converge": (_unknown_member, 2),
    "did not set up": (_never_seen_with_data, 1),
    "already holds etcd data that": (_blind(_never_seen_with_data), 1),
    "already holds etcd data": (_blind(_removed_stranger), 3),
}


def search_strange(size, defaults, planner=etcd_ha_planner):
    cluster = make_cluster([f"e{n}" for n in range(size)], defaults)
    search = Search(cluster, planner)
    for words, (make_strange, least) in STRANGE.items():
        if size < least:
            continue
        world = make_world(cluster, ["healthy"] * size)
        make_strange(world)
        world.settle()
        refusal = search.plan(world, world.key(search.numbers)).refusal
        assert words in refusal, f"{words!r} is not in {refusal!r}"
    search_blank(search, cluster)
    return search


def search_blank(search, cluster):
    """Blank hosts are bootstrapped, once; any mark of an earlier time forbids it."""
    for recorded in (False, True):
        for marked in (None, *[m.minion for m in cluster.members]):
            world = make_world(cluster, ["absent"] * len(cluster.members))
            world.recorded, world.managed = recorded, {}
            world.bootstrapped = recorded or marked is not None
            if marked:
                world.hosts[marked].record = True
            refusal = search.end(world.copy()).refusal
            assert ("bootstrapped once" in refusal) == world.bootstrapped or not refusal
            search.walk(world)


STRANGE_TITLE, MUTE_TITLE = "strange or blank", "silent helper: "


def titles_for(size):
    """Every desired change that a cluster of this size can have."""
    names = tuple(f"e{n}" for n in range(size))
    found = [t for t, change in CHANGES.items() if change(names)["names"]]
    mute = [MUTE_TITLE + t for t in found if t in MUTE_CHANGES and size <= ALL_ORDERS_UP_TO]
    return [STRANGE_TITLE, *mute, *found]


def search_all(size, title, defaults, planner=etcd_ha_planner):
    """The counts of all that is searched for one change of clusters of one size."""
    began = time.process_time()
    if title == STRANGE_TITLE:
        search = search_strange(size, defaults, planner)
    elif title.startswith(MUTE_TITLE):
        search = search_mute(size, title.removeprefix(MUTE_TITLE), defaults, planner)
    else:
        search = search_for(size, title, defaults, planner)
    search.counts["states"] = search.states()
    search.counts["seconds"] = time.process_time() - began
    return search.counts


@pytest.fixture(scope="module")
def searches(request, defaults):
    """All that this run asks for, begun at once on all cores, the longest first."""
    here = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params["size"] for item in here if hasattr(item, "callspec")}
    found = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for size in sorted(asked, reverse=True):
            for title in reversed(titles_for(size)):
                found[size, title] = pool.submit(search_all, size, title, defaults)
        yield found
        pool.shutdown(cancel_futures=True)


def tell(capsys, what, many):
    counts = {name: sum(one[name] for one in many) for name in many[0]}
    seconds = counts.pop("seconds")
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    with capsys.disabled():
        print(f"\n{what}: {told} in {seconds:.1f} s of one core", end=" ")
    return counts


@pytest.mark.parametrize("size", SIZES)
def test_every_plan_keeps_its_promises(size, searches, capsys):
    found = [search.result() for (members, _), search in searches.items() if members == size]
    counts = tell(capsys, f"{size} members", found)
    assert counts["states"] and counts["faults"] and counts["refusals"]


def test_what_was_searched_is_told(searches, capsys):
    found = [search.result() for search in searches.values()]
    if found:
        tell(capsys, "all", found)
