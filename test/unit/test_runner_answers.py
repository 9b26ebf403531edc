"""What a runner returns: text for people, data for programs, and an exit code that scripts read."""

import json

import etcd_ha_master
import etcd_ha_minions
import etcd_ha_report
import etcd_ha_steps
import pytest
import salt.exceptions
from etcd_ha_master import Answer, Master
from faces import load
from salt.exceptions import CommandExecutionError

HEALTHY = {"active": True, "healthy": True, "raft_index": 9, "db_size": 2048, "alarms": ()}


def told(opts, context, data, code, text="words"):
    found = Answer(text, {"clusters": {}}, code)
    return etcd_ha_master.answer(opts, context, data, lambda master: found)


@pytest.mark.parametrize("out", [None, "nested", "highstate", "txt"])
def test_people_read_text(out):
    assert told({"output": out} if out else {}, {}, False, 0) == "words"
    with pytest.raises(salt.exceptions.NotImplemented, match="words"):
        told({"output": out}, {}, False, 1)


@pytest.mark.parametrize("out", ["json", "yaml", "raw", "pprint", "asked"])
@pytest.mark.parametrize("code", [0, 1, 2])
def test_programs_get_data(out, code):
    context = {}
    found = told({"output": out}, context, out == "asked", code)
    assert found == {"clusters": {}, **({"retcode": code} if code else {})}
    # Salt takes a job for a success without it, whatever the exit code is.
    assert context == ({"retcode": code} if code else {})


def test_an_exit_code_of_2_needs_a_mapping():
    context = {}
    assert told({}, context, False, 2) == {"text": "words", "retcode": 2}
    assert context == {"retcode": 2}


def test_whatever_is_wrong_is_data_for_a_program():
    def find(master):
        raise CommandExecutionError("no such cluster")

    found = etcd_ha_master.answer({"output": "json"}, {}, False, find)
    assert found == {"error": "no such cluster", "retcode": 1}
    with pytest.raises(salt.exceptions.NotImplemented, match=r"^no such cluster$"):
        etcd_ha_master.answer({}, {}, False, find)


# status


@pytest.fixture
def facts(cluster):
    found = {member.minion: {"etcd": dict(HEALTHY)} for member in cluster.members}
    found |= {b.minion: {"balancer": {"healthy": True}} for b in cluster.balancers}
    return found


def test_the_status_of_a_healthy_cluster_is_sound_and_in_json(cluster, facts):
    report = etcd_ha_report.status(cluster, facts, ["a note"])
    assert report.sound and report.text.endswith("a note")
    found = json.loads(json.dumps(report.data))["main"]
    assert found["notes"] == ["a note"]
    first, last = found["hosts"][0], found["hosts"][-1]
    assert (first["name"], first["role"], first["health"]) == ("etcd1", "follower", "healthy")
    assert first["healthy"] is True and (first["lag"], first["db_size"]) == (0, 2048)
    assert last["role"] == "balancer" and "lag" not in last


@pytest.mark.parametrize(
    ("minion", "values", "sound"),
    [
        ("etcd2.example.com", None, False),
        ("etcd2.example.com", {"etcd": {"active": False}}, False),
        ("etcd2.example.com", {"etcd": {**HEALTHY, "errors": ["sick"]}}, False),
        ("etcd2.example.com", {"etcd": {**HEALTHY, "alarms": ("NOSPACE",)}}, False),
        ("etcd2.example.com", {"paused": "paused until", "etcd": {"active": False}}, True),
        ("lb.example.com", {"balancer": {"healthy": False}}, False),
        ("lb.example.com", None, False),
    ],
)
def test_whoever_needs_somebody_makes_the_status_fail(cluster, facts, minion, values, sound):
    facts[minion] = values
    facts = {name: found for name, found in facts.items() if found is not None}
    assert etcd_ha_report.status(cluster, facts).sound is sound


@pytest.mark.parametrize("healthy", [True, False])
def test_the_runner_ends_by_it(cluster, facts, monkeypatch, healthy):
    facts["etcd2.example.com"]["etcd"]["healthy"] = healthy
    monkeypatch.setattr(Master, "clusters_and_faults", lambda *_: ({"main": cluster}, {}))
    monkeypatch.setattr(etcd_ha_minions, "facts", lambda *_: etcd_ha_minions.Facts(facts))
    monkeypatch.setattr("etcd_ha_observed.Observed.of", lambda found: None)
    module = load("_runners/etcd_ha_overview")
    for name in ("etcd_ha_plan_paused", "etcd_ha_space"):
        monkeypatch.setattr(f"{name}.notes", lambda *_: [])
    assert ("retcode" in module.status(data=True)) is not healthy
    if healthy:
        assert module.status().startswith("main\n")
        return
    with pytest.raises(salt.exceptions.NotImplemented, match="unhealthy"):
        module.status()


# plan

STEP = etcd_ha_steps.Step(
    "main: restart etcd1", "state", ("etcd1.example.com",), why="it is due", details=["a -> b"]
)


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ({}, 0),
        ({"steps": (STEP,)}, 2),
        ({"refusal": "no quorum"}, 1),
        ({"steps": (STEP,), "waits": ("the CA",)}, 1),
    ],
)
@pytest.mark.parametrize("detailed", [True, False])
def test_a_plan_s_exit_code(monkeypatch, plan, code, detailed):
    module = load("_runners/etcd_ha")
    made = [etcd_ha_steps.Plan("main", "3 members", **plan)]
    monkeypatch.setattr(module, "_plans", lambda *_: made)
    found = module.plan(detailed_exitcode=detailed, data=True)
    assert found.get("retcode", 0) == (code if detailed or code == 1 else 0)
    told = json.loads(json.dumps(found))["clusters"]["main"]
    assert told["in_sync"] is (code == 0) and told["refusal"] == plan.get("refusal", "")
    steps = [tuple(step.values())[:3] for step in told["steps"]]
    assert steps == [("restart etcd1", "it is due", ["a -> b"])] * len(steps)
    assert all(step["minions"] == ["etcd1.example.com"] for step in told["steps"])
    assert len(steps) == len(plan.get("steps", ()))
    if code == 2:
        text = module.plan(detailed_exitcode=detailed)
        assert "1. restart etcd1" in (text["text"] if detailed else text)


# forget


class Records:
    def __init__(self, *names):
        self.names = list(names)

    def contains(self, bank, name):
        return name in self.names

    def flush(self, bank, name):
        self.names.remove(name)


@pytest.mark.parametrize(
    ("name", "says"), [("other", "no record of a cluster 'other'"), ("../x", "cluster is '../x'")]
)
def test_a_record_is_forgotten_once_and_by_its_name(monkeypatch, name, says):
    records = Records("main")
    monkeypatch.setattr(Master, "cache", records)
    module = load("_runners/etcd_ha_record")
    with pytest.raises(salt.exceptions.NotImplemented, match=says):
        module.forget(name)
    module.__opts__["output"] = "json"
    found = module.forget(name)
    assert found["retcode"] == 1 and says in found["error"] and records.names == ["main"]
    assert module.forget("main") is True and records.names == []
