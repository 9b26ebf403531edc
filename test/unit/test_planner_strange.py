"""Bigger clusters, several changes at once, and faults in a row: what is too many to search whole.

Each example is a story in the simulated etcd (simulated_etcd.py): a cluster of some conditions, a
desired change, and then rounds of planning and running, in which a fault comes before any step and
may last for a round. In the end all faults pass, and the promises are those of the search.
"""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_etcd import Stopped
from test_planner_search import (
    CONDITIONS,
    FAULT,
    Search,
    check_order,
    faults,
    heal,
    make_cluster,
    make_world,
    possible,
)

SIZES = (3, 4, 6, 7, 9)
VERSIONS = ("3.6.14", "3.6.14", "3.7.1", "3.7.1", "3.5.33", "3.4.23")
# Mostly healthy, since a cluster whose quorum is gone is refused at once.
MIXED = st.sampled_from(("healthy",) * len(CONDITIONS) + CONDITIONS)


@st.composite
def clusters(draw):
    """Conditions of a cluster's members, and what it shall become."""
    size = draw(st.sampled_from(SIZES))
    conditions = draw(st.lists(MIXED, min_size=size, max_size=size).filter(possible))
    leaving = draw(st.sets(st.integers(0, size - 1), max_size=size - 1))
    if draw(st.booleans()):
        leaving = set()
    joining = draw(st.sampled_from(((), ("e8",), ("e8", "e9"))))
    staying = [f"f{30 + n}" for n in range(size) if n not in leaving]
    return {
        "conditions": conditions,
        "names": draw(st.permutations([*staying, *joining])),
        "version": draw(st.sampled_from(VERSIONS)),
        "tls": draw(st.booleans()),
        "shuffle": draw(st.integers(0, 99)),
    }


def begin(told, defaults):
    """The world and the desired cluster of an example; lists come in no order."""
    old = make_cluster([f"f{30 + n}" for n in range(len(told["conditions"]))], defaults)
    world = make_world(old, told["conditions"])
    entries = list(world.entries.values())
    random.Random(told["shuffle"]).shuffle(entries)
    world.entries = {entry.id: entry for entry in entries}
    world.elect()
    wanted = make_cluster(told["names"], defaults, told["version"], told["tls"])
    return world, wanted


class Story:
    """Rounds of planning and running, as a person would start them again and again."""

    def __init__(self, cluster, world, data):
        self.cluster, self.world, self.data = cluster, world, data
        self.search = Search(cluster)

    def round(self):
        """One run of the orchestrate, in which faults may come; they last until the next."""
        plan = self.search.planner.plan(
            self.cluster, self.world.observe(self.cluster), self.world.wanted(self.cluster)
        )
        check_order(plan, self.world)
        self.world.remember(self.cluster, complete=False)
        for number, step in enumerate(plan.steps):
            if self.comes_a_fault(plan.steps[number:]) == "interrupted" or step.kind == "again":
                return
            try:
                self.world.take(self.cluster, step)
            except Stopped:
                return
        if plan.steps:
            self.world.remember(self.cluster, complete=not plan.waits)

    def comes_a_fault(self, rest):
        if self.data.draw(st.integers(0, 5)):
            return ""
        able = sorted(set(faults(self.world, rest)))
        kind, minion = self.data.draw(st.sampled_from(able), label="fault")
        FAULT[kind](self.world, minion)
        self.world.faulty = True
        return kind


@settings(
    max_examples=600, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(told=clusters(), data=st.data())
def test_faults_in_a_row_cost_neither_quorum_nor_data(told, data, defaults):
    world, cluster = begin(told, defaults)
    story = Story(cluster, world, data)
    for _ in range(data.draw(st.integers(0, 4))):
        story.round()
        heal(world)
    end = story.search.end(world)
    assert end.right, f"refused without need: {end.refusal}"
