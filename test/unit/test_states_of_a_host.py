"""The states of a host: what they changed is what they tell, and what fails is a failed state."""

import os

import etcd_ha_machine
import etcd_ha_mark
import etcd_ha_pem
import etcd_ha_progress
import pytest
from faces import load
from salt.exceptions import CommandExecutionError, SaltInvocationError

DOWN = {"active": False, "state": "inactive", "enabled": False, "pid": 0, "stale": False}
DOWN |= {"path": "", "started": 0}
UP = {**DOWN, "active": True, "state": "active", "enabled": True, "pid": 7, "started": 100}


@pytest.fixture
def member(tmp_path, monkeypatch):
    """``running`` on a host whose unit is in these states, one call after the other."""

    def made(units, test=False, serves=True, **salt):
        left = list(units)
        environment = {
            "ETCD_NAME": "etcd1",
            "ETCD_DATA_DIR": str(tmp_path / "data"),
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": "https://192.168.200.52:2380",
        }
        monkeypatch.setattr(
            etcd_ha_machine, "unit", lambda *_: left.pop(0) if len(left) > 1 else left[0]
        )
        monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: environment)
        monkeypatch.setattr(etcd_ha_machine, "pending", lambda *_: [])
        monkeypatch.setattr(etcd_ha_progress, "FOLDER", str(tmp_path / "restore"))
        for name in ("RESTORE", "RECOVER", "CLOSED"):
            monkeypatch.setattr(etcd_ha_progress, name, str(tmp_path / "restore" / name))
        (tmp_path / "data" / "member" / "wal").mkdir(parents=True, exist_ok=True)
        states = load("_states/etcd_ha", opts={"test": test})
        monkeypatch.setattr(states, "BOOTSTRAP_FILE", str(tmp_path / "bootstrap.env"))
        states.__salt__ = {
            "cmd.run_all": lambda *_, **__: {"retcode": 0},
            "cmd.run_stdout": lambda *_, **__: "",
            "etcd_ha.local_health": lambda: {"healthy": serves},
            "etcd_ha.reason_to_stay": lambda: "",
            "etcd_ha.move_leader": lambda *_: "",
            "etcd_ha.facts": lambda: {"etcd": {}},
            "etcd_ha_member.enter": lambda *_, **__: {"keep": True, "initial_cluster": ""},
            "etcd_ha_member.promote": lambda *_: {"promoted": False, "lag": 0},
            "etcd_ha_member.update": lambda *_: False,
            "etcd_ha_member.set_aside": lambda *_: ["/aside"],
            **salt,
        }

        def run(action, **more):
            more = {"record": str(tmp_path / "main.json"), "start_timeout": 1, **more}
            told = states.running(
                "x", "etcd.service", "main", environment, "/opt/etcd", action=action, **more
            )
            return told

        return run

    return made


def failing(*_, **__):
    raise CommandExecutionError("etcd refuses. Look at: journalctl -u etcd")


def test_a_start_that_failed_is_no_change(member):
    run = member([DOWN], **{"cmd.run_all": lambda *_, **__: {"retcode": 1}})
    told = run("none")
    assert told["result"] is False and told["changes"] == {}
    assert "journalctl" in told["comment"]


def test_a_restart_that_was_refused_is_no_change(member):
    run = member([UP], **{"etcd_ha.reason_to_stay": lambda: "only 1 is healthy"})
    told = run("restart", restart_before=200)
    assert told["result"] is False and told["changes"] == {}


def test_what_happened_before_the_failure_is_told(member):
    run = member([DOWN, UP], **{"etcd_ha_member.promote": failing})
    told = run("restart")
    assert told["result"] is False and set(told["changes"]) == {"enabled", "unit"}
    again = member([UP, {**UP, "pid": 8}], **{"etcd_ha_member.promote": failing})
    assert set(again("restart", restart_before=200)["changes"]) == {"process"}


def test_data_that_was_set_aside_is_told_though_the_member_failed(member):
    enter = {"keep": False, "initial_cluster": "etcd1=https://192.168.200.52:2380"}
    run = member(
        [DOWN],
        **{
            "etcd_ha_member.enter": lambda *_, **__: enter,
            "cmd.run_all": lambda command, **_: {"retcode": int("restart" in command)},
        },
    )
    told = run("join")
    assert told["result"] is False and told["changes"]["data"]["new"] == ["/aside"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SaltInvocationError("name is ''")]
)
def test_whatever_goes_wrong_is_a_failed_state(member, error):
    def fails(*_, **__):
        raise error

    told = member([UP], **{"etcd_ha_member.update": fails})("restart")
    assert told["result"] is False and str(error) in told["comment"]
    told = member([DOWN], **{"etcd_ha.facts": failing})("join")
    assert told["result"] is False and "etcd refuses" in told["comment"]


@pytest.mark.parametrize("test", [True, False])
def test_a_member_that_does_not_serve_is_told_to_be_started_anew(member, test):
    health = iter([{"healthy": False}])
    run = member([UP], test, **{"etcd_ha.local_health": lambda: next(health, {"healthy": True})})
    told = run("join")
    assert told["result"] is (None if test else True)
    assert told["changes"] == {"process": {"old": "does not serve", "new": "started anew"}}


def test_what_the_cluster_was_told_is_a_change(member):
    promoted = {"promoted": True, "lag": 0}
    run = member(
        [UP],
        **{"etcd_ha_member.promote": lambda *_: promoted, "etcd_ha_member.update": lambda *_: True},
    )
    told = run("restart")
    assert set(told["changes"]) == {"member", "ETCD_INITIAL_ADVERTISE_PEER_URLS"}
    assert run("restart")["result"] is True


# Files


@pytest.fixture
def host(tmp_path):
    """The states on a host with root's files belonging to who runs the test."""

    def made(test=False, **salt):
        ids = {"file.user_to_uid": lambda name: os.getuid(), "file.group_to_gid": lambda n: 0}
        ids["x509.create_private_key"] = lambda **_: "key"
        return load("_states/etcd_ha", opts={"test": test}, salt={**ids, **salt})

    made.folder = tmp_path
    return made


def pair(host, test=False, **salt):
    folder = str(host.folder)
    return host(test, **salt).pair_in_use(
        "x",
        f"{folder}/a.crt",
        f"{folder}/a.key",
        f"{folder}/new.crt",
        f"{folder}/new.key",
        f"{folder}/ca.crt",
        "etcd",
        "etcd",
    )


def test_a_pair_that_is_yet_to_come_is_told_in_the_same_words(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_pem, "misfit", lambda *_: "")
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    (host.folder / "a.crt").write_text("old")
    foreseen = pair(host, test=True)
    assert foreseen["result"] is None and "would be put in use" in foreseen["comment"]
    for name in ("new.crt", "new.key"):
        (host.folder / name).write_text("new")
    assert pair(host, test=True)["changes"] == foreseen["changes"]
    done = pair(host)
    assert done["result"] is True and done["changes"] == foreseen["changes"]


def test_a_pair_that_is_missing_says_what_to_do(host):
    told = pair(host)
    assert told["result"] is False and "run again" not in told["name"]
    assert "come first" in told["comment"] and told["changes"] == {}


@pytest.mark.parametrize("unknown", ["file.user_to_uid", "file.group_to_gid"])
def test_a_pair_for_nobody_is_a_failed_state(host, monkeypatch, unknown):
    monkeypatch.setattr(etcd_ha_pem, "misfit", lambda *_: "")
    for name in ("new.crt", "new.key"):
        (host.folder / name).write_text("new")
    told = pair(host, **{unknown: lambda name: ""})
    assert told["result"] is False and "no user etcd or no group etcd" in told["comment"]
    assert not (host.folder / "a.key").exists()
    foreseen = pair(host, test=True, **{unknown: lambda name: ""})
    assert foreseen["result"] is None, "the user may be made by an earlier state"


def test_what_the_disk_refuses_is_a_failed_state(host, monkeypatch):
    monkeypatch.setattr(etcd_ha_pem, "misfit", lambda *_: "")
    folder = host.folder
    (folder / "file").write_text("")
    for name in ("new.crt", "new.key"):
        (folder / name).write_text("new")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    release = {"url": "https://mirror/a", "sums_url": "https://mirror/b", "programs": ["etcd"]}
    release |= {"version": "3.6.14", "archive": "a.tar.gz", "folder": "a"}
    with monkeypatch.context() as context:
        for name in ("replace", "rename", "mkdir", "makedirs"):
            context.setattr(os, name, refuse)
        context.setattr(os, "access", lambda path, mode: "3.6.14" not in path)
        states = host()
        told = [
            states.installed("x", dir=f"{folder}/3.6.14", **release),
            states.switched("x", str(folder), f"{folder}/now", f"{folder}/bin", ["etcd"]),
            states.key_made("x", f"{folder}/new.key"),
            pair(host),
            states.renamed("x", f"{folder}/file", f"{folder}/other"),
        ]
    for one in told:
        assert one["result"] is False and one["changes"] == {}
        assert "Read-only file system" in one["comment"]


def test_links_that_were_put_in_use_are_told_though_one_failed(host, monkeypatch):
    folder = host.folder
    (folder / "etcd").write_text("")
    (folder / "etcd").chmod(0o755)
    (folder / "bin" / "etcd").mkdir(parents=True)
    told = host().switched("x", str(folder), f"{folder}/now", f"{folder}/bin", ["etcd"])
    assert told["result"] is False and "bin/etcd" in told["comment"]
    assert told["changes"] == {}, "the programs come before the link that they follow"


def test_a_key_that_cannot_be_made_is_a_failed_state(host):
    told = host(**{"x509.create_private_key": failing}).key_made("x", f"{host.folder}/a.key")
    assert told["result"] is False and told["changes"] == {}


def test_a_mark_that_cannot_be_written_is_a_failed_state(host, monkeypatch):
    wanted = {"member": None, "balancer": None}
    monkeypatch.setattr(etcd_ha_mark, "read", lambda: {})
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", "/dev/null/host.json")
    told = host().applied("x", wanted)
    assert told["result"] is False and "nothing was written down" in told["comment"]
