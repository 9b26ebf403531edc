"""A copy of a member's data: whole, of its own, and the data known again."""

import grp
import os
import pwd

import etcd_ha_data
import etcd_ha_host_copy
import pytest
from faces import load
from salt.exceptions import CommandExecutionError

OWNER = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)


@pytest.fixture
def data(tmp_path):
    place = tmp_path / "etcd"
    for name in ("snap", "wal"):
        (place / "member" / name).mkdir(parents=True)
    (place / "member" / "snap" / "db").write_bytes(b"d" * 9000)
    (place / "member" / "wal" / "0.wal").write_bytes(b"w" * 5000 + bytes(90000))
    return place


def files(place):
    found = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in found}


def test_a_copy_is_whole_and_no_link(data):
    told = []
    etcd_ha_host_copy.make(str(data), "", OWNER, lambda done, whole: told.append((done, whole)))
    copy = data / "examining" / "data" / "member"
    assert files(copy) == files(data / "member")
    assert told[0] == (0, 104000) and told[-1] == (104000, 104000)
    for path in copy.rglob("*"):
        same = data / "member" / path.relative_to(copy)
        assert path.stat().st_ino != same.stat().st_ino and not path.is_symlink()
    assert (data / "examining").stat().st_mode & 0o777 == 0o700
    etcd_ha_host_copy.remove(str(data), "")
    assert not (data / "examining").exists()


def test_what_links_lead_to_is_copied_or_etcd_would_write_through_them(data, tmp_path):
    (data / "member" / "wal").rename(tmp_path / "elsewhere")
    (data / "member" / "wal").symlink_to(tmp_path / "elsewhere")
    etcd_ha_host_copy.make(str(data), "", OWNER)
    copied = data / "examining" / "data" / "member" / "wal"
    assert not copied.is_symlink() and files(copied) == files(tmp_path / "elsewhere")


def test_a_log_of_its_own_place_is_copied_there(data, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (data / "member" / "wal").rename(logs / "wal")
    etcd_ha_host_copy.make(str(data), str(logs), OWNER)
    assert files(logs / "examining" / "wal") == files(logs / "wal")
    etcd_ha_host_copy.remove(str(data), str(logs))
    assert not (logs / "examining").exists()


def changed_in_place(path):
    with open(path, "r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(1, 1))


def replaced(path):
    """A copy of the same size and times in its place."""
    before = path.stat()
    path.with_suffix(".new").write_bytes(path.read_bytes())
    os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        replaced,
        lambda path: path.unlink(),
        lambda path: os.truncate(path, 8999),
        lambda path: path.rename(path.with_name("db2")),
        lambda path: path.with_name("more").write_bytes(b""),
    ],
)
def test_data_that_has_changed_is_another_one(data, change):
    before = etcd_ha_host_copy.identity(str(data), "")
    assert etcd_ha_host_copy.identity(str(data), "") == before
    change(data / "member" / "snap" / "db")
    assert etcd_ha_host_copy.identity(str(data), "") != before


def test_a_reserve_of_room_is_kept(data, monkeypatch):
    free = {"bytes": etcd_ha_host_copy.RESERVE + 104000}
    monkeypatch.setattr(etcd_ha_data, "free", lambda folder: free["bytes"])
    assert etcd_ha_host_copy.room_fault(str(data), "") == ""
    free["bytes"] -= 1
    assert "MiB are needed" in etcd_ha_host_copy.room_fault(str(data), "")


def inodes(monkeypatch, whole, left):
    """Have every file system tell of so many inodes."""
    real = os.statvfs

    def told(path):
        found = list(real(path))
        found[5:8] = whole, left, left
        return os.statvfs_result([*found[:10]])

    monkeypatch.setattr(os, "statvfs", told)


def test_a_disk_without_inodes_has_no_room_whatever_df_shows(data, monkeypatch):
    inodes(monkeypatch, 1000, 0)
    fault = etcd_ha_host_copy.room_fault(str(data), "")
    assert "has 0 inodes left" in fault and "df -i" in fault and "MiB" not in fault
    assert etcd_ha_data.free(str(data)) == 0
    assert etcd_ha_data.free(str(data / "to" / "be" / "made")) == 0
    # Two files are copied.
    inodes(monkeypatch, 1000, etcd_ha_data.INODES + 1)
    assert "inodes left" in etcd_ha_host_copy.room_fault(str(data), "")
    assert etcd_ha_data.free(str(data)) > 0
    inodes(monkeypatch, 1000, etcd_ha_data.INODES + 2)
    assert "inodes" not in etcd_ha_host_copy.room_fault(str(data), "")


def test_a_file_system_that_makes_inodes_as_it_needs_them_has_no_limit(data, monkeypatch):
    """btrfs tells that it has none, and none left."""
    inodes(monkeypatch, 0, 0)
    assert etcd_ha_data.inodes_fault(str(data)) == ""
    assert etcd_ha_data.free(str(data)) > 0
    assert "inodes" not in etcd_ha_host_copy.room_fault(str(data), "")


@pytest.mark.parametrize("name", ["_refuse_full", "_refuse_no_copy"])
def test_a_restore_and_a_recovery_stop_nothing_without_inodes(data, monkeypatch, name):
    inodes(monkeypatch, 1000, 3)
    module = load("_modules/etcd_ha_restore", opts={})
    with pytest.raises(CommandExecutionError, match=r"3 inodes left.*Nothing was stopped"):
        getattr(module, name)(str(data), 0 if name == "_refuse_full" else "")


def test_a_defragmentation_needs_one_inode(data, monkeypatch):
    module = load("_modules/etcd_ha_maintenance", opts={})
    monkeypatch.setattr(module, "_running", lambda: {"ETCD_DATA_DIR": str(data)})
    inodes(monkeypatch, 1000, 0)
    assert "0 inodes left" in module._no_room(1)
    inodes(monkeypatch, 1000, 1)
    assert "inodes" not in module._no_room(1)


def test_what_is_no_file_is_refused(data):
    os.mkfifo(data / "member" / "wal" / "pipe")
    with pytest.raises(etcd_ha_host_copy.CopyError, match="pipe is no file"):
        etcd_ha_host_copy.size(str(data), "")


def test_data_that_cannot_be_listed_is_not_an_empty_one(data):
    with pytest.raises(OSError):
        etcd_ha_host_copy.identity(str(data / "nowhere"), "")
