"""A directory of backups: whole ones alone have a name, and an interrupted one leaves nothing."""

import hashlib
import json
import os
import stat
from datetime import datetime, timezone

import etcd_ha_backup_files as files
import etcd_ha_snapshot
import pytest
from etcd_ha_backup import Backup

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
KEEP = {"last": 1, "days": 0, "daily": 0, "weekly": 0, "monthly": 0}


def snapshot(path, blocks=4, content=b"x"):
    """A file with the form of a snapshot."""
    data = content * 512 * blocks
    path.write_bytes(data + hashlib.sha256(data).digest())
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    with files.alone(str(tmp_path / "backups")):
        pass
    return tmp_path / "backups"


def published(folder, day, revision=1):
    part = folder / "x.part"
    sha256 = snapshot(part)
    name = f"main-202611{day:02d}T120000Z-r{revision}"
    when = f"2026-11-{day:02d}T12:00:00Z"
    backup = Backup(name, "main", when, revision, True, part.stat().st_size, 3, sha256)
    files.publish(str(folder), str(part), backup)
    return backup


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_published_backup_is_root_s_alone_and_listed_as_verified(folder):
    backup = published(folder, 20)
    assert files.listing(str(folder), "main") == [backup]
    assert mode(folder) == 0o700
    assert mode(folder / f"{backup.name}.db") == mode(folder / f"{backup.name}.json") == 0o600
    assert etcd_ha_snapshot.verified_hash(str(folder / f"{backup.name}.db")) == backup.sha256


def test_one_without_a_sidecar_or_with_another_size_is_not_verified(folder):
    first, second = published(folder, 20), published(folder, 21)
    (folder / f"{first.name}.json").unlink()
    with open(folder / f"{second.name}.db", "ab") as file:
        file.write(b"more")
    found = files.listing(str(folder), "main")
    assert [b.verified for b in found] == [False, False]
    assert [b.name for b in found] == [first.name, second.name]


def test_a_broken_sidecar_is_as_none(folder):
    backup = published(folder, 20)
    for text in ("{", "[]", "{}", json.dumps({"name": backup.name, "when": "never"})):
        (folder / f"{backup.name}.json").write_text(text)
        (found,) = files.listing(str(folder), "main")
        assert not found.verified


def test_other_clusters_and_other_files_are_not_listed(folder):
    snapshot(folder / "other-20261120T120000Z-r1.db")
    snapshot(folder / "by-hand.db")
    assert files.listing(str(folder), "main") == []
    assert files.listing(str(folder / "nowhere"), "main") == []


def test_what_an_interrupted_one_left_is_gone_before_the_next(folder):
    backup = published(folder, 20)
    left = ("a.part", "a.part.part", "b.part.trial", "c.json.tmp", f"{backup.name}.db.part")
    for name in left:
        (folder / name).write_text("half")
    (folder / "d.db.trial").mkdir()
    (folder / "d.db.trial" / "data").write_text("half")
    with files.alone(str(folder)):
        held = {path.name for path in folder.iterdir()}
    assert held == {".lock", f"{backup.name}.db", f"{backup.name}.json"}


def test_one_at_a_time(folder):
    with files.alone(str(folder)), pytest.raises(files.Busy), files.alone(str(folder)):
        raise AssertionError("two at once")


def test_pruning_takes_the_sidecar_first_and_keeps_the_newest(folder, monkeypatch):
    old, new = published(folder, 20), published(folder, 21)
    order, really = [], os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: (order.append(path), really(path)))
    assert files.prune(str(folder), "main", KEEP, NOW) == [old.name]
    assert order == [f"{folder}/{old.name}.json", f"{folder}/{old.name}.db"]
    assert files.listing(str(folder), "main") == [new]


def test_a_full_disk_leaves_no_name(folder, monkeypatch):
    old = published(folder, 20)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        published(folder, 21)
    with files.alone(str(folder)):
        pass
    assert files.listing(str(folder), "main") == [old]
