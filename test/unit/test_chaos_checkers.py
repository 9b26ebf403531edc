"""The campaign's checkers are right: they pass all that is right, and find all that is planted."""

import dataclasses
import itertools
import pathlib
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import simulated_register as simulated
from chaos.checkers import acknowledged, linearizable, revisions, watches
from chaos.history import FAILED, OK, UNKNOWN, Operation, WatchEvent, read

COUNTS = {}
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module", autouse=True)
def _told():
    yield
    print("\nhistories that are right, and planted violations found:")
    for name, number in sorted(COUNTS.items()):
        print(f"  {number:6d}  {name}")


def count(name):
    COUNTS[name] = COUNTS.get(name, 0) + 1


# What is right passes


@given(SEEDS, st.integers(1, 6), st.integers(1, 3), st.sampled_from((0.0, 0.1, 0.4)))
@settings(max_examples=300)
def test_a_right_history_passes(seed, clients, keys, lost):
    made, store = simulated.history(seed, clients, 60, keys, lost)
    seen = simulated.watched(store, random.Random(seed))
    assert linearizable.check(made) == []
    assert revisions.check(made) == []
    assert watches.check(made, seen) == []
    holds = dict.fromkeys(("etcd1", "etcd2"), store.held)
    assert acknowledged.check(made, holds) == []
    count("right histories")


@given(SEEDS)
@settings(max_examples=20)
def test_a_long_history_of_one_key_is_decided(seed):
    made, _ = simulated.history(seed, clients=6, operations=400, keys=1, lost=0.1)
    assert linearizable.check(made) == []
    count("right histories of 400 operations on one key")


# What is planted is found


def planted(plant, seed):
    """A right history with this violation in it: the first from the seed on that can have it."""
    for one in range(seed, seed + 200):
        made, store = simulated.history(one, operations=50, lost=0.08)
        chance = random.Random(one)
        if plant in simulated.WATCHES:
            broken = plant(simulated.watched(store, chance), chance, made)
        else:
            broken = plant(made, chance)
        if broken:
            count(f"planted and found: {plant.__name__.removeprefix('plant_').replace('_', ' ')}")
            return made, broken
    raise AssertionError(f"no history has room for {plant.__name__}")


@pytest.mark.parametrize("plant", simulated.LINEARIZABILITY, ids=lambda p: p.__name__)
@given(seed=SEEDS)
@settings(max_examples=60)
def test_what_is_not_linearizable_is_found(plant, seed):
    _, broken = planted(plant, seed)
    assert linearizable.check(broken), plant.__doc__


@pytest.mark.parametrize("plant", simulated.REVISIONS, ids=lambda p: p.__name__)
@given(seed=SEEDS)
@settings(max_examples=60)
def test_revisions_that_tell_two_stories_are_found(plant, seed):
    _, broken = planted(plant, seed)
    assert revisions.check(broken)


@pytest.mark.parametrize("plant", simulated.WATCHES, ids=lambda p: p.__name__)
@given(seed=SEEDS)
@settings(max_examples=60)
def test_watches_that_are_not_whole_are_found(plant, seed):
    made, broken = planted(plant, seed)
    assert watches.check(made, broken), plant.__name__


# The search itself, against all orders there are


def brute_force(operations):
    """Whether any order that keeps to the times has the answers that were given."""
    must = [o for o in operations if o.outcome == OK]
    may = [o for o in operations if o.outcome == UNKNOWN]
    for some in itertools.chain.from_iterable(
        itertools.combinations(may, n) for n in range(len(may) + 1)
    ):
        for order in itertools.permutations([*must, *some]):
            if _keeps_times(order) and _fits(order):
                return True
    return False


def _keeps_times(order):
    return not any(
        later.ended is not None and later.ended < earlier.began
        for n, earlier in enumerate(order)
        for later in order[n + 1 :]
    )


def _fits(order):
    state = None
    for one in order:
        state = linearizable.apply(state, one)
        if state is linearizable._IMPOSSIBLE:
            return False
    return True


@st.composite
def small_histories(draw):
    """Up to five operations on one key with answers drawn blindly: most of them are wrong."""
    made = []
    values = [None, "v0", "v1", "v2", "v3", "v4"]
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(("put", "get", "cas", "delete")))
        began = draw(st.integers(0, 8))
        unknown = kind != "get" and draw(st.integers(0, 3)) == 0
        told = {"succeeded": draw(st.booleans())} if kind in ("cas", "delete") else {}
        if kind in ("put", "cas"):
            told["value"] = f"v{number}"
        if kind == "cas":
            told["expected"] = draw(st.sampled_from(values))
        if kind in ("get", "delete") or (kind == "cas" and not told["succeeded"]):
            told["found"] = draw(st.sampled_from(values))
        ended = None if unknown else began + draw(st.integers(0, 4))
        outcome = UNKNOWN if unknown else OK
        made.append(Operation(f"c{number}", kind, "k", began, ended, outcome, **told))
    return made


@given(small_histories())
@settings(max_examples=1500)
def test_the_search_says_what_all_orders_say(made):
    right = linearizable.check(made) == []
    assert right == brute_force(made)
    count(f"small histories against all orders, {'right' if right else 'wrong'}")


def test_a_search_that_gives_up_is_no_pass():
    made, _ = simulated.history(1, clients=6, operations=100, keys=1)
    assert [v.rule for v in linearizable.check(made, limit=5)] == ["linearizability undecided"]


# By hand, so that each rule can be read


def op(kind, began, ended, **more):
    outcome = more.pop("outcome", OK)
    return Operation("c1", kind, more.pop("key", "k"), began, ended, outcome, **more)


def test_a_violation_names_the_key_and_the_operation():
    made = [op("put", 0, 1, value="a", revision=2), op("get", 2, 3, found=None, revision=2)]
    (found,) = linearizable.check(made)
    assert found.rule == "not linearizable"
    assert found.text.startswith("k: ") and "get k = found None" in found.text


def test_a_write_that_was_given_up_may_come_late_but_not_twice():
    lost = op("put", 0, None, value="a", outcome=UNKNOWN)
    first = op("put", 1, 2, value="b", revision=2)
    late = op("get", 3, 4, found="a", modified=3, revision=3)
    gone = op("get", 5, 6, found="b", modified=2, revision=3)
    assert linearizable.check([lost, first, late]) == []
    assert linearizable.check([lost, first, late, gone])


def test_a_chain_of_swaps_without_answers_is_followed():
    made = [
        op("cas", 0, None, value="a", expected=None, outcome=UNKNOWN),
        op("cas", 1, None, value="b", expected="a", outcome=UNKNOWN),
        op("get", 2, 3, found="b", modified=3, revision=3),
    ]
    assert linearizable.check(made) == []
    assert linearizable.check(made[1:])


def held(**keys):
    return {"etcd1": keys, "etcd2": dict(keys)}


def test_a_write_that_one_member_lacks_is_lost():
    made = [op("put", 0, 1, value="a", revision=5)]
    assert acknowledged.check(made, held(k=("a", 5))) == []
    rules = {v.rule for v in acknowledged.check(made, {"etcd1": {"k": ("a", 5)}, "etcd2": {}})}
    assert rules == {"acknowledged write lost", "members differ"}


@pytest.mark.parametrize(
    ("holds", "problem"),
    [
        ({"k": ("a", 5)}, "acknowledged write lost"),
        ({"k": ("b", 6)}, "acknowledged write lost"),
        ({"k": ("c", 8)}, "acknowledged write lost"),
        ({"k": ("b", 7), "x": ("?", 9)}, "value from nowhere"),
        ({}, "acknowledged write lost"),
    ],
    ids=["older", "other revision", "refused", "unknown key", "gone"],
)
def test_what_a_member_may_not_hold(holds, problem):
    made = [
        op("put", 0, 1, value="a", revision=5),
        op("put", 2, 3, value="b", revision=7),
        op("put", 4, 5, value="c", outcome=FAILED),
    ]
    assert acknowledged.check(made, held(k=("b", 7))) == []
    assert problem in {v.rule for v in acknowledged.check(made, held(**holds))}


def test_a_delete_that_was_acknowledged_lasts():
    made = [op("put", 0, 1, value="a", revision=5), op("delete", 2, 3, found="a", revision=6)]
    assert acknowledged.check(made, held()) == []
    assert acknowledged.check(made, held(k=("a", 5)))
    undecided = [made[0], op("delete", 2, None, outcome=UNKNOWN)]
    assert acknowledged.check(undecided, held()) == []
    assert acknowledged.check(undecided, held(k=("a", 5))) == []


def ledger(count):
    return [
        op("put", n, n + 0.5, key=f"l{n}", value=f"v{n}", revision=n + 10) for n in range(count)
    ]


def test_a_restore_is_all_of_the_past_up_to_one_moment():
    made = ledger(6)
    whole = {f"l{n}": (f"v{n}", n + 10) for n in range(4)}
    assert acknowledged.check_cut(made, whole, at_least=13, at_most=13) == []
    assert acknowledged.check_cut(made, whole, at_least=12) == []
    with_hole = {key: one for key, one in whole.items() if key != "l2"}
    rules = [
        acknowledged.check_cut(made, whole, at_least=14),
        acknowledged.check_cut(made, whole, at_least=10, at_most=12),
        acknowledged.check_cut(made, with_hole, at_least=10),
        acknowledged.check_cut(made, {**whole, "x": ("y", 3)}, at_least=13),
    ]
    assert [found[0].rule for found in rules] == [
        *("backed up write lost", "restore went too far", "backed up write lost"),
        "value from nowhere",
    ]


def test_a_compacted_past_is_no_gap_and_anything_else_is():
    made = ledger(4)
    events = [WatchEvent("w", "event", n + 10, f"l{n}", f"v{n}") for n in range(4)]
    opened = WatchEvent("w", "opened", 10)
    assert watches.check(made, [opened, *events]) == []
    told = [opened, events[0], WatchEvent("w", "compacted", 12), events[3]]
    assert watches.check(made, told) == []
    again = [opened, events[0], WatchEvent("w", "opened", 13), events[3]]
    assert [v.rule for v in watches.check(made, again)] == ["watch gap"]


def test_a_watcher_that_never_comes_to_the_end_is_stuck():
    made = ledger(4)
    seen = [WatchEvent("w", "opened", 10), WatchEvent("w", "event", 10, "l0", "v0")]
    assert watches.check(made, seen, [("w", 10)]) == []
    assert [v.rule for v in watches.check(made, seen, [("w", 13)])] == ["watch is stuck"]
    assert [v.rule for v in watches.check(made, [], [("w", 13)])] == ["watch is stuck"]


def test_two_watchers_that_are_told_differently_are_found():
    """Also of a write without an answer, of which only the watchers know."""
    lost = [op("put", 0, None, value="a", outcome=UNKNOWN)]
    lost.append(op("put", 1, 2, value="b", key="other", revision=3))
    one = [WatchEvent("w1", "opened", 2), WatchEvent("w1", "event", 2, "k", "a")]
    one.append(WatchEvent("w1", "event", 3, "other", "b"))
    two = [WatchEvent("w2", "opened", 2), WatchEvent("w2", "event", 3, "other", "b")]
    assert [v.rule for v in watches.check(lost, [*one, *two])] == ["watchers differ"]


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes():
    lines = [
        '{"what": "operation", "client": "c1", "kind": "get", "key": "k", "began": 1, "ended": 2}',
        '{"what": "watch", "watcher": "w", "kind": "opened", "revision": 2}',
        '{"what": "reach", "watcher": "w", "revision": 9}',
        '{"what": "operation", "cli',
    ]
    found = read(lines)
    assert found.operations[0].kind == "get" and found.watched[0].revision == 2
    assert found.wanted == (("w", 9),)


def test_operations_are_told_as_a_person_reads_them():
    one = op("cas", 1, 2, value="b", expected="a", succeeded=False, found="c", revision=7)
    assert str(one) == "[1.000..2.000] c1: cas k a -> b = found c (r7)"
    lost = dataclasses.replace(one, outcome=UNKNOWN, ended=None)
    assert str(lost) == "[1.000.....] c1: cas k a -> b = unknown (r7)"
