"""How far a member's log goes, read from its files: nothing of etcd need run.

etcd's write-ahead log is a row of frames, each a protobuf ``walpb.Record`` behind a length of eight
bytes: https://github.com/etcd-io/etcd/blob/v3.6.14/server/storage/wal/encoder.go and decoder.go;
api: server/storage/wal/walpb/record.proto and raft's raftpb/raft.proto. Checksums are left to etcd,
which refuses a log whose own are wrong.
"""

import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import etcd_ha_machine

# A file's sequence number, and the index of its first entry.
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.wal")
# wal.go of etcd: what a record holds.
_METADATA, _ENTRY, _STATE, _CHECKSUM, _SNAPSHOT = 1, 2, 3, 4, 5


class LogError(ValueError):
    """What is there is no log of etcd's."""


@dataclass(frozen=True)
class Reach:
    """How far a log goes.

    ``term`` and ``last`` are those of its last entry; ``commit`` is the index up to which this
    member knew, when it last wrote that down, that a majority has the entries.
    """

    term: int = 0
    last: int = 0
    commit: int = 0
    member_id: str = ""
    cluster_id: str = ""


# Bytes at the beginning of a log's file that hold its ids: its checksum and they come first.
_HEAD = 1 << 16
# Bytes that two ids take at most, and how many files of a log are looked into for them.
_IDS, _NEWEST = 64, 3


def identity(folder: str) -> tuple[str, str]:
    """Cluster id and member id (hex text) of a log's directory; raises LogError where it has none.

    Every file of a log begins with them (wal.go of etcd, ``cut``), so one that can be read will do.
    They count where their checksum is right alone: a flipped bit makes another member of them.
    """
    for name in list(reversed(_files(folder)))[:_NEWEST]:
        before = 0
        for kind, checksum, data in _records(f"{folder}/{name}", _HEAD):
            if kind == _CHECKSUM:
                before = checksum
            elif kind == _METADATA and len(data) <= _IDS and checksum == crc32c(data, before):
                fields = _fields(data)
                if fields.get(1) and fields.get(2):
                    return f"{fields[2]:x}", f"{fields[1]:x}"
    raise LogError(f"{folder} has no readable WAL, so its cluster id and member id are unknown")


def reach(folder: str) -> Reach:
    """Read a log's directory (``member/wal``); raises LogError where there is none."""
    names = _files(folder)
    if not names:
        raise LogError(f"{folder} holds no log")
    found = {"term": 0, "last": 0, "commit": 0}
    ids = ("", "")
    # A new file begins with the ids and the state; its entries may be few, so the one before too.
    for name in names[-2:]:
        begun = False
        for kind, _, data in _records(f"{folder}/{name}"):
            if kind == _METADATA:
                begun = True
                fields = _fields(data)
                ids = f"{fields.get(1, 0):x}", f"{fields.get(2, 0):x}"
            elif kind == _ENTRY:
                fields = _fields(data, until=3)
                found["term"], found["last"] = fields.get(2, 0), fields.get(3, 0)
            elif kind == _STATE:
                found["commit"] = _fields(data).get(3, 0)
            elif kind == _SNAPSHOT:
                fields = _fields(data)
                if fields.get(1, 0) > found["last"]:
                    found["last"], found["term"] = fields.get(1, 0), fields.get(2, 0)
                found["commit"] = max(found["commit"], fields.get(1, 0))
        if not begun:
            raise LogError(f"{folder}/{name} does not begin as a log of etcd's does: it is damaged")
    return Reach(**found, member_id=ids[0], cluster_id=ids[1])


def _files(folder: str) -> list[str]:
    """The names of a log's files, the oldest first. Others are passed over, as etcd does it.

    https://github.com/etcd-io/etcd/blob/v3.6.14/server/storage/wal/util.go (checkWalNames)
    """
    try:
        return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name))
    except OSError as err:
        raise LogError(f"{folder} cannot be read: {err}") from err


def crc32c(data: Iterable[int], before: int = 0) -> int:
    """The checksum of a record; each continues that of the one before it (pkg/crc of etcd)."""
    value = before ^ 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _records(path: str, most: int = -1) -> Iterator[tuple[int, int, memoryview]]:
    """Each whole record of a file: its type, its checksum and its data.

    What follows a torn one does not count.

    ``most`` is how many bytes of it are read; all of them where it is negative.
    """
    try:
        content = memoryview(etcd_ha_machine.read_regular(path, most))
    except OSError as err:
        raise LogError(f"{path} cannot be read: {err}") from err
    at = 0
    while at + 8 <= len(content):
        (frame,) = struct.unpack_from("<Q", content, at)
        if frame == 0:
            return
        # The lowest three bits of the highest byte count the padding, where its highest bit is set.
        size = frame & ~(0xFF << 56)
        padding = (frame >> 56) & 0x7 if frame >> 63 else 0
        at += 8
        if at + size + padding > len(content):
            return
        yield _record(content[at : at + size])
        at += size + padding


def _record(data: memoryview) -> tuple[int, int, memoryview]:
    numbers, held, at = {1: 0, 2: 0}, memoryview(b""), 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 2:
            size, at = _varint(data, at)
            held, at = data[at : at + size], at + size
        else:
            numbers[key >> 3], at = _varint(data, at)
    return numbers[1], numbers[2], held


def _fields(data: memoryview, until: int = 1 << 29) -> dict[int, int]:
    """The numbers of a protobuf message, up to this field; texts are passed over."""
    found, at = {}, 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            found[field], at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            at += size
        else:
            return found
        if field >= until:
            break
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        # No number has more than 64 bits; in what is no log, one could be as long as the file.
        if not byte & 0x80 or shift > 63:
            break
    return value, at
