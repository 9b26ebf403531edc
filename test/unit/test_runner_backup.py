"""A backup from the master's side: who is asked, who takes over, and what reaches the master."""

import hashlib
import threading

import etcd_ha_backup
import etcd_ha_backup_files
import etcd_ha_delivery
import etcd_ha_minions
import pytest
import salt.exceptions
from etcd_ha_master import Master
from faces import load
from salt.exceptions import CommandExecutionError

E1, E2, E3 = (f"etcd{n}.example.com" for n in (1, 2, 3))
NAME = "main-20261124T120000Z-r7"


class Minions:
    """What the members answer; ``asked`` notes whom was asked for what."""

    def __init__(self, snapshot):
        self.asked, self.faults, self.problems = [], {}, []
        self.leader, self.there = E1, [E1, E2, E3]
        self.snapshot, data = snapshot, snapshot.read_bytes()
        self.row = {
            **etcd_ha_backup.Backup.named(NAME, len(data)).sidecar,
            "verified": True,
            "keys": 3,
            "sha256": data[-32:].hex(),
            "member": "etcd2",
            "where": "member",
            "path": f"/var/backups/etcd_ha/{NAME}.db",
        }

    def ask(self, master, minions, function, arguments=(), kwarg=None):
        self.asked += [(minion, function) for minion in minions]
        return {m: {"ret": self.answer(m, function, kwarg)} for m in minions if m in self.there}

    def answer(self, minion, function, kwarg):
        if function == "etcd_ha.status":
            leader = minion == self.leader
            return {"leader_id": "ab", "leader": leader, "learner": False, "db_size": 4096}
        if function == "etcd_ha_backup.take":
            return self.faults.get(minion) or {**self.row, "problems": self.problems}
        if function == "etcd_ha_backup.listing":
            return [self.row] if minion == E2 else []
        if function == "etcd_ha_backup.send":
            return self.send(**kwarg)
        return []

    def send(self, name, address, port, certificate, token):
        if "send" in self.faults:
            return self.faults["send"]
        at = ("127.0.0.1", port)
        return etcd_ha_delivery.send(str(self.snapshot), at, certificate, token, 20)

    def takers(self):
        return [minion for minion, function in self.asked if function == "etcd_ha_backup.take"]


@pytest.fixture
def minions(tmp_path):
    data = bytes(1024)
    (tmp_path / "x.db").write_bytes(data + hashlib.sha256(data).digest())
    return Minions(tmp_path / "x.db")


@pytest.fixture
def runner(monkeypatch, cluster, minions, tmp_path):
    cluster.settings["backup"]["master"] |= {"directory": str(tmp_path / "master"), "port": 0}
    found = {"main": cluster}
    monkeypatch.setattr(Master, "clusters", lambda self, name=None: found)
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: (found, {}))
    monkeypatch.setattr(Master, "check_own_modules", lambda self: None)
    monkeypatch.setattr(etcd_ha_minions, "connected", lambda master, wanted: list(minions.there))
    monkeypatch.setattr(etcd_ha_minions, "ask", minions.ask)
    return load("_runners/etcd_ha_backups", opts={"user": "salt"})


@pytest.fixture
def to_master(cluster):
    cluster.settings["backup"]["master"]["enabled"] = True


def test_a_follower_takes_it_and_the_others_let_go_of_what_is_too_old(runner, minions):
    found = runner.backup("main")
    assert minions.takers() == [E2]
    assert found["name"] == NAME and found["places"] == [f"{E2}:{minions.row['path']}"]
    assert (E1, "etcd_ha_backup.prune") in minions.asked


def test_the_next_one_takes_over_and_the_leader_last(runner, minions):
    minions.faults = {E2: "ERROR: no space left on device", E3: "ERROR: no quorum"}
    runner.backup("main")
    assert minions.takers() == [E2, E3, E1]


def test_a_member_that_is_down_is_not_asked(runner, minions):
    minions.there = [E1, E3]
    runner.backup("main")
    assert minions.takers() == [E3]


def test_where_nobody_can_each_one_s_reason_is_told(runner, minions):
    minions.faults = dict.fromkeys((E1, E2, E3), "ERROR: no space left on device")
    with pytest.raises(salt.exceptions.NotImplemented) as caught:
        runner.backup("main")
    assert all(f"{minion}: ERROR: no space" in str(caught.value) for minion in (E1, E2, E3))


def test_what_did_not_reach_s3_is_an_error_that_says_where_it_is(
    runner, minions, to_master, cluster
):
    minions.problems = ["it did not reach S3: Forbidden"]
    with pytest.raises(
        salt.exceptions.NotImplemented, match=rf"is good, and lies on {E2}.*Forbidden"
    ):
        runner.backup("main")
    # Nobody else takes one for that, and the master has it all the same.
    assert minions.takers() == [E2]
    assert [b.name for b in listed(cluster)] == [NAME]


def listed(cluster):
    folder = cluster.settings["backup"]["master"]["directory"]
    return etcd_ha_backup_files.listing(folder, "main")


def test_it_reaches_the_master_once(runner, minions, to_master, tmp_path, cluster):
    assert runner.backup("main")["places"][-1].endswith(" here")
    (found,) = listed(cluster)
    assert found.verified and found.keys == 3
    assert (tmp_path / "master" / f"{NAME}.db").stat().st_mode & 0o777 == 0o600
    runner.backup("main", take=False)
    assert [f for _, f in minions.asked].count("etcd_ha_backup.send") == 1


def test_the_timer_s_one_is_brought_without_taking_another(runner, minions, to_master, cluster):
    runner.backup("main", take=False)
    assert minions.takers() == [] and [b.name for b in listed(cluster)] == [NAME]


def test_what_does_not_arrive_is_no_backup_here(runner, minions, to_master, cluster):
    minions.faults = {"send": "ERROR: the backup did not reach the master"}
    with pytest.raises(salt.exceptions.NotImplemented, match="did not reach this master: ERROR"):
        runner.backup("main")
    assert listed(cluster) == []


def test_a_directory_that_cannot_be_written_is_told_with_its_cure(
    runner, minions, to_master, cluster, tmp_path
):
    (tmp_path / "file").write_text("")
    cluster.settings["backup"]["master"]["directory"] = str(tmp_path / "file" / "below")
    with pytest.raises(salt.exceptions.NotImplemented, match="install -d -m 0700 -o salt"):
        runner.backup("main")


def test_the_table_is_a_failure_where_a_place_has_none(runner, minions, to_master):
    with pytest.raises(salt.exceptions.NotImplemented, match="no verified backup on the master"):
        runner.backups()


def test_a_wrong_pillar_is_one_refusal(runner, monkeypatch):
    def wrong(self, name=None):
        raise CommandExecutionError("The pillar under etcd_ha is not right")

    monkeypatch.setattr(Master, "clusters_and_faults", wrong)
    plan = runner.backup_steps()
    assert plan["clusters"] == [] and "not right" in plan["refusals"][0]["why"]


def test_a_fault_of_one_cluster_does_not_keep_others_from_their_backups(
    runner, monkeypatch, cluster
):
    found = {"main": cluster}, {"other": "versoin is unknown"}
    monkeypatch.setattr(Master, "clusters_and_faults", lambda self, name=None: found)
    plan = runner.backup_steps()
    assert [one["name"] for one in plan["clusters"]] == ["main"]
    assert plan["refusals"] == [{"id": "other: no backup is taken", "why": "versoin is unknown"}]


@pytest.mark.parametrize("take", [True, False])
@pytest.mark.parametrize(
    "odd",
    [
        {"name": f"../out/{NAME}"},
        {"name": "../out/x"},
        {"name": NAME.replace("main", "other"), "cluster": "other"},
        {"name": NAME.replace("main", "other")},
        {"name": None},
        {"when": "now"},
        {"revision": "x"},
        {"path": 5},
    ],
)
def test_a_member_that_tells_of_something_else_writes_nothing_here(
    runner, minions, to_master, tmp_path, odd, take
):
    """It may have been broken into, and the master writes where its user may."""
    (tmp_path / "out").mkdir()
    minions.there, minions.row = [E2], {**minions.row, **odd}
    with pytest.raises(salt.exceptions.NotImplemented, match="no member of main"):
        runner.backup("main", take=take)
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and one.name != "x.db"]
    assert "etcd_ha_backup.send" not in [function for _, function in minions.asked]


def test_and_the_table_names_it(runner, minions, to_master):
    minions.row = {**minions.row, "name": "../x"}
    with pytest.raises(salt.exceptions.NotImplemented, match=f"{E2}: .*name"):
        runner.backups()


def test_no_thread_stays_behind(runner, to_master):
    before = threading.active_count()
    runner.backup("main")
    assert threading.active_count() == before
