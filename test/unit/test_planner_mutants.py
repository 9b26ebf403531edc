"""The search finds every guard that is taken out of the planner.

Each mutant is the planner's own source with one guard or one order dropped. A mutant that survives
is a promise that nothing checks.

Three gates (``can_spare``, ``can_promote``, one against sick members) are not here: once the sick
are healed and the dead are out, no state is left in which they say no; the search met none with up
to three members and any fault. They are looked at one by one in test_planner.py, and again at the
moment of the act on the hosts.
"""

import concurrent.futures
import os
import pathlib
import sys
import types

import pytest
from simulated_etcd import Stopped
from test_planner_search import search_all, titles_for

UTILS = pathlib.Path(__file__).parents[2] / "_utils"
# In the order of their imports: each is made anew, so that it sees the mutant.
MODULES = (
    "etcd_ha_membership",
    "etcd_ha_stages",
    "etcd_ha_trust",
    "etcd_ha_drift",
    "etcd_ha_parts",
    "etcd_ha_plan_reasons",
    "etcd_ha_plan_silent",
    "etcd_ha_course",
    "etcd_ha_exchange",
    "etcd_ha_convergence",
    "etcd_ha_planner",
)

# what is dropped -> (module, its source, the source without it)
MUTANTS = {
    "a quorum is more than half": ("etcd_ha_membership", "voters // 2 + 1", "voters // 2"),
    "other clusters' hosts": (
        "etcd_ha_planner",
        "if owner not in (cluster.name, cluster.former):",
        "if False:",
    ),
    "two cluster ids": ("etcd_ha_planner", "if len(ids) > 1:", "if False:"),
    "silent hosts": ("etcd_ha_planner", "    if silent:\n", "    if False:\n"),
    "nothing but starts beside a silent member": (
        "etcd_ha_convergence",
        "        if silent:\n            raise Waits(",
        "        if False:\n            raise Waits(",
    ),
    "certificates are held under a silent CA": (
        "etcd_ha_drift",
        "return Stage(release(cluster, host), way, etcd_ha_trust.HELD)",
        "return Stage(release(cluster, host), way)",
    ),
    "nobody joins under a silent CA": (
        "etcd_ha_convergence",
        'self.need(f"add {names(absent)}", authority=True, balancers=True)',
        "pass",
    ),
    "nobody is replaced under a silent CA": (
        "etcd_ha_convergence",
        'self.need(f"replace {names(again)}", authority=True)',
        "pass",
    ),
    "nobody leaves under a silent balancer": (
        "etcd_ha_convergence",
        'self.need(f"take {self._named(leaving)} out", balancers=True)',
        "pass",
    ),
    "strange data before a bootstrap": (
        "etcd_ha_planner",
        'if host.has_data and host.record.get("state") != "bootstrapping":',
        "if False:",
    ),
    "the master's record": ("etcd_ha_planner", "return wanted.recorded or any(", "return any("),
    "the members' records": (
        "etcd_ha_planner",
        'host.record.get("state") == "bootstrapped" or host.healthy for',
        "host.healthy for",
    ),
    "no start without a quorum of data": (
        "etcd_ha_planner",
        "if len(holding) < quorum(voters):",
        "if False:",
    ),
    "dropped members of a cluster that is down": (
        "etcd_ha_planner",
        "if any(m not in observed or observed[m].has_data for m in gone):",
        "if False:",
    ),
    "learners are no quorum": (
        "etcd_ha_planner",
        "learners = [m for m in there if observed[m].learner]",
        "learners = []",
    ),
    "members that nobody knows": ("etcd_ha_convergence", "if not self.match.unknown:", "if True:"),
    "strange data before a join": (
        "etcd_ha_convergence",
        "unknown = host.has_data and not host.record",
        "unknown = False",
    ),
    "downgrades that etcd does not support": (
        "etcd_ha_convergence",
        "            if fault:",
        "            if False:",
    ),
    "corrupt data is no data": (
        "etcd_ha_course",
        "            or bool(host.corrupt)\n            or not entry",
        "            or not entry",
    ),
    "who ended by itself is examined first": (
        "etcd_ha_convergence",
        "        if due:\n            return",
        "        if False:\n            return",
    ),
    "who ended by itself is examined first without a quorum": (
        "etcd_ha_planner",
        "    if due and (len(due)",
        "    if False and (len(due)",
    ),
    "learners are promoted": (
        "etcd_ha_course",
        '            or bool(entry.get("learner"))\n',
        "",
    ),
    "learners first": (
        "etcd_ha_convergence",
        'return not self.match.kept[minion].get("learner"), minion != self.leader',
        "return False, minion != self.leader",
    ),
    "the leader last": (
        "etcd_ha_course",
        "(m == self.leader, running.index(m))",
        "running.index(m)",
    ),
    "one minor line at a time": (
        "etcd_ha_stages",
        "if here.minor + 1 < goal.minor else goal",
        "if False else goal",
    ),
    "etcd is told of a downgrade": (
        "etcd_ha_convergence",
        "        if down:\n",
        "        if False:\n",
    ),
    "by way of both transports": (
        "etcd_ha_stages",
        'return [wanted] if found <= {"both", wanted} else ["both", wanted]',
        "return [wanted]",
    ),
    "members that leave go before the last transport": (
        "etcd_ha_convergence",
        "        self.take_out(leaving)\n        self._change_release()\n        if ways:\n"
        "            self._pass(transport=self.cluster.scheme)\n",
        "        self._change_release()\n        if ways:\n"
        "            self._pass(transport=self.cluster.scheme)\n        self.take_out(leaving)\n",
    ),
    "joining members are no newer than the others": (
        "etcd_ha_course",
        "version = min((one.version for one in others), key=etcd_ha_release.parse)",
        "version = self.cluster.version",
    ),
    "not all members at once": (
        "etcd_ha_convergence",
        "if not any(self.observed[m].healthy or self.observed[m].voting for m in self.match.kept):",
        "if False:",
    ),
    "plan again for what is left": (
        "etcd_ha_planner",
        "whole = stopped == members and not gone",
        "whole = True",
    ),
    "dead members leave": ("etcd_ha_convergence", "        self.take_out(dead)\n", ""),
    "no member holds data": ("etcd_ha_planner", "    if not holding:\n", "    if False:\n"),
    "corrupt data starts nothing": (
        "etcd_ha_planner",
        "if not observed[m].has_data or observed[m].corrupt]",
        "if not observed[m].has_data]",
    ),
    "no restart while there is no quorum": (
        "etcd_ha_planner",
        "stopped = [minion for minion in holding if not observed[minion].active]",
        "stopped = list(holding)",
    ),
    "members that run without quorum are told": (
        "etcd_ha_planner",
        "    if not stopped:\n",
        "    if False:\n",
    ),
    "members match by address": (
        "etcd_ha_membership",
        "(_same_id, _same_address, _same_name)",
        "(_same_id,)",
    ),
    "removals leave a quorum": (
        "etcd_ha_membership",
        "return self.has_quorum and len(self.healthy & left) >= quorum(len(left))",
        "return True",
    ),
    "the stopped are started first": ("etcd_ha_convergence", "        self._heal()\n", ""),
    "members without data are replaced": ("etcd_ha_convergence", "        self._replace()\n", ""),
    "removals are gated": ("etcd_ha_course", "if not allowed:", "if False:"),
    "a snapshot before another release": (
        "etcd_ha_convergence",
        "        self._before_release(newest if down else oldest, down)\n",
        "",
    ),
    "3.6 can read the log": (
        "etcd_ha_convergence",
        "if not down and etcd_ha_stages.leaves_v2(oldest, version):",
        "if False:",
    ),
    "members that left are retired": (
        "etcd_ha_convergence",
        "        self._retire_leftovers()\n",
        "",
    ),
    "members that leave are retired": (
        "etcd_ha_course",
        "        if minion is not None:\n            self.add_retirement(name, minion)\n",
        "",
    ),
    "what differs is restarted": (
        "etcd_ha_convergence",
        "        self._pass()\n        self.balance(",
        "        self.balance(",
    ),
    "all trust both CAs first": ("etcd_ha_exchange", "    _trust_pass(course)\n", ""),
    "certificates of the new CA before the old one is dropped": (
        "etcd_ha_exchange",
        "    _issue(course)\n",
        "",
    ),
    "members without data wait outside": ("etcd_ha_exchange", "    _leave_for_now(course)\n", ""),
    "members that leave go before the new certificates": (
        "etcd_ha_exchange",
        "    course.take_out(leaving)\n    _issue",
        "    _issue",
    ),
    "who was away does not hurry ahead": (
        "etcd_ha_exchange",
        "phase = etcd_ha_trust.ISSUED if dropped or known else etcd_ha_trust.BOTH",
        "phase = etcd_ha_trust.ISSUED",
    ),
    "the old CA is dropped at the end": (
        "etcd_ha_convergence",
        "trust = now.trust if kept else etcd_ha_trust.ALONE",
        "trust = now.trust",
    ),
    "stopped members trust both": (
        "etcd_ha_drift",
        "return dataclasses.replace(found, trust=etcd_ha_trust.BOTH) if kept else found",
        "return found",
    ),
    "a renamed cluster is the same": (
        "etcd_ha_planner",
        "if owner not in (cluster.name, cluster.former):",
        "if owner != cluster.name:",
    ),
}


# Where it takes that many members to see the difference; the smaller clusters are passed over.
MEMBERS = {
    "learners are no quorum": 3,
    "plan again for what is left": 3,
    "corrupt data is no data": 3,
    "strange data before a join": 3,
    "learners first": 4,
    "removals leave a quorum": 3,
    "removals are gated": 3,
}
# The change in which it is found, to be tried before the others.
FIRST = {
    "plan again for what is left": "first leaves",
    "removals leave a quorum": "first leaves",
    "removals are gated": "two leave",
}


def mutant(name):
    """The planner with one guard dropped, as a module."""
    where, old, new = MUTANTS[name]
    kept = {module: sys.modules[module] for module in MODULES}
    try:
        for module in MODULES:
            source = (UTILS / f"{module}.py").read_text()
            if module == where:
                assert source.count(old) == 1, f"{old!r} is not once in {module}"
                source = source.replace(old, new)
            made = types.ModuleType(module)
            sys.modules[module] = made
            exec(compile(source, f"mutant of {module}", "exec"), made.__dict__)
        return sys.modules["etcd_ha_planner"]
    finally:
        sys.modules.update(kept)


def hunt(name, defaults):
    """What the search says of a mutant, or nothing; the small clusters first."""
    planner = mutant(name)
    for size in range(MEMBERS.get(name, 1), 5):
        for title in sorted(titles_for(size), key=lambda title: title != FIRST.get(name)):
            try:
                search_all(size, title, defaults, planner)
            except (AssertionError, Stopped, KeyError, ValueError) as err:
                return f"{type(err).__name__}: {err}"
    return ""


@pytest.fixture(scope="module")
def hunts(request, defaults):
    """All mutants that this run asks for, begun at once on all cores."""
    here = [item for item in request.session.items if item.path == request.path]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        names = [item.callspec.params["name"] for item in here if hasattr(item, "callspec")]
        yield {name: pool.submit(hunt, name, defaults) for name in names}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_search_finds_a_planner_without(name, hunts):
    assert hunts[name].result(), "it survived"
