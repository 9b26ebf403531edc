"""A member without a leader says so at once: who asks it for the list would wait in vain."""

import importlib.util
import pathlib
import time

import pytest

MODULE = pathlib.Path(__file__).parents[2] / "_modules" / "etcd_ha.py"
ROW = {"leader_id": "0", "learner": False, "member_id": "a", "errors": [], "alarms": []}
LEADING = {**ROW, "leader_id": "a"}


@pytest.fixture
def module(monkeypatch):
    spec = importlib.util.spec_from_file_location("etcd_ha_module", MODULE)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    monkeypatch.setattr(found, "ELECTION", 0.3)
    monkeypatch.setattr(found.etcd_ha_client, "members", lambda *_: [{"id": "a"}])
    return found


def rows(monkeypatch, module, *answers):
    left = list(answers)
    monkeypatch.setattr(
        module.etcd_ha_faces, "status", lambda *_: [left.pop(0) if len(left) > 1 else left[0]]
    )


def test_without_a_leader_it_is_unhealthy_and_nobody_waits(module, monkeypatch):
    rows(monkeypatch, module, ROW)
    monkeypatch.setattr(module.etcd_ha_client, "members", lambda *_: pytest.fail("it waited"))
    found = module._live_facts({}, 5, "here")
    assert found["healthy"] is False and "no leader" in found["error"]


def test_an_election_is_waited_for(module, monkeypatch):
    rows(monkeypatch, module, ROW, LEADING)
    assert module._live_facts({}, 5, "here")["healthy"] is True


def test_a_learner_is_not_asked_for_the_list(module, monkeypatch):
    rows(monkeypatch, module, {**LEADING, "learner": True})
    assert module._live_facts({}, 5, "here")["members"] == []


@pytest.fixture
def without_leader(module, monkeypatch):
    """Asks for the facts of a member whose log says since when; counts how often it was asked."""

    def ask(since, hurried):
        asked = []
        monkeypatch.setattr(module.etcd_ha_faces, "status", lambda *_: asked.append(1) or [ROW])
        ago = time.monotonic() - since
        line = f"[{ago:.6f}] etcd1 etcd[9]: {{'msg':'9 is starting a new election at term 2'}}"
        monkeypatch.setattr(module, "_journal", lambda **_: line)
        assert module._live_facts({}, 5, "here", hurried)["healthy"] is False
        return len(asked)

    return ask


def test_in_a_hurry_nobody_waits_for_an_election_that_has_failed(without_leader):
    assert without_leader(since=9, hurried=True) == 1


def test_but_for_one_that_may_go_on(without_leader):
    assert without_leader(since=0, hurried=True) > 1


def test_without_hurry_peers_that_came_back_may_yet_elect_one(without_leader):
    assert without_leader(since=9, hurried=False) > 1


def test_in_a_hurry_a_log_that_says_nothing_is_no_reason_to_go_on(module, monkeypatch):
    rows(monkeypatch, module, ROW, LEADING)
    monkeypatch.setattr(module, "_journal", lambda **_: "")
    assert module._live_facts({}, 5, "here", True)["healthy"] is True
