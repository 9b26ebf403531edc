"""A restore and a recovery through Salt's own loaders, and as the orchestrate renders them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_faces
import etcd_ha_progress
import orchestrates
import pytest
import salt.loader
import yaml

E1 = "etcd1.example.com"
VARIABLES = {
    "ETCD_NAME": "etcd1",
    "ETCD_DATA_DIR": "/nowhere/etcd",
    "ETCD_INITIAL_CLUSTER": "etcd1=http://127.0.0.1:1,etcd2=http://127.0.0.1:2",
}


@pytest.fixture
def minion(minion_opts, pillar, tmp_path, monkeypatch):
    """A member's modules and states, with what a restore has done kept in a folder of the test."""
    for name in ("HELD", "RESTORE", "RECOVER", "CLOSED"):
        path = tmp_path / "restore" / getattr(etcd_ha_progress, name).rpartition("/")[2]
        monkeypatch.setattr(etcd_ha_progress, name, str(path))
    monkeypatch.setattr(etcd_ha_progress, "FOLDER", str(tmp_path / "restore"))
    opts = {**minion_opts, "id": E1, "pillar": pillar}
    opts["grains"] = {"id": E1, "os": "Debian", "os_family": "Debian", "osarch": "amd64"}
    modules = salt.loader.minion_mods(opts)
    return modules, salt.loader.states(opts, modules, salt.loader.utils(opts), {})


def look(modules, folder, **more):
    return modules["etcd_ha_restore.look"]({E1: [str(folder), ""]}, **more)


def test_a_disk_is_looked_at_by_a_minion_itself(minion, tmp_path):
    """The module and the logic that it uses bear the same name: Salt must tell them apart."""
    found = look(minion[0], tmp_path / "etcd")
    assert found["free"] > 0 and found["wal_free"] is None
    assert found["evidence"] == {"has_data": False}
    assert found["progress"] == {} and found["backups"] == []


def test_a_backup_is_known_by_its_sidecar_and_checked_when_asked_for(minion, tmp_path):
    (tmp_path / "one.db").write_bytes(b"x" * 544)
    told = {"revision": 7, "keys": 3, "verified": True, "when": "2026-11-24", "size": 544}
    (tmp_path / "one.json").write_text(json.dumps(told))
    (tmp_path / "two.db").write_bytes(b"")
    known, bare = look(minion[0], tmp_path / "etcd", folders=[str(tmp_path)])["backups"]
    assert (known["revision"], known["keys"], known["verified"]) == (7, 3, True)
    assert "fault" not in known
    assert bare["when"] and not bare["verified"]
    path = str(tmp_path / "one.db")
    found = look(minion[0], tmp_path / "etcd", folders=[str(tmp_path)], path=path)["backups"]
    (checked,) = [one for one in found if one["path"] == path]
    assert "corrupt" in checked["fault"]


def test_a_backup_that_became_shorter_is_told(minion, tmp_path):
    (tmp_path / "one.db").write_bytes(b"x" * 10)
    (tmp_path / "one.json").write_text(json.dumps({"size": 544}))
    (known,) = look(minion[0], tmp_path / "etcd", folders=[str(tmp_path)])["backups"]
    assert "10 bytes instead of 544" in known["fault"]


def running(states, action):
    return states["etcd_ha.running"](
        name="etcd1 runs",
        unit="etcd.service",
        cluster="main",
        environment=VARIABLES,
        program="/opt/etcd/current/etcd",
        record="/nowhere/main.json",
        action=action,
    )


@pytest.mark.parametrize("action", ["none", "restart", "bootstrap", "join"])
@pytest.mark.parametrize("phase", ["exchanging", "exchanged", "started"])
def test_nothing_is_started_while_a_restore_is_not_ended(minion, monkeypatch, action, phase):
    monkeypatch.setattr(etcd_ha_common_systemd, "unit", lambda *_: pytest.fail("it went on"))
    etcd_ha_progress.write(etcd_ha_progress.RESTORE, {"token": "t"}, phase)
    ret = running(minion[1], action)
    assert ret["result"] is False and ret["changes"] == {}
    assert "etcd_ha.orch.restore" in ret["comment"] and '"confirm": "main"' in ret["comment"]


def test_the_same_of_a_recovery(minion):
    etcd_ha_progress.write(etcd_ha_progress.RECOVER, {}, "copied")
    assert "etcd_ha.orch.recover" in running(minion[1], "none")["comment"]


def test_a_member_is_held_for_its_restore(minion, monkeypatch):
    monkeypatch.setattr(etcd_ha_common_systemd, "unit", lambda *_: pytest.fail("it went on"))
    ret = running(minion[1], "hold")
    assert ret["result"] is True and ret["changes"] == {}


@pytest.fixture
def member(minion, monkeypatch, tmp_path):
    """A member with data and with restored data that lies ready; its service is a list of words."""
    said = []
    data = tmp_path / "etcd"
    (data / "member").mkdir(parents=True)
    (data / "member" / "old").write_text("old")
    ready = data / "restoring" / "data" / "member"
    ready.mkdir(parents=True)
    (ready / "new").write_text("new")
    told = {
        "token": "t",
        "revision": 7,
        "keys": 2,
        "sha256": "s",
        "source": "/x",
        "phase": "staged",
    }
    (data / "restoring" / "restore.json").write_text(json.dumps(told))
    wanted = {
        "cluster": "main",
        "data_dir": str(data),
        "wal_dir": None,
        "environment": VARIABLES,
        "record": str(tmp_path / "main.json"),
        "start_timeout": 3,
    }
    modules = minion[0]
    restore = modules["etcd_ha_restore.exchange"].__globals__
    host = {"etcd_ha.wanted_host": lambda: {"member": wanted}}
    monkeypatch.setitem(restore, "__salt__", {**host, "etcd_ha.os_data": dict})
    monkeypatch.setitem(restore, "_count", lambda *_: restore["_counted"])
    monkeypatch.setitem(restore, "_counted", 2)
    monkeypatch.setattr(etcd_ha_faces, "unit", lambda name: SimpleNamespace(active=False))
    monkeypatch.setattr(etcd_ha_data, "stop", lambda *_, **__: said.append("stop"))
    monkeypatch.setattr(etcd_ha_data, "start", lambda *_: said.append("start"))
    return modules, data, said, restore


def test_the_data_is_exchanged_behind_a_gate(member, tmp_path):
    modules, data, said, _ = member
    done = modules["etcd_ha_restore.exchange"]("main", "t")
    assert (data / "member" / "new").exists() and said == ["stop"]
    (aside,) = done["aside"]
    assert aside.startswith(f"{data}.replaced-")
    assert (tmp_path / "restore" / "held").exists()
    assert json.loads((tmp_path / "main.json").read_text())["state"] == "bootstrapped"
    assert modules["etcd_ha_restore.exchange"]("main", "t") == done
    assert said == ["stop"], "what was done is not done once more"


def test_the_gate_opens_for_the_start_and_the_keys_are_compared(member, tmp_path):
    modules, _, said, restore = member
    modules["etcd_ha_restore.exchange"]("main", "t")
    restore["_counted"] = 1
    with pytest.raises(Exception, match="holds 1 keys at revision 7, the backup has 2"):
        modules["etcd_ha_restore.start"]("main", "t")
    with pytest.raises(Exception, match="has not started"):
        modules["etcd_ha_restore.finish"]("main", "t")
    restore["_counted"] = 2
    assert modules["etcd_ha_restore.start"]("main", "t") == {"revision": 7, "keys": 2}
    assert not (tmp_path / "restore" / "held").exists()
    assert said == ["stop", "start", "start"]
    modules["etcd_ha_restore.finish"]("main", "t")
    assert etcd_ha_progress.unfinished() == ""


def test_another_restore_s_data_is_not_put_in_place(member):
    modules, data, said, _ = member
    with pytest.raises(Exception, match="no restored data lies ready"):
        modules["etcd_ha_restore.exchange"]("main", "another")
    assert said == [] and (data / "member" / "old").exists()


def test_nothing_starts_that_was_not_exchanged(member):
    modules, _, said, _ = member
    with pytest.raises(Exception, match="has not exchanged its data yet"):
        modules["etcd_ha_restore.start"]("main", "t")
    assert said == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("restore", {"confirm": "main", "backup": "one"}),
        ("recover", {"confirm": "main", "lost": ["etcd3"], "survivor": "etcd1"}),
    ],
)
def test_the_orchestrate_hands_over_what_it_is_asked(command, words):
    handed = []

    def runner(name, kwarg):
        handed.append((name, kwarg))
        step = {"id": "a step", "kind": "function", "targets": [E1], "function": "test.ping"}
        return {"refusals": [], "steps": [{**step, "arguments": {}}]}

    text = orchestrates.rendered(command, runner, pillar=words)
    assert list(yaml.safe_load(text)) == ["a step"]
    asked = {"command": command, "given": list(words), **words}
    assert handed == [("etcd_ha.steps", asked)]


def test_other_formulas_secrets_are_not_handed_over():
    """Runners' arguments stand in events and the job cache."""
    handed = []

    def runner(name, kwarg):
        handed.append(kwarg)
        return {"refusals": [], "steps": []}

    own = {"backup": {"password": "secret"}, "users": {"root": "secret"}, "confirm": "main"}
    orchestrates.rendered("restore", runner, pillar=own)
    assert handed == [{"command": "restore", "given": [*own], "confirm": "main", "backup": {}}]


@pytest.mark.parametrize(("name", "asked"), [("etcd1", []), ("etcd2", [("127.0.0.1", 1)])])
def test_each_member_starts_once_the_one_before_it_serves(member, monkeypatch, name, asked):
    modules, _, said, restore = member
    modules["etcd_ha_restore.exchange"]("main", "t")
    wanted = restore["__salt__"]["etcd_ha.wanted_host"]()["member"]
    wanted["environment"] = {**VARIABLES, "ETCD_NAME": name}
    waited = []
    monkeypatch.setattr(
        restore["etcd_ha_transfer"], "answers", lambda at, *_: waited.append((at, list(said)))
    )
    modules["etcd_ha_restore.start"]("main", "t")
    assert waited == [(at, ["stop"]) for at in asked]
