"""What a member's files prove, read without etcd: the log, the database, and both together."""

import pathlib
import struct

import etcd_ha_database
import etcd_ha_log
import etcd_ha_survivor
import pytest
from etcd_files import (
    PAGE,
    checksum,
    database,
    entry,
    key_value,
    log,
    meta,
    metadata,
    record,
    revision,
    snapshot,
    state,
)
from etcd_ha_host_examine import Verdict


def number(value):
    return struct.pack(">Q", value)


KEYS = [
    (revision(2), key_value(b"/a")),
    (revision(3), key_value(b"/b")),
    (revision(4), key_value(b"/a")),
    (revision(5, deleted=True), key_value(b"/b")),
    (revision(6), key_value(b"/c", b"y" * 300)),
]
TOLD = {b"consistent_index": number(41), b"term": number(3), b"storageVersion": b"3.6.0"}


@pytest.mark.parametrize("before", [0, 0x1234ABCD])
def test_the_ids_of_a_log_count_with_their_checksum_alone(tmp_path, before):
    """A bit that is another one in them makes no other member: it makes a damaged log."""
    good = checksum(before) + metadata(0xABC, 0xDEF, before)
    path = tmp_path / "0000000000000000-0000000000000000.wal"
    path.write_bytes(good + bytes(64))
    assert etcd_ha_log.identity(str(tmp_path)) == ("def", "abc")
    told = set()
    for bit in range(len(good) * 8):
        spoiled = bytearray(good)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(spoiled) + bytes(64))
        try:
            told.add(etcd_ha_log.identity(str(tmp_path)))
        except etcd_ha_log.LogError:
            told.add("damaged")
    assert told <= {("def", "abc"), "damaged"}


def test_another_file_of_the_log_tells_the_ids_too(tmp_path):
    folder = log(tmp_path / "wal", [metadata(1, 2)], [record(1, b"broken")])
    assert etcd_ha_log.identity(folder) == ("2", "1")


def test_the_end_of_a_log_and_what_is_committed(tmp_path):
    folder = log(
        tmp_path / "wal",
        [metadata(0xABC, 0xDEF), entry(1, 1), state(1, 1), entry(2, 2), state(2, 1)],
    )
    found = etcd_ha_log.reach(folder)
    assert (found.term, found.last, found.commit) == (2, 2, 1)
    assert (found.member_id, found.cluster_id) == ("abc", "def")


def test_a_later_leader_overwrites_the_end_of_a_log(tmp_path):
    folder = log(
        tmp_path / "wal", [metadata(1, 2), entry(2, 7), entry(2, 8), entry(3, 7), state(3, 7)]
    )
    assert etcd_ha_log.reach(folder).last == 7


def test_a_new_log_file_may_be_without_entries(tmp_path):
    folder = log(tmp_path / "wal", [metadata(1, 2), entry(2, 7)], [metadata(1, 2), state(2, 6)])
    found = etcd_ha_log.reach(folder)
    assert (found.last, found.commit) == (7, 6)


def test_a_log_after_a_snapshot_begins_there(tmp_path):
    """As a restore makes it: https://etcd.io/docs/v3.6/op-guide/recovery/"""
    found = etcd_ha_log.reach(log(tmp_path / "wal", [metadata(1, 2), snapshot(9, 4)]))
    assert (found.term, found.last, found.commit) == (4, 9, 9)


def test_what_is_behind_a_torn_record_does_not_count(tmp_path):
    folder = log(tmp_path / "wal", [metadata(1, 2), entry(2, 7), entry(2, 8)])
    (path,) = (tmp_path / "wal").iterdir()
    whole = len(metadata(1, 2) + entry(2, 7))
    path.write_bytes(path.read_bytes()[: whole + 20])
    assert etcd_ha_log.reach(folder).last == 7


def test_a_log_whose_beginning_is_overwritten_is_damaged(tmp_path):
    """It could pass for the log of another cluster, or for a short one."""
    folder = log(tmp_path / "wal", [metadata(1, 2), entry(2, 7)])
    (path,) = (tmp_path / "wal").iterdir()
    path.write_bytes(b"\xa5" * 40 + path.read_bytes()[40:])
    with pytest.raises(etcd_ha_log.LogError, match="damaged"):
        etcd_ha_log.reach(folder)


@pytest.mark.parametrize("name", ["0.wal", "zz.wal", "9999.wal", "1.wal.broken"])
def test_a_file_of_another_name_is_passed_over_as_etcd_does_it(tmp_path, name):
    folder = log(tmp_path / "wal", [metadata(1, 2), entry(2, 7)])
    (tmp_path / "wal" / name).write_bytes(b"")
    assert etcd_ha_log.reach(folder).last == 7
    (tmp_path / "wal" / name).write_bytes(log_of_another(tmp_path))
    assert etcd_ha_log.reach(folder).last == 7
    assert etcd_ha_log.identity(log(tmp_path / "good", [metadata(1, 2)])) == ("2", "1")


def log_of_another(tmp_path):
    (path,) = pathlib.Path(log(tmp_path / "other", [metadata(8, 9), entry(3, 99)])).iterdir()
    return path.read_bytes()


def test_no_log_is_told(tmp_path):
    (tmp_path / "wal").mkdir()
    for folder in ("wal", "gone"):
        with pytest.raises(etcd_ha_log.LogError):
            etcd_ha_log.reach(str(tmp_path / folder))


def test_what_a_database_says_of_itself(tmp_path):
    found = etcd_ha_database.content(database(tmp_path / "db", KEYS, TOLD))
    assert (found.revision, found.index, found.term) == (6, 41, 3)
    assert found.version == "3.6.0" and not found.auth


def test_deleted_keys_and_older_revisions_are_not_counted(tmp_path):
    assert etcd_ha_database.count_keys(database(tmp_path / "db", KEYS, TOLD)) == 2


def test_what_a_raised_revision_leaves_is_no_key(tmp_path):
    path = database(tmp_path / "db", [*KEYS, (revision(1000000006), b"")], TOLD)
    assert etcd_ha_database.count_keys(path) == 2
    assert etcd_ha_database.content(path).revision == 1000000006


def test_the_newer_meta_page_counts_if_it_is_whole(tmp_path):
    path = tmp_path / "db"
    database(path, KEYS, TOLD)
    held = bytearray(path.read_bytes())
    held[PAGE : 2 * PAGE] = meta(1, 99, 7)
    held[PAGE + 20] ^= 1
    path.write_bytes(held)
    assert etcd_ha_database.content(str(path)).revision == 6


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 3 * PAGE])
def test_what_is_no_database_is_told(tmp_path, content):
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(etcd_ha_database.DatabaseError, match="no database of etcd's"):
        etcd_ha_database.content(str(path))


@pytest.mark.parametrize(("commit", "kept"), [(30, 41), (50, 50)])
def test_a_survivor_keeps_what_log_or_database_knows(tmp_path, commit, kept):
    """After a crash the database may be ahead of the log's own word."""
    place = tmp_path / "member"
    log(place / "wal", [metadata(1, 2), entry(3, 60), state(3, commit)])
    (place / "snap").mkdir()
    database(place / "snap" / "db", KEYS, TOLD)
    found = etcd_ha_survivor.Evidence.of(etcd_ha_survivor.evidence(str(tmp_path)))
    assert (found.kept, found.commit, found.last, found.revision) == (kept, commit, 60, 6)
    assert found.cluster_id == "2" and found.size > 0


def test_etcd_s_verdict_counts_and_not_our_readers(tmp_path):
    place = tmp_path / "member"
    log(place / "wal", [metadata(1, 2, 0), entry(3, 60), state(3, 41)])
    (place / "snap").mkdir()
    database(place / "snap" / "db", KEYS, TOLD)

    def found(**verdict):
        given = Verdict(**verdict) if verdict else None
        return etcd_ha_survivor.Evidence.of(etcd_ha_survivor.evidence(str(tmp_path), found=given))

    damaged = found(verdict="damaged", words="panic: page 3")
    assert (damaged.fault, damaged.judged) == ("panic: page 3", "damaged")
    assert found(verdict="readable", index=58).kept == 58
    (place / "snap" / "db").write_bytes(b"nothing that we can read")
    assert found().fault and not found().judged
    read = found(verdict="readable", index=58, revision=9)
    assert (read.fault, read.kept, read.last, read.revision) == ("", 58, 58, 9)
    assert read.judged == "readable"


def test_no_data_and_broken_data_are_told_apart(tmp_path):
    assert etcd_ha_survivor.evidence(str(tmp_path)) == {"has_data": False}
    log(tmp_path / "member" / "wal", [metadata(1, 2), entry(1, 1)])
    found = etcd_ha_survivor.evidence(str(tmp_path))
    assert found["has_data"] and "no database" in found["fault"]
