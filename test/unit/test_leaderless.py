"""A member without a leader says so at once: who asks it for the list would wait in vain."""

import importlib.util
import pathlib

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
