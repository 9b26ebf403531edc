"""The functions of a member: what they say where etcd does not answer, and whom they believe."""

import etcd_ha_backup_program
import etcd_ha_client
import etcd_ha_common_systemd
import etcd_ha_etcdctl
import etcd_ha_host_etcds
import etcd_ha_host_in_force
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_progress
import pytest
import systemd_units
from faces import load
from salt.exceptions import CommandExecutionError
from systemd_units import unit


def entry(number, learner=False):
    return {
        "id": f"{number:x}",
        "name": f"etcd{number}",
        "peer_urls": [f"https://p{number}"],
        "client_urls": [f"https://c{number}"],
        "learner": learner,
        "started": True,
    }


def row(number, learner=False, leader=1, index=900):
    return {
        "endpoint": f"https://c{number}",
        "cluster_id": "c",
        "member_id": f"{number:x}",
        "leader_id": f"{leader:x}",
        "leader": number == leader,
        "learner": learner,
        "raft_index": index,
        "applied_index": index,
    }


@pytest.fixture
def cluster(monkeypatch):
    """The module on a member of a cluster of which these rows answer."""

    systemd_units.told(monkeypatch, systemd_units.UP)

    def made(listed, rows, healthy=()):
        def status(member, timeout, endpoints=None):
            return [one for one in rows if endpoints is None or one["endpoint"] in endpoints]

        def fit(*_):
            if isinstance(healthy, Exception):
                raise healthy
            return set(healthy)

        ran = []

        def ctl(member, command, timeout, endpoints=None, stdin=None, more=None, path=""):
            ran.append(command)
            if command[0] == "downgrade":
                raise etcd_ha_etcdctl.EtcdctlError("etcdctl downgrade gave no answer within 3 s")
            return etcd_ha_etcdctl.Answer(1, "", "Error: refused")

        urls = ",".join(url for one in listed for url in one["client_urls"])
        for name, value in {
            "member_on_disk": lambda: {"config_dir": "/nowhere"},
            "serving_endpoint": lambda: "https://c1",
            "everyone": lambda member: urls,
            "others": lambda member: urls,
            "members": lambda *_: listed,
            "status": status,
            "healthy": fit,
            "etcdctl": ctl,
        }.items():
            monkeypatch.setattr(etcd_ha_client, name, value)
        module = load("_modules/etcd_ha_member")
        module.ran = ran
        return module

    return made


NO_ANSWER = etcd_ha_etcdctl.EtcdctlError("etcdctl endpoint gave no answer within 10 s")


def test_nobody_is_taken_out_while_the_others_health_is_not_known(cluster):
    module = cluster([entry(1), entry(2), entry(3)], [row(1)], NO_ANSWER)
    with pytest.raises(CommandExecutionError, match="not known whether the others are healthy"):
        module.remove("3")
    assert "Look at" in module.reason_to_keep("3")
    assert module.ran == []


def test_a_downgrade_without_an_answer_is_a_sentence(cluster, monkeypatch):
    module = cluster([entry(1)], [row(1)])
    monkeypatch.setattr(etcd_ha_machine, "get", lambda *_: (200, "{}"))
    with pytest.raises(CommandExecutionError, match="journalctl -u etcd"):
        module.allow_downgrade("3.5.33", timeout=3)


def test_what_etcd_refuses_says_where_to_look(cluster):
    module = cluster([entry(1)], [row(1)])
    with pytest.raises(CommandExecutionError, match=r"refused.*salt-run etcd_ha\.status"):
        module.readdress("1", "https://192.168.200.52:2380", timeout=0.1)


WAITING = {**entry(4, learner=True), "name": "", "client_urls": [], "started": False}


def test_who_was_added_and_waits_for_its_start_is_not_added_again(cluster):
    module = cluster([entry(1), WAITING], [row(1)])
    assert module.add("etcd4", "https://p4", timeout=0.1) == "etcd1=https://p1,etcd4=https://p4"
    assert module.ran == []


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"learner": False}, "4, a voter that has not started.*etcd_ha_member.remove 4"),
        ({"peer_urls": ["https://p4", "https://p5"]}, "4, a learner that has not started"),
        ({"name": "etcd4", "started": True}, "etcd4, a learner that has started"),
        ({"name": "x", "started": True, "learner": False}, "x, a voter that has started"),
    ],
)
def test_but_not_at_the_peer_url_of_another(cluster, other, says):
    module = cluster([entry(1), {**WAITING, **other}], [row(1)])
    with pytest.raises(CommandExecutionError, match=f"nothing was added: https://p4 .*{says}"):
        module.add("etcd4", "https://p4", timeout=0.1)
    assert module.ran == []


def test_a_new_member_is_added_as_a_learner(cluster, monkeypatch):
    listed = [entry(1)]
    module = cluster(listed, [row(1)])

    def added(member, command, *_, **__):
        listed.append(WAITING)
        assert command == ["member", "add", "etcd4", "--learner", "--peer-urls=https://p4"]

    monkeypatch.setattr(module, "_try", added)
    assert module.add("etcd4", "https://p4") == "etcd1=https://p1,etcd4=https://p4"


def test_a_learner_that_may_have_taken_entries_is_added_anew(cluster, monkeypatch):
    """A blank log under an id that has taken some ends etcd by a panic: etcd's issue 21178."""
    waiting = {**entry(4, learner=True), "name": "", "started": False, "client_urls": []}
    listed = [entry(1), entry(2), waiting]
    module = cluster(listed, [row(1), row(2)])

    def ctl(member, command, timeout, endpoints=None, **_):
        module.ran.append(command[:2])
        if command[1] == "remove":
            listed.remove(waiting)
        else:
            # Added, and its answer lost.
            listed.append({**waiting, "id": "44"})
            raise etcd_ha_etcdctl.EtcdctlError("etcdctl member gave no answer within 10 s")
        return etcd_ha_etcdctl.Answer(0, "", "")

    monkeypatch.setattr(etcd_ha_client, "etcdctl", ctl)
    kept = module.enter("etcd4", "https://p4", True, "https://c1")
    assert kept["keep"] and module.ran == []
    found = module.enter("etcd4", "https://p4", False, "https://c1")
    assert module.ran == [["member", "remove"], ["member", "add"]]
    assert found["member_id"] == "44" and found["initial_cluster"].endswith("etcd4=https://p4")


def test_a_voter_that_waits_for_its_first_start_keeps_its_entry(cluster):
    """Who added it by hand as the second of two waits for it: there is no quorum to remove it."""
    waiting = {**entry(2), "name": "", "started": False, "client_urls": []}
    module = cluster([entry(1), waiting], [row(1)])
    assert module.enter("etcd2", "https://p2", False, "https://c1")["member_id"] == "2"
    assert module.ran == []


def test_a_voter_is_not_admitted_again(cluster):
    module = cluster([entry(1), entry(2)], [row(1), row(2)])
    assert module.admit("2", timeout=1) == {"lag": 0}
    assert module.ran == []


def test_who_is_in_no_list_is_not_waited_for(cluster):
    module = cluster([entry(1)], [row(1)])
    with pytest.raises(CommandExecutionError, match=r"no 7; see salt ID etcd_ha\.members"):
        module.admit("7", timeout=30)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(1), row(2, True, index=100)], "it is 800 entries behind"),
        ([row(1, leader=3), row(2, True, 3)], "no member answers as the leader"),
        ([row(1)], "it does not answer"),
    ],
)
def test_a_learner_that_is_late_is_told_in_words(cluster, rows, words):
    module = cluster([entry(1), entry(2, True)], rows)
    with pytest.raises(CommandExecutionError, match=words):
        module.admit("2", timeout=0.1)


def test_a_member_without_a_leader_is_told_in_words(cluster, monkeypatch):
    systemd_units.told(monkeypatch, unit(pid=7))
    module = cluster([entry(1)], [row(1, leader=3)])
    module.__salt__["etcd_ha.local_health"] = lambda: {"healthy": False}
    with pytest.raises(CommandExecutionError, match="no member answers as the leader"):
        module.promote(timeout=0.1)


def test_a_voter_whose_leader_serves_no_client_has_caught_up_by_its_own_read(cluster, monkeypatch):
    """A setting may cut the leader off from clients; a learner needs it all the same."""
    systemd_units.told(monkeypatch, unit(pid=7))
    module = cluster([entry(1)], [row(1, leader=3)])
    module.__salt__["etcd_ha.local_health"] = lambda: {"healthy": True}
    assert module.promote(timeout=3) == {"promoted": False, "lag": 0}
    module = cluster([entry(1, True)], [row(1, True, 3)])
    module.__salt__["etcd_ha.local_health"] = lambda: {"healthy": True}
    with pytest.raises(CommandExecutionError):
        module.promote(timeout=0.1)


def test_certificates_that_cannot_be_read_are_a_sentence(cluster):
    module = cluster([entry(1)], [row(1)])
    with pytest.raises(CommandExecutionError, match=r"/nowhere/pki cannot be read"):
        module.served_by_one_ca()


@pytest.mark.parametrize(
    "state", [unit(pid=7), unit(pid=7, state="inactive"), unit(state="activating")]
)
def test_what_does_not_stop_keeps_its_data(cluster, tmp_path, monkeypatch, state):
    monkeypatch.setattr(etcd_ha_host_record, "FOLDER", str(tmp_path))
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    systemd_units.told(monkeypatch, state)
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", lambda *_, **__: None)
    data = tmp_path / "data"
    (data / "member").mkdir(parents=True)
    monkeypatch.setattr(etcd_ha_client, "configured", lambda: {"ETCD_DATA_DIR": str(data)})
    etcd_ha_machine.write_json(str(tmp_path / "main.json"), {"cluster": "main"})
    module = cluster([entry(1)], [])
    module.__salt__ = {
        "etcd_ha.local_health": lambda: {"healthy": False},
        "etcd_ha.refusal": lambda: "",
    }
    with pytest.raises(CommandExecutionError, match=r"etcd\.service did not stop"):
        module.retire("main")
    assert (data / "member").is_dir() and (tmp_path / "main.json").exists()


def test_who_leaves_keeps_no_secret_of_the_backups(cluster, tmp_path, monkeypatch):
    """They open the bucket and the backups of those who stay."""
    module = cluster([entry(1)], [])
    for owner, name in (
        (etcd_ha_host_record, "FOLDER"),
        (etcd_ha_backup_program, "FOLDER"),
        (etcd_ha_progress, "FOLDER"),
        (module, "UNITS"),
    ):
        (tmp_path / name.lower()).mkdir(exist_ok=True)
        monkeypatch.setattr(owner, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(etcd_ha_machine, "MARK_FILE", str(tmp_path / "host.json"))
    monkeypatch.setattr(etcd_ha_host_in_force, "FILE", str(tmp_path / "in_force.json"))
    monkeypatch.setattr(module.etcd_ha_host_paused, "lift", lambda: None)
    systemd_units.told(monkeypatch, unit(state="inactive", pid=0))
    monkeypatch.setattr(etcd_ha_common_systemd, "systemctl", lambda *_, **__: None)
    monkeypatch.setattr(etcd_ha_client, "configured", dict)
    monkeypatch.setattr(etcd_ha_client, "member_on_disk", lambda: {"config_dir": str(tmp_path)})
    etcd_ha_machine.write_json(str(tmp_path / "folder/main.json"), {"cluster": "main"})
    kept = tmp_path / "etcdctl.env"
    for path in (tmp_path / "backup.json", tmp_path / "backup.secrets", kept):
        path.write_text("x")
    module.__salt__ = {
        "etcd_ha.local_health": lambda: {"healthy": False},
        "etcd_ha.refusal": lambda: "",
    }
    assert module.retire("main") == {"stopped": True, "aside": []}
    assert not list(tmp_path.glob("backup.*")) and kept.exists()


def test_somebody_else_s_etcd_is_not_retired(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_ha_host_record, "FOLDER", str(tmp_path))
    etcd_ha_machine.write_json(str(tmp_path / "main.json"), {"cluster": "main"})
    module = cluster([entry(1)], [])
    module.__salt__ = {"etcd_ha.refusal": lambda: "an etcd is in the way"}
    for whole in (False, True):
        with pytest.raises(CommandExecutionError, match="an etcd is in the way"):
            module.retire("main", whole=whole)
    assert (tmp_path / "main.json").exists()


@pytest.mark.parametrize("ids", [("c1", "m2"), ("c2", "m1"), ("", "")])
def test_a_record_is_written_again_for_its_own_data_alone(tmp_path, monkeypatch, ids):
    module = load("_modules/etcd_ha_member")
    monkeypatch.setattr(etcd_ha_host_record, "FOLDER", str(tmp_path))
    found = {"holds_data": True, "cluster_id": ids[0], "member_id": ids[1], "fault": ""}
    monkeypatch.setattr(etcd_ha_host_etcds, "content", lambda *_: found)
    with pytest.raises(CommandExecutionError, match="The record was not written"):
        module.write_record("main", "c1", "a1", "/var/lib/etcd")
    assert etcd_ha_host_record.read() == {}
    found |= {"cluster_id": "c1", "member_id": "a1"}
    assert module.write_record("main", "c1", "a1", "/var/lib/etcd", "/wal/wal") is True
    assert module.write_record("main", "c1", "a1", "/var/lib/etcd", "/wal/wal") is False
    assert module.record() == {
        "cluster": "main",
        "state": "bootstrapped",
        "data_dir": "/var/lib/etcd",
        "wal_dir": "/wal/wal",
        "cluster_id": "c1",
        "member_id": "a1",
    }


def test_a_snapshot_without_room_says_where_to_look(cluster, tmp_path):
    module = cluster([entry(1)], [row(1)])
    (tmp_path / "file").write_text("")
    module.SNAPSHOTS = str(tmp_path / "file")
    with pytest.raises(CommandExecutionError, match="See df"):
        module.snapshot("main", "by-hand")
    module.SNAPSHOTS = str(tmp_path / "snapshots")
    with pytest.raises(CommandExecutionError, match=r"refused.*run it again"):
        module.snapshot("main", "by-hand")


@pytest.mark.parametrize(("pid", "running"), [(0, ""), (7, "3.6.14")])
def test_only_an_etcd_that_runs_is_asked_for_its_version(monkeypatch, pid, running):
    asked = []
    module = load("_modules/etcd_ha")
    monkeypatch.setattr(etcd_ha_client, "mark", lambda: {"member": {"name": "etcd1"}})
    systemd_units.told(monkeypatch, unit(pid=pid))
    monkeypatch.setattr(module, "status", lambda: asked.append(1) or {"version": "3.6.14"})
    monkeypatch.setattr(module, "_installed_version", lambda: "3.6.14")
    assert module.version() == {"installed": "3.6.14", "running": running}
    assert len(asked) == (1 if pid else 0)


def test_an_add_is_tried_again_while_the_cluster_tells_nothing(cluster, monkeypatch):
    module = cluster([], [])
    tries = []

    def ctl(member, command, timeout, endpoints=None, **_):
        tries.append(command)
        return etcd_ha_etcdctl.Answer(int(len(tries) < 3), "", "no leader")

    def silent(*_):
        raise CommandExecutionError("the cluster does not tell its members")

    monkeypatch.setattr(etcd_ha_client, "etcdctl", ctl)
    monkeypatch.setattr(module, "_listed", silent)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    module._add({}, "etcd4", "https://p4", "https://c1", module.time.monotonic() + 5)
    assert len(tries) == 3
