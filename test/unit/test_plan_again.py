"""An orchestrate that plans again for what is left comes nearer, or stops and says why."""

import dataclasses
import json
import pathlib

import etcd_ha_parts
import etcd_ha_plan_again
import orchestrates
import pytest
import yaml
from etcd_ha_master import Master
from etcd_ha_plan_again import LONGEST, MOST, Earlier, bounded
from etcd_ha_steps import Plan, Step
from faces import load

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = 1_764_000_000


@pytest.fixture
def planned(cluster):
    """A plan with these steps of which another one is to follow, or none."""

    def made(*titles, why="it is not running", again=True):
        steps = [Step(f"main: {one}", "state", ("etcd1.example.com",), why=why) for one in titles]
        return Plan("main", "x", (*steps, *([etcd_ha_parts.again(cluster)] if again else ())))

    return made


def run(plans, seconds=10):
    """As the orchestrate does it: the last plan, and how many there were."""
    handed = None
    for number, plan in enumerate(plans):
        now = NOW + number * seconds
        earlier = Earlier.of(handed, now)
        found = bounded(plan, earlier, now)
        if found.refusal or found.steps[-1].kind != "again":
            return found, number + 1
        # On its way it is data of a pillar.
        handed = json.loads(json.dumps(earlier.handed(plan)))
    return found, len(plans)


def test_what_comes_nearer_goes_on(planned):
    plans = [planned("start etcd1", "start etcd2"), planned("start etcd2"), planned(again=False)]
    plans[-1] = dataclasses.replace(plans[0], steps=plans[0].steps[:1])
    found, number = run(plans)
    assert (found, number) == (plans[-1], 3)


def test_the_same_left_twice_in_a_row_stops_it_and_says_what_and_why(planned):
    found, number = run([planned("start etcd1")] * 9)
    assert number == 2 and found.steps == ()
    assert "the same is left as before" in found.refusal
    assert "start etcd1 (because: it is not running)" in found.refusal
    assert "salt-run etcd_ha.plan cluster=main" in found.refusal


def test_another_reason_is_nearer(planned):
    plans = [planned("start etcd1"), planned("start etcd1", why="it runs, but is not healthy")]
    found, number = run(plans)
    assert (number, found.refusal) == (2, "")


def test_two_that_take_turns_are_stopped_by_their_number(planned):
    found, number = run([planned("start etcd1"), planned("start etcd2")] * 20)
    assert number == MOST + 1 and f"has planned {MOST} times" in found.refusal


def test_so_long_a_run_begins_no_other_plan(planned):
    plans = [planned(f"start etcd{number}") for number in range(MOST)]
    found, number = run(plans, seconds=LONGEST / 2 + 1)
    assert number == 3 and "has planned again for 4.0 h" in found.refusal


def test_a_plan_that_ends_by_itself_is_never_stopped(planned):
    last = planned("apply its configuration", again=False)
    earlier = Earlier(NOW - 9 * LONGEST, tuple("0" * 64 for _ in range(MOST * 2)))
    assert bounded(last, earlier, NOW) is last
    assert bounded(last, Earlier(NOW, (etcd_ha_plan_again.left(last),)), NOW) is last


def test_a_refusal_stays_the_one_it_is():
    refused = Plan("main", "x", refusal="no quorum")
    assert bounded(refused, Earlier(0, ("x",) * 99), NOW) is refused


def test_a_long_rest_is_named_by_its_first_steps(planned):
    found, _ = run([planned(*(f"start etcd{number}" for number in range(1, 6)))] * 2)
    assert "start etcd3" in found.refusal and "; and 2 more." in found.refusal
    assert "start etcd4" not in found.refusal and "plan again" not in found.refusal.split("Left")[1]


class Orchestrate:
    """The SLS as they are, the runner as it is, and steps that all pass."""

    def __init__(self, runner):
        self.runner, self.plans, self.failed = runner, 0, {}
        self.opts, self.rows = {"test": None}, []

    def run(self, pillar):
        self.plans += 1
        assert self.plans < 100, "without an end"

        def asked(name, kwarg):
            assert name == "etcd_ha.steps"
            return self.runner.steps(**kwarg)

        text = orchestrates.rendered("init", asked, pillar=pillar, opts=self.opts)
        for name, state in yaml.safe_load(text).items():
            ((function, words),) = state.items()
            given = {key: value for one in words for key, value in one.items()}
            self.rows.append((function, given))
            if function == "test.fail_without_changes":
                self.failed[name] = given["name"]
            elif given.get("mods") == "etcd_ha.orch":
                self.run(given["pillar"])


def test_the_orchestrate_itself_has_an_end(cluster, planned, monkeypatch):
    runner = load("_runners/etcd_ha")
    read = {"main": cluster}, {}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: read)
    monkeypatch.setattr(Master, "source_digest", lambda self: "hash")
    monkeypatch.setattr(Master, "record", lambda self, cluster: {})
    monkeypatch.setattr(Master, "_pillar", lambda self: {})
    monkeypatch.setattr(runner, "_plans", lambda *_: [planned("start etcd1")])
    found = Orchestrate(runner)
    found.run({})
    assert found.plans == 2
    (why,) = found.failed.values()
    assert "start etcd1" in why and "the same is left" in why


@pytest.mark.parametrize("test", [None, False, True])
def test_a_step_does_what_the_orchestrate_was_asked_for_whatever_a_minion_is_set_to(
    cluster, monkeypatch, test
):
    """`test: true` in a minion's configuration had each run pass, and nothing done."""
    runner = load("_runners/etcd_ha")
    monkeypatch.setattr(
        Master, "clusters_and_faults", lambda self, name=None: ({"main": cluster}, {})
    )
    monkeypatch.setattr(Master, "source_digest", lambda self: "hash")
    monkeypatch.setattr(Master, "record", lambda self, cluster: {})
    step = Step("main: prepare etcd1", "state", ("etcd1.example.com", "new.x"), sls=("etcd_ha",))

    def plans(master, *_):
        master.context["etcd_ha_settings"] = {"etcd1.example.com": "known", "etcd2.x": "other"}
        return [Plan("main", "3 members", (step,))]

    monkeypatch.setattr(runner, "_plans", plans)
    found = Orchestrate(runner)
    found.opts["test"] = test
    found.run({})
    (given,) = [given for function, given in found.rows if function == "salt.state"]
    assert given["test"] is (test is True)
    # What the plan was made from goes along, of the step's own hosts.
    assert given["pillar"]["etcd_ha_step"]["settings"] == {"etcd1.example.com": "known"}


def test_what_is_handed_over_is_checked_like_any_argument():
    runner = load("_runners/etcd_ha")
    for odd in ({"began": 1}, {"began": -1, "left": []}, {"began": 1, "left": ["x"]}, [1], "x"):
        told = runner.steps(cluster="main", earlier=odd)
        assert told["steps"] == [] and "earlier is" in told["refusals"][0]["why"], odd
