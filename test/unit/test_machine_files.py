"""Files and folders of a host: written in one step, and held for data only when they are."""

import os

import etcd_ha_machine
import pytest


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
        (("data/member/wal",), (), True),
        (("data/member/snap",), ("logs/wal",), False),
        (("data/member/snap", "logs/wal"), ("logs/wal",), True),
        (("logs/wal",), ("logs/wal",), False),
    ],
)
def test_data_is_there_only_with_its_log(tmp_path, made, logs, held):
    for folder in made:
        (tmp_path / folder).mkdir(parents=True)
    places = [str(tmp_path / place) for place in logs]
    assert etcd_ha_machine.holds_data([str(tmp_path / "data")], places) is held
