"""A seed gives one schedule, and no schedule asks for more than the formula promises to survive."""

import itertools
import pathlib
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from chaos import schedule
from chaos.schedule import Fault, Limits, Schedule, State, too_much

SEEDS = st.integers(0, 2**32)


def rounds(seed, count=40, **limits):
    return list(itertools.islice(Schedule(seed, Limits(**limits)), count))


@given(SEEDS)
@settings(max_examples=50)
def test_a_seed_gives_the_same_rounds_however_many_are_asked_for(seed):
    assert rounds(seed, 10) == rounds(seed, 30)[:10]


def test_another_seed_gives_others():
    assert rounds(1) != rounds(2)


@given(SEEDS, st.sampled_from((1, 2)))
@settings(max_examples=100)
def test_no_round_asks_for_more_than_is_promised(seed, balancers):
    limits = Limits(balancers=balancers)
    before = State()
    for one in rounds(seed, balancers=balancers):
        fewest = min(before.members, one.state.members)
        assert not too_much(one.faults, one.operation, fewest, limits), one
        destroyed = [fault for fault in one.faults if fault.destroys]
        assert len(destroyed) <= 1
        assert bool(one.lost) == (one.operation in ("recover", "blackout"))
        before = one.state


@given(SEEDS)
@settings(max_examples=100)
def test_operations_fit_what_is_in_force(seed):
    before = State()
    for one in rounds(seed):
        lines = [schedule.RELEASES.index(s.version) for s in (before, one.state)]
        assert abs(lines[1] - lines[0]) == (one.operation in ("upgrade", "downgrade"))
        assert not (one.operation == "downgrade" and before.version.startswith("3.5."))
        assert not (one.operation == "restore" and not before.backed_up)
        assert one.state.members in (3, 5)
        if one.operation == "recover":
            assert before.members // 2 + 1 == len(one.lost)
            assert max(one.lost) < before.members
        before = one.state


def test_every_kind_of_fault_and_operation_comes():
    made = [one for seed in range(20) for one in rounds(seed)]
    assert {fault.kind for one in made for fault in one.faults} == set(schedule.KINDS)
    assert {one.operation for one in made} == set(schedule.OPERATIONS)
    assert {fault.who for one in made for fault in one.faults} == {
        *("leader", "follower", "master", "lb", "lb2")
    }


def test_limits_are_kept():
    made = rounds(7, kinds=("cut",), operations=("converge", "restart"))
    assert {fault.kind for one in made for fault in one.faults} == {"cut"}
    assert {one.operation for one in made} == {"converge", "restart"}


def fault(kind="cut", who="follower", at=0.0, lasts=5.0):
    return Fault(kind, who, at, lasts, 0.5)


@pytest.mark.parametrize(
    ("faults", "operation", "members", "problem"),
    [
        ([fault(), fault(at=2)], "converge", 3, "2 members are in trouble at once"),
        ([fault(), fault(at=14)], "converge", 3, "2 members are in trouble at once"),
        ([fault(), fault(at=16)], "converge", 3, ""),
        ([fault(), fault(at=2)], "converge", 5, ""),
        ([fault(), fault(at=2), fault(at=3)], "converge", 5, "3 members are in trouble at once"),
        ([fault("wipe"), fault(at=40)], "converge", 5, "a disk is destroyed"),
        ([fault("wipe")], "restore", 3, "a disk is destroyed in an operation"),
        ([fault("balancer", "lb"), fault("balancer", "lb2")], "converge", 3, "all balancers"),
        ([fault("master", "master"), fault("wipe")], "converge", 3, ""),
        ([fault("master", "master"), fault("master_kill", "master", 30)], "converge", 3, "twice"),
    ],
)
def test_what_is_too_much_is_told(faults, operation, members, problem):
    told = too_much(faults, operation, members, Limits())
    assert problem in told and bool(told) == bool(problem)


def test_a_round_is_told_in_one_line():
    (one,) = rounds(3, 1)
    struck = (fault("freeze", "leader", 2.5, 4.0),)
    told = str(replace(one, operation="restart", faults=struck, lost=()))
    assert told == "round 1: restart; freeze leader at 2.5 s for 4.0 s"


def test_settings_of_a_state_are_set_and_taken_away():
    state = State().having("data_dir", "/x").having("options", {"a": 1}).having("data_dir", None)
    assert dict(state.settings) == {"options": {"a": 1}}
