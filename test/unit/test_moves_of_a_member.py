"""A member whose directories move: what its state does, and what the plan is told before."""

import os
import shutil

import etcd_ha_faces
import etcd_ha_host_move_data
import etcd_ha_host_owner
import etcd_ha_host_record
import etcd_ha_machine
import etcd_ha_minions
import etcd_ha_progress
import pytest
import test_states_of_a_host
from faces import load
from systemd_units import DOWN, UP

member = test_states_of_a_host.member


@pytest.fixture
def moving(member, tmp_path, monkeypatch):
    """``running`` of a member whose data is in ``old`` and whose pillar says ``data``."""

    def made(units, process=(), wal="", orders=None):
        def systemctl(*words, **_):
            (orders if orders is not None else []).append(words[0])

        run = member(units, systemctl=systemctl)
        os.rename(tmp_path / "data", tmp_path / "old")
        known = {"state": "bootstrapped", "data_dir": str(tmp_path / "old"), "wal_dir": wal}
        etcd_ha_machine.write_json(str(tmp_path / "main.json"), known)
        monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: dict(process))
        return run

    return made


def test_an_older_copy_stops_the_change_and_not_etcd(moving, tmp_path):
    orders = []
    process = {"ETCD_DATA_DIR": str(tmp_path / "old")}
    run = moving([UP], process, orders=orders)
    shutil.copytree(tmp_path / "old", tmp_path / "data")
    told = run("restart")
    assert told["result"] is False and told["changes"] == {} and orders == []
    assert f"{tmp_path}/data/member is there already" in told["comment"]
    assert f"{tmp_path}/old" in told["comment"] and "Nothing was changed" in told["comment"]
    # A highstate moves nothing, so nothing is in its way.
    assert run("none")["result"] is True and orders == []


@pytest.mark.parametrize("action", ["none", "restart", "begin", "join", "bootstrap"])
def test_nor_is_a_stopped_member_started_on_it(moving, tmp_path, action):
    orders = []
    run = moving([DOWN], orders=orders)
    shutil.copytree(tmp_path / "old", tmp_path / "data")
    told = run(action)
    assert told["result"] is False and "is there already" in told["comment"] and orders == []


def test_a_log_that_comes_back_into_its_data_is_moved_while_etcd_is_stopped(
    member, tmp_path, monkeypatch
):
    orders, log = [], tmp_path / "log" / "wal"
    run = member([UP, UP, DOWN, UP], systemctl=lambda *words, **_: orders.append(words[0]))
    log.parent.mkdir()
    os.rename(tmp_path / "data/member/wal", log)
    (tmp_path / "data/member/wal").mkdir()
    process = {"ETCD_DATA_DIR": str(tmp_path / "data"), "ETCD_WAL_DIR": str(log)}
    monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: process)
    move = etcd_ha_host_move_data.move
    monkeypatch.setattr(
        etcd_ha_host_move_data, "move", lambda *given: orders.append("move") or move(*given)
    )
    told = run("restart")
    assert told["result"] is True, told["comment"]
    assert orders[-3:] == ["stop", "move", "start"]
    assert os.listdir(tmp_path / "data/member/wal") == ["0.wal"] and not log.exists()


@pytest.mark.parametrize("moves", [False, True])
def test_data_comes_to_a_new_user_while_etcd_is_stopped(
    member, moving, tmp_path, monkeypatch, moves
):
    """With a new data_dir in the same edit it kept the former user, and etcd did not start."""
    orders = []
    process = {"ETCD_DATA_DIR": str(tmp_path / ("old" if moves else "data")), "ETCD_X": "1"}
    if moves:
        run = moving([UP, UP, DOWN, UP], process, orders=orders)
        (tmp_path / "data").mkdir()
    else:
        run = member([UP, UP, DOWN, UP], systemctl=lambda *words, **_: orders.append(words[0]))
        monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: process)
    # Data of another user is given away while etcd is stopped, whether it moves or not.
    monkeypatch.setattr(etcd_ha_host_owner, "is_anothers", lambda _, user: not moves)
    monkeypatch.setattr(
        etcd_ha_host_owner, "give_folders", lambda _, *account: orders.append(account)
    )

    def give(places):
        orders.append("give")
        return [f"{folder}/{part}" for folder, part in places]

    monkeypatch.setattr(etcd_ha_host_owner, "give", give)
    told = run("restart", user="etcdx", group="etcdg")
    assert told["result"] is True, told["comment"]
    assert orders[-4:] == ["stop", ("etcdx", "etcdg"), "give", "start"]
    assert told["changes"]["owner"]["new"] == "etcd's user"


def test_a_member_whose_log_is_an_empty_folder_is_not_started(member, tmp_path):
    orders = []
    run = member([DOWN], systemctl=lambda *words, **_: orders.append(words[0]))
    (tmp_path / "data/member/wal/0.wal").unlink()
    told = run("none")
    assert told["result"] is False and "holds no data and was not started" in told["comment"]
    assert orders == []


def test_a_first_start_that_was_cut_short_is_begun_again(member, tmp_path):
    """etcd has made its folders, and no log yet."""
    orders = []
    run = member([DOWN, UP], systemctl=lambda *words, **_: orders.append(words[0]))
    (tmp_path / "data/member/wal/0.wal").unlink()
    (tmp_path / "data/member/snap").mkdir()
    (tmp_path / "data/member/snap/db").write_text("of the first start")
    record = {"state": "bootstrapping", "data_dir": str(tmp_path / "data"), "wal_dir": ""}
    etcd_ha_machine.write_json(str(tmp_path / "main.json"), record)
    assert run("bootstrap")["result"] is True and "start" in orders


# What the plan is told


@pytest.fixture
def module(tmp_path, monkeypatch):
    """This host's member has its data in ``old``, and does not run."""
    (tmp_path / "old/member/wal").mkdir(parents=True)
    (tmp_path / "old/member/wal/0.wal").write_text("log")
    record = {"data_dir": str(tmp_path / "old"), "wal_dir": ""}
    monkeypatch.setattr(etcd_ha_host_record, "read", lambda: record)
    monkeypatch.setattr(etcd_ha_faces, "unit", lambda name: DOWN)
    monkeypatch.setattr(etcd_ha_progress, "unfinished", lambda: "")
    return load("_modules/etcd_ha")


def test_the_plan_is_told_of_an_older_copy(module, tmp_path):
    new = str(tmp_path / "new")
    assert module._conflict([new, ""]) == {}
    shutil.copytree(tmp_path / "old", new)
    assert "is there already" in module._conflict([new, ""])[new]
    assert module._conflict([str(tmp_path / "old"), ""]) == module._conflict(None) == {}


def test_the_plan_is_told_of_a_log_and_of_a_link(module, tmp_path):
    old = str(tmp_path / "old")
    (tmp_path / "log/wal").mkdir(parents=True)
    assert module._conflict([old, str(tmp_path / "log")]) == {}
    (tmp_path / "log/wal/0.wal").write_text("another")
    assert "is there already" in module._conflict([old, str(tmp_path / "log")])[old]
    shutil.rmtree(tmp_path / "log")
    os.rename(tmp_path / "old/member/wal", tmp_path / "log")
    (tmp_path / "old/member/wal").symlink_to(tmp_path / "log")
    assert "is a link" in module._conflict([old, ""])[old]


def test_what_a_restore_has_put_there_is_no_older_copy(module, tmp_path, monkeypatch):
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    monkeypatch.setattr(etcd_ha_progress, "unfinished", lambda: "restore")
    assert module._conflict([str(tmp_path / "new"), ""]) == {}


def test_facts_are_asked_for_each_members_own_places(cluster):
    asked = etcd_ha_minions._asked([cluster])["places"]
    assert asked == {one.minion: ["/var/lib/etcd", ""] for one in cluster.members}
