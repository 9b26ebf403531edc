"""What keeps a member's directories from moving is known, with its cure, before etcd is stopped."""

import os
import shutil

import etcd_ha_data
import etcd_ha_host_move_data
import etcd_ha_host_move_faults
import etcd_ha_host_places
import etcd_ha_machine
import pytest


@pytest.fixture
def host(tmp_path):
    """A member with its log inside its data."""
    for name in ("wal/0.wal", "snap/db"):
        (tmp_path / "old/member" / name).parent.mkdir(parents=True)
        (tmp_path / "old/member" / name).write_text("x")
    return tmp_path


def moves(host, data="old", log="", before=("old", "")):
    """What the pillar makes necessary; the paths are below the host's folder."""
    data_dir, wal_dir = (f"{host}/{one}" if one else "" for one in before)
    record = {"data_dir": data_dir, "wal_dir": wal_dir}
    return etcd_ha_host_move_data.moves({}, record, wanted(host, data, log))


def wanted(host, data, log):
    values = {"ETCD_DATA_DIR": data, "ETCD_WAL_DIR": log}
    return {name: f"{host}/{path}" for name, path in values.items() if path}


def conflict(host, data="old", log="", before=("old", "")):
    found = moves(host, data, log, before)
    return etcd_ha_host_move_faults.conflict(found, wanted(host, data, log))


def apart(host):
    """The log is at ``log/wal``."""
    (host / "log").mkdir()
    (host / "old/member/wal").rename(host / "log/wal")
    return ("old", "log/wal")


def mounted(monkeypatch, *points):
    known = frozenset({"/", *map(str, points)})
    monkeypatch.setattr(etcd_ha_host_places, "mounts", lambda: known)


def test_an_older_copy_in_the_new_place_is_refused_and_both_are_named(host):
    shutil.copytree(host / "old", host / "new")
    told = conflict(host, "new")
    assert f"{host}/new/member is there already" in told and f"data is in {host}/old" in told
    assert "move the older one away" in told
    assert etcd_ha_host_move_faults.fault(moves(host, "new")) == told


@pytest.mark.parametrize("is_mount", [False, True])
@pytest.mark.parametrize("name", ["member/snap/db", "notes.txt", "deep/er/file", "restoring/x"])
def test_any_file_in_the_new_place_is_refused(host, monkeypatch, name, is_mount):
    mounted(monkeypatch, *([host / "new"] if is_mount else []))
    (host / "new" / name).parent.mkdir(parents=True)
    (host / "new" / name).write_text("x")
    assert f"{host}/new/{name.split('/')[0]} is there already" in conflict(host, "new")


def test_what_a_mount_point_has_of_its_own_is_none(host, monkeypatch):
    mounted(monkeypatch, host / "new")
    for name in ("lost+found/x", "moved-20260101-000000/member/db", "moving/member/db"):
        (host / "new" / name).parent.mkdir(parents=True)
        (host / "new" / name).write_text("x")
    assert conflict(host, "new") == ""


def test_a_log_at_its_new_place_is_refused(host):
    (host / "log/wal").mkdir(parents=True)
    (host / "log/wal/0.wal").write_text("older")
    told = conflict(host, log="log/wal")
    assert f"{host}/log/wal is there already" in told and f"log is in {host}/old/member/wal" in told


@pytest.mark.parametrize("data", ["old", "new"])
def test_an_old_log_within_the_data_is_refused_where_the_log_comes_back(host, data):
    before = apart(host)
    (host / "old/member/wal").mkdir()
    (host / "old/member/wal/0.wal").write_text("of years ago")
    assert f"{host}/old/member/wal is there already" in conflict(host, data, "", before)
    # While the log stays apart, nobody reads it.
    assert conflict(host, data, "log/wal", before) == ""


def test_where_etcd_runs_is_where_its_data_is(host):
    """Whatever the record says of the time before, and whatever lies about."""
    shutil.copytree(host / "old", host / "new")
    process = wanted(host, "new", "")
    assert etcd_ha_host_move_data.moves(process, {"data_dir": f"{host}/old"}, process) == []


def test_folders_without_a_file_are_no_data_anywhere(tmp_path):
    """A first start that was cut short has made them: it begins in the new place."""
    for place in ("old/member/snap", "old/member/wal", "new/member/wal"):
        (tmp_path / place).mkdir(parents=True)
    assert moves(tmp_path, "new") == moves(tmp_path, "old", "log/wal") == []


@pytest.mark.parametrize(("data", "log"), [("old/data", ""), ("old/member/x", "")])
def test_a_directory_cannot_move_into_itself(host, data, log):
    told = conflict(host, data, log)
    assert f"cannot move to {host}/{data}, which lies in {host}/old" in told
    assert "Give a directory outside" in told


def test_a_log_cannot_stay_in_a_data_directory_that_moves(host):
    (host / "old/member/wal").rename(host / "old/wal")
    told = conflict(host, "new", "old/wal", ("old", "old/wal"))
    assert f"cannot move to {host}/old/wal, which lies in {host}/old" in told


def test_a_log_beside_the_data_comes_along(host):
    (host / "old/member/wal").rename(host / "old/wal")
    found = moves(host, "new", "new/wal", ("old", "old/wal"))
    assert [one.key for one in found] == ["data_dir"]


def test_data_moves_one_floor_up(host):
    (host / "up").mkdir()
    (host / "old").rename(host / "up/old")
    found = moves(host, "up", before=("up/old", ""))
    assert etcd_ha_host_move_faults.fault(found) == ""
    etcd_ha_host_move_data.move(found, f"{host}/record.json")
    assert sorted(os.listdir(host / "up")) == ["member"]


def test_data_on_a_disk_of_its_own_does_not_move_one_floor_up(host, monkeypatch):
    (host / "up").mkdir()
    (host / "old").rename(host / "up/old")
    mounted(monkeypatch, host / "up/old")
    told = conflict(host, "up", before=("up/old", ""))
    assert f"cannot move from {host}/up/old to {host}/up" in told


def test_data_does_not_move_to_where_its_log_is(host):
    before = apart(host)
    for log in ("log/wal", "other/wal"):
        told = conflict(host, "log", log, before)
        assert f"the member's log is in {host}/log/wal, so its data cannot move" in told


def test_a_log_cannot_be_within_what_is_etcds_own(host):
    assert f"inside {host}/old/member" in conflict(host, log="old/member/fast/wal")


def test_mount_points_within_what_moves_are_refused(host, monkeypatch):
    mounted(monkeypatch, host / "old/member/wal")
    for told in (conflict(host, "new"), conflict(host, log="log/wal")):
        assert f"{host}/old/member/wal is a mount point, which cannot move along" in told
    # It works as it is.
    assert conflict(host) == ""
    mounted(monkeypatch, host / "log/wal")
    assert f"Mount that disk at {host}/log instead" in conflict(host, log="log/wal")


# Links inside the data


def linked(host, name):
    """Part of the data is on another disk."""
    (host / "disk").mkdir()
    (host / "old" / name).rename(host / "disk" / os.path.basename(name))
    (host / "old" / name).symlink_to(host / "disk" / os.path.basename(name))


@pytest.mark.parametrize("name", ["member", "member/snap", "member/wal"])
@pytest.mark.parametrize("data", ["old", "new"])
def test_a_link_within_the_data_is_refused_by_name(host, name, data):
    linked(host, name)
    told = conflict(host, data)
    assert f"{host}/old/{name} is a link to {host}/disk/{os.path.basename(name)}" in told
    assert {"member": "Make", "member/snap": "Stop etcd", "member/wal": "wal_dir"}[name] in told


def test_a_link_that_stays_within_the_data_is_none(host):
    (host / "old/member/wal").rename(host / "old/wal")
    (host / "old/member/wal").symlink_to(host / "old/wal")
    assert conflict(host) == ""


def test_a_log_behind_a_link_is_used_where_it_is(host):
    linked(host, "member/wal")
    assert moves(host, log="disk/wal") == [] and conflict(host, log="disk/wal") == ""
    environment = wanted(host, "old", "disk/wal")
    logs = [environment["ETCD_WAL_DIR"]]
    assert etcd_ha_machine.holds_data([environment["ETCD_DATA_DIR"]], logs)


def test_a_log_behind_a_link_moves_and_the_link_goes(host):
    linked(host, "member/wal")
    found = moves(host, log="log/wal")
    assert etcd_ha_host_move_faults.fault(found) == ""
    etcd_ha_host_move_data.move(found, f"{host}/record.json")
    assert os.listdir(host / "log/wal") == ["0.wal"] and os.listdir(host / "old/member") == ["snap"]


# What is tried on the disk


def test_trying_leaves_nothing_where_data_and_log_go(host):
    before = apart(host)
    (host / "new").mkdir()
    found = moves(host, "new", "", before)
    assert [one.key for one in found] == ["data_dir", "wal_dir"]
    assert etcd_ha_host_move_faults.fault(found) == ""
    assert sorted(os.listdir(host)) == ["log", "new", "old"] and os.listdir(host / "new") == []
    assert os.listdir(host / "log") == ["wal"] and os.listdir(host / "old/member") == ["snap"]


def test_room_is_needed_for_all_that_comes_to_a_disk(host, monkeypatch):
    mounted(monkeypatch, host / "disk")
    before = apart(host)
    (host / "disk").mkdir()
    found = moves(host, "disk/new", "disk/log/wal", before)
    monkeypatch.setattr(etcd_ha_data, "size", lambda folder: 100 << 20)
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: 200 << 20)
    told = etcd_ha_host_move_faults.fault(found)
    assert "has 200 MiB free; 264 MiB are needed" in told
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: 300 << 20)
    assert etcd_ha_host_move_faults.fault(found) == ""
