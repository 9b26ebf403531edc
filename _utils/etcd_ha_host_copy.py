"""A copy of a member's data for an examination, and by what the data itself is known again.

etcd writes its database and the last file of its log in place, and locks the latter by inode: hard
links would be no copy.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator

import etcd_ha_common_files
import etcd_ha_common_process
import etcd_ha_data
from etcd_ha_common_errors import Failed

# Where the copy lies: beside the data, so on its file system.
NAME = "examining"
# What must stay free beside the copy, in bytes: etcd allocates its log in two parts of 64 MB
# (server/storage/wal/wal.go, SegmentSizeBytes) and grows its database in steps.
RESERVE = 192 << 20
# Seconds for one file's copy; a file system that stands still is not waited for without an end.
_LONGEST = 3600


class CopyError(Failed):
    """The data could not be copied; the text says why."""


def folder(place: str) -> str:
    """Where the copy of what is in this directory lies."""
    return f"{place}/{NAME}"


def sources(data_dir: str, wal_dir: str) -> list[tuple[str, str]]:
    """Each directory that is copied, and where to; the log's own where it is not with the data."""
    pairs = [(f"{data_dir}/member", f"{folder(data_dir)}/data/member")]
    return [*pairs, (f"{wal_dir}/wal", f"{folder(wal_dir)}/wal")] if wal_dir else pairs


def identity(data_dir: str, wal_dir: str) -> str:
    """A hash by which the same data is known again: names, sizes, times and inodes of its files."""
    found = hashlib.sha256()
    for source, _ in sources(data_dir, wal_dir):
        for path in _files(source):
            one = os.stat(path)
            told = (os.path.relpath(path, source), one.st_size, one.st_mtime_ns, one.st_ino)
            found.update(repr(told).encode())
    return found.hexdigest()


def size(data_dir: str, wal_dir: str) -> int:
    """Bytes that the files take; those of links are those of what they lead to."""
    places = [source for source, _ in sources(data_dir, wal_dir)]
    return sum(os.stat(path).st_size for place in places for path in _files(place))


def room_fault(data_dir: str, wal_dir: str) -> str:
    """Why there is no room for a copy; empty where there is."""
    needed: dict[int, int] = {}
    where: dict[int, str] = {}
    count: dict[int, int] = {}
    for source, _ in sources(data_dir, wal_dir):
        place = os.path.dirname(source)
        device = os.stat(place).st_dev
        where.setdefault(device, place)
        sizes = [os.stat(path).st_size for path in _files(source)]
        needed[device] = needed.get(device, RESERVE) + sum(sizes)
        count[device] = count.get(device, etcd_ha_data.INODES) + len(sizes)
    for device, place in where.items():
        fault = etcd_ha_data.inodes_fault(place, count[device])
        if fault:
            return fault
        free = etcd_ha_data.free(place)
        if free < needed[device]:
            return (
                f"{place} has {free >> 20} MiB free, and {(needed[device] >> 20) + 1} MiB are "
                "needed for a copy and what etcd writes beside it"
            )
    return ""


def make(
    data_dir: str,
    wal_dir: str,
    owner: tuple[str, str],
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> None:
    """Copy the data; ``progress`` is told the bytes that are copied, and how many there are.

    ``owner`` are the user and the group whose the copy is. Blocks are shared where the file system
    can do so. Links are followed: etcd would write through them.
    """
    whole, done = size(data_dir, wal_dir), 0
    progress(0, whole)
    for place in dict.fromkeys(one for one in (data_dir, wal_dir) if one):
        etcd_ha_common_files.make_directory(folder(place), 0o700, fresh=True)
    for source, target in sources(data_dir, wal_dir):
        etcd_ha_common_files.make_directory(target, 0o700, fresh=True)
        for path in _files(source):
            copied = f"{target}/{os.path.relpath(path, source)}"
            etcd_ha_common_files.make_directory(os.path.dirname(copied), 0o700)
            _copy(path, copied)
            done += os.stat(path).st_size
            progress(done, whole)
    for place in dict.fromkeys(one for one in (data_dir, wal_dir) if one):
        etcd_ha_data.give(folder(place), *owner)


def remove(data_dir: str, wal_dir: str) -> None:
    """Remove a copy, also what is left of an interrupted one."""
    for place in (data_dir, wal_dir):
        if place and os.path.lexists(folder(place)):
            shutil.rmtree(folder(place))


def _files(place: str) -> Iterator[str]:
    """The files below a directory, in order; nothing that is neither file nor directory."""
    for parent, folders, names in os.walk(place, onerror=_fail, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = f"{parent}/{name}"
            if not os.path.isfile(path):
                raise CopyError(f"{path} is no file, so this is no data directory as etcd makes it")
            yield path


def _fail(err: OSError) -> None:
    raise err


def _copy(path: str, target: str) -> None:
    command = ["cp", "--dereference", "--reflink=auto", "--sparse=auto", "--", path, target]
    etcd_ha_common_process.run(command, _LONGEST)
