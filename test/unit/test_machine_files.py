"""Files and folders of a host: written in one step, and held for data only when they are."""

import os
import time

import etcd_ha_machine
import pytest
import systemd_units


class PowerLoss(BaseException):
    """Nothing runs after it."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_the_old_or_the_new_one(tmp_path, monkeypatch, call):
    path = tmp_path / "etc" / "file"
    etcd_ha_machine.write_text(str(path), "old", 0o600)

    def power_loss(*_):
        raise PowerLoss

    with monkeypatch.context() as context, pytest.raises(PowerLoss):
        context.setattr(os, call, power_loss)
        etcd_ha_machine.write_text(str(path), "new", 0o600)
    assert path.read_text() == "old"
    etcd_ha_machine.write_text(str(path), "new", 0o600)
    assert path.read_text() == "new" and os.listdir(path.parent) == ["file"]


def test_a_whole_directory_is_written_out_with_the_way_to_it(tmp_path, monkeypatch):
    data = tmp_path / "restoring" / "data" / "member"
    for name in ("wal/0.wal", "snap/db"):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_text("x")
    (data / "link").symlink_to("/nowhere")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(where(number)))
    etcd_ha_machine.sync_tree(str(tmp_path / "restoring"))
    wanted = {tmp_path, *(path for path in tmp_path.rglob("*") if not path.is_symlink())}
    assert sorted(synced) == sorted(map(str, wanted))


def where(number):
    return os.readlink(f"/proc/self/fd/{number}")


@pytest.mark.parametrize(
    ("made", "logs", "held"),
    [
        ((), (), False),
        (("data/member/snap",), (), False),
        (("data/member/wal.tmp",), (), False),
        (("data/member/wal",), (), False),
        (("data/member/wal.tmp/0.wal",), (), False),
        (("data/member/wal/0.wal",), (), True),
        (("data/member/wal.moving/0.wal",), (), True),
        (("data/member/snap",), ("logs/wal",), False),
        (("data/member/snap", "logs/wal"), ("logs/wal",), False),
        (("data/member/snap", "logs/wal/0.wal"), ("logs/wal",), True),
        (("logs/wal/0.wal",), ("logs/wal",), False),
    ],
)
def test_data_is_there_only_with_its_log(tmp_path, made, logs, held):
    """A folder that somebody made for a log is none."""
    for name in made:
        folder = tmp_path / name.removesuffix("/0.wal")
        folder.mkdir(parents=True)
        if name.endswith("/0.wal"):
            (folder / "0.wal").write_text("log")
    places = [str(tmp_path / place) for place in logs]
    assert etcd_ha_machine.holds_data([str(tmp_path / "data")], places) is held


NOW = 1_700_000_000


@pytest.fixture
def started(tmp_path, monkeypatch):
    """What a process that starts now has not read; ``written`` are the times of its files."""
    environment = {name: str(tmp_path / name) for name in etcd_ha_machine.READ_ONCE}
    monkeypatch.setattr(time, "time", lambda: NOW + 0.5)
    monkeypatch.setattr(etcd_ha_machine, "process_program", lambda pid: "/opt/etcd")
    monkeypatch.setattr(etcd_ha_machine, "process_environment", lambda pid: environment)

    def start(right, **written):
        paths = {"unit": tmp_path / "etcd.service", "trust": tmp_path / "ETCD_TRUSTED_CA_FILE"}
        for name, when in written.items():
            paths[name].write_text("x")
            os.utime(paths[name], (when, when))
        unit = systemd_units.unit(pid=7, started=NOW, path=str(paths["unit"]))
        if right:
            ahead = etcd_ha_machine.put_times_right(unit.path, environment)
            assert [os.path.basename(one) for one in ahead] == [
                paths[name].name for name, when in written.items() if when > NOW
            ]
        return etcd_ha_machine.pending(unit, "")

    return start


@pytest.mark.parametrize("name", ["unit", "trust"])
@pytest.mark.parametrize("ahead", [0, 1, 7200, 10**9])
def test_a_file_of_the_future_costs_one_restart_at_most(started, name, ahead):
    assert started(False, **{name: NOW + ahead}) == ([name] if ahead else [])
    assert started(True, **{name: NOW + ahead}) == []


def test_times_of_the_past_stay(started, tmp_path):
    assert started(True, unit=NOW - 5, trust=NOW) == []
    assert (tmp_path / "etcd.service").stat().st_mtime == NOW - 5


def test_a_file_of_the_future_that_cannot_be_changed_stops_no_start(started, monkeypatch, tmp_path):
    def refuses(*_):
        raise PermissionError(1, "immutable")

    started(False, unit=NOW + 9)
    monkeypatch.setattr(os, "utime", refuses)
    assert etcd_ha_machine.put_times_right(str(tmp_path / "etcd.service"), {}) == []
