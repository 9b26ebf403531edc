"""The faces of a pause: what stops a member, what refuses to, and what leaves it stopped."""

import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_data
import etcd_ha_etcdctl
import etcd_ha_faces
import etcd_ha_host_hidden
import etcd_ha_host_in_force
import etcd_ha_host_paused
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_progress
import pytest
from faces import ROOT, load
from salt.exceptions import CommandExecutionError, SaltInvocationError
from test_states_of_a_host import DOWN, UP, member  # noqa: F401

PAUSE = {"cluster": "main", "member": "etcd1", "reason": "disk swap"}
PAUSE |= {"since": "2026-11-30T10:00:00Z", "until": "2099-11-30T16:00:00Z"}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A member of three whose others are healthy; ``deeds`` are systemd's."""

    class Host:
        deeds, serving, healthy, up = [], ["etcd2", "etcd3"], True, True

    found = Host()
    found.deeds, found.serving = [], ["etcd2", "etcd3"]
    monkeypatch.setattr(etcd_ha_host_paused, "FILE", str(tmp_path / "paused" / "member.json"))
    monkeypatch.setattr(etcd_ha_host_paused, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(tmp_path / "in_force" / "host.json"))
    record = {"cluster": "main", "state": "bootstrapped", "member_id": "etcd1"}
    monkeypatch.setattr(etcd_ha_host_record, "read", lambda: record)
    monkeypatch.setattr(etcd_ha_progress, "unfinished", lambda: "")
    monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda _: {})
    monkeypatch.setattr(etcd_ha_client, "configured", lambda: {"ETCD_NAME": "etcd1"})
    monkeypatch.setattr(etcd_ha_client, "serving_endpoint", lambda: "here")
    monkeypatch.setattr(etcd_ha_client, "others", lambda _: "others")
    monkeypatch.setattr(etcd_ha_faces, "member", lambda: {"name": "etcd1"})
    monkeypatch.setattr(etcd_ha_common_systemd, "unit", lambda *_: UP if found.up else DOWN)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", lambda *_, **__: None)

    def listed(*_):
        if not found.serving:
            raise etcd_ha_etcdctl.EtcdctlError("etcdctl: deadline exceeded")
        names = ("etcd1", "etcd2", "etcd3")
        return [{"id": n, "name": n, "learner": False, "client_urls": [n]} for n in names]

    def stop(*_, **__):
        found.deeds.append("stop")
        found.up = False

    def start(*_):
        found.deeds.append("start")
        found.up = True

    monkeypatch.setattr(etcd_ha_client, "members", listed)
    monkeypatch.setattr(etcd_ha_client, "healthy", lambda *_: set(found.serving))
    monkeypatch.setattr(etcd_ha_data, "stop", stop)
    monkeypatch.setattr(etcd_ha_data, "start", start)
    module = load("_modules/etcd_ha_pause", opts={}, grains={"id": "etcd1.example.com"})
    monkeypatch.setattr(module, "SETTLE", 0)
    module.__salt__ = {
        "etcd_ha.refusal": lambda: "",
        "etcd_ha.local_health": lambda: {"healthy": found.healthy},
        "etcd_ha.move_leader": lambda: found.deeds.append("move leader"),
    }
    found.module = module
    return found


@pytest.mark.parametrize("kind", ["mount", "deleted"])
def test_a_member_whose_data_is_out_of_reach_is_not_paused(host, monkeypatch, kind):
    """It would not come back with its data."""
    found = {"kind": kind, "path": "/var/lib/etcd", "by": "/var/lib/etcd"}
    monkeypatch.setattr(etcd_ha_host_hidden, "look", lambda *_: found)
    with pytest.raises(CommandExecutionError, match=r"Do not restart.*It was not paused"):
        host.module.pause("disk swap", hours=4)
    assert host.deeds == [] and etcd_ha_host_paused.read() == {}


def test_a_pause_moves_leadership_away_and_stops_the_member(host):
    told = host.module.pause("disk swap", hours=4)
    assert (told["cluster"], told["member"], told["reason"]) == ("main", "etcd1", "disk swap")
    assert host.deeds == ["move leader", "stop"]
    assert etcd_ha_host_paused.read() == told
    assert host.module.paused() == {**told, "ended": False}
    again = host.module.pause("another disk", hours=8)
    assert again["since"] == told["since"] and again["reason"] == "another disk"
    assert host.deeds == ["move leader", "stop"]


def test_a_pause_that_would_cost_the_quorum_is_refused(host):
    host.serving = ["etcd3"]
    with pytest.raises(CommandExecutionError, match="2 are needed for a quorum"):
        host.module.pause("disk swap", hours=4)
    host.serving = []
    with pytest.raises(CommandExecutionError, match="cannot be known"):
        host.module.pause("disk swap", hours=4)
    assert host.deeds == [] and etcd_ha_host_paused.read() == {}


@pytest.mark.parametrize("over", [True, False])
def test_a_pause_that_is_over_before_all_is_in_place_is_ended(host, monkeypatch, over):
    """systemd's timer never fires for a time that had passed when it was started first."""
    asked = []
    monkeypatch.setattr(
        etcd_ha_common_systemd, "systemctl", lambda *words, **_: asked.append(words)
    )
    monkeypatch.setattr(etcd_ha_host_paused, "has_ended", lambda *_: over)
    host.module.pause("short", hours=4)
    assert (("start", etcd_ha_host_paused.SERVICE) in asked) is over


def test_a_member_that_is_down_is_paused_where_the_others_are_a_quorum(host):
    host.up = False
    host.module.pause("disk swap", hours=4)
    assert host.deeds == [] and etcd_ha_host_paused.read()


def test_two_pauses_at_once_do_not_both_go_through(host, monkeypatch):
    """Each sees a quorum before it stops its member; afterwards there is none."""

    def stop(*_, **__):
        host.deeds.append("stop")
        host.serving = ["etcd3"]

    monkeypatch.setattr(etcd_ha_data, "stop", stop)
    with pytest.raises(CommandExecutionError, match="was not paused, and runs"):
        host.module.pause("disk swap", hours=4)
    assert host.deeds == ["move leader", "stop", "start"] and etcd_ha_host_paused.read() == {}


def test_resume_starts_the_member_and_waits(host):
    assert host.module.resume() == {"resumed": False, "was": ""}
    host.module.pause("disk swap", hours=4)
    told = host.module.resume()
    assert told["resumed"] is True and "disk swap" in told["was"]
    assert host.deeds[-1] == "start" and etcd_ha_host_paused.read() == {}
    host.module.pause("disk swap", hours=4)
    host.healthy = False
    with pytest.raises(CommandExecutionError, match=r"not healthy: waited 0\.1 s"):
        host.module.resume(timeout=0.1)


@pytest.mark.parametrize("given", [{}, {"until": "soon"}, {"until": "2020-01-01"}])
def test_a_wrong_end_does_nothing(host, given):
    with pytest.raises(SaltInvocationError, match="Nothing was done"):
        host.module.pause("disk swap", **given)
    assert host.deeds == [] and etcd_ha_host_paused.read() == {}


def test_somebody_else_s_etcd_is_not_stopped(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_record, "read", dict)
    with pytest.raises(CommandExecutionError, match="holds no member"):
        host.module.pause("disk swap", hours=4)
    host.module.__salt__["etcd_ha.refusal"] = lambda: "an etcd is in the way"
    with pytest.raises(CommandExecutionError, match="in the way"):
        host.module.pause("disk swap", hours=4)
    assert host.deeds == []


def test_a_highstate_leaves_a_paused_member_stopped(host, member):  # noqa: F811
    etcd_ha_host_paused.keep(PAUSE)
    for test in (False, True):
        told = member([DOWN], test)("none")
        assert (told["result"], told["changes"]) == (True, {})
        assert "paused until 2099-11-30T16:00:00Z (disk swap)" in told["comment"]
    # A step of the orchestrate that was planned before does not pass it over in silence.
    for action in ("restart", "join"):
        told = member([DOWN])(action)
        assert (told["result"], told["changes"]) == (False, {})


def test_a_member_whose_pause_has_ended_is_started_and_told(host, member):  # noqa: F811
    etcd_ha_host_paused.keep({**PAUSE, "until": "2026-01-01T00:00:00Z"})
    told = member([DOWN, UP])("none")
    assert told["result"] is True and "its pause has passed" in told["comment"]
    assert etcd_ha_host_paused.read() == {}


def test_no_backup_is_taken_from_a_paused_member():
    unit = (ROOT / "etcd_ha" / "backup" / "backup.service.jinja").read_text()
    file = "/var/lib/etcd_ha/paused/member.json"
    assert f"ConditionPathExists=!{file}\n" in unit.partition("[Service]")[0]
    assert file.rpartition("/")[0] == load("_modules/etcd_ha_pause").etcd_ha_host_paused.FOLDER
